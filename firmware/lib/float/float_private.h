/*
 * What reading and writing share: the two formats, and integers of a fixed size that is enough for
 * every float and every text.
 */
#ifndef FLOAT_PRIVATE_H
#define FLOAT_PRIVATE_H

#include "fl_float.h"

/*
 * Written are 2^1024 and 10^324 with a few bits more, read are 10^310, 5^450 and 10^127 at most:
 * below 2^1088 all.
 */
#define BIG_WORDS 36

struct big {
    uint32_t words[BIG_WORDS]; /* the lowest first */
};

/* A format by its numbers: bits of the significand with the hidden one, smallest exponent. */
struct format {
    int32_t precision;
    int32_t exponent_min;
    uint32_t exponent_mask; /* of the exponent's bits; as a value, it means what is not finite */
};

struct format float_format(enum fl_float_format format);

void big_set(struct big *big, uint64_t value);

/* big = big * factor + more */
void big_multiply(struct big *big, uint32_t factor, uint32_t more);

void big_shift_left(struct big *big, uint32_t bits);
void big_add(struct big *big, const struct big *other);

/* `other` must not be larger. */
void big_subtract(struct big *big, const struct big *other);

/* Less than, equal to or greater than zero, as `a` is to `b`. */
int big_compare(const struct big *a, const struct big *b);

/* The number of its bits; 0 for zero. */
uint32_t big_bits(const struct big *big);

#endif
