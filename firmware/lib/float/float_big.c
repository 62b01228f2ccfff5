#include "float_private.h"

#include <string.h>

struct format float_format(enum fl_float_format format)
{
    return format == FL_FLOAT_F32 ? (struct format){24, -126, 0xFF}
                                  : (struct format){53, -1022, 0x7FF};
}

void big_set(struct big *big, uint64_t value)
{
    memset(big, 0, sizeof(*big));
    big->words[0] = (uint32_t)value;
    big->words[1] = (uint32_t)(value >> 32);
}

void big_multiply(struct big *big, uint32_t factor, uint32_t more)
{
    uint64_t carry = more;

    for (size_t i = 0; i < BIG_WORDS; i++) {
        carry += (uint64_t)big->words[i] * factor;
        big->words[i] = (uint32_t)carry;
        carry >>= 32;
    }
}

void big_shift_left(struct big *big, uint32_t bits)
{
    size_t words = bits / 32u;

    memmove(big->words + words, big->words, sizeof(big->words) - words * sizeof(big->words[0]));
    memset(big->words, 0, words * sizeof(big->words[0]));
    big_multiply(big, (uint32_t)1 << bits % 32u, 0);
}

void big_add(struct big *big, const struct big *other)
{
    uint64_t carry = 0;

    for (size_t i = 0; i < BIG_WORDS; i++) {
        carry += (uint64_t)big->words[i] + other->words[i];
        big->words[i] = (uint32_t)carry;
        carry >>= 32;
    }
}

void big_subtract(struct big *big, const struct big *other)
{
    uint32_t borrow = 0;

    for (size_t i = 0; i < BIG_WORDS; i++) {
        uint64_t difference = (uint64_t)big->words[i] - other->words[i] - borrow;

        big->words[i] = (uint32_t)difference;
        borrow = (uint32_t)(difference >> 32) & 1u;
    }
}

int big_compare(const struct big *a, const struct big *b)
{
    for (size_t i = BIG_WORDS; i-- > 0;) {
        if (a->words[i] != b->words[i]) {
            return a->words[i] < b->words[i] ? -1 : 1;
        }
    }
    return 0;
}

uint32_t big_bits(const struct big *big)
{
    for (size_t i = BIG_WORDS; i-- > 0;) {
        uint32_t bits = 0;

        for (uint32_t word = big->words[i]; word != 0; word >>= 1) {
            bits++;
        }
        if (bits > 0) {
            return (uint32_t)i * 32u + bits;
        }
    }
    return 0;
}
