#include "fl_random.h"

static uint32_t rotate(uint32_t x, int by)
{
    return x << by | x >> (32 - by);
}

void fl_random_seed(struct fl_random *random, uint32_t seed)
{
    for (int i = 0; i < 4; i++) {
        /* MurmurHash3's finalizer permutes 32-bit numbers: at most one of these four is zero. */
        seed += 0x9e3779b9;
        uint32_t z = seed;
        z = (z ^ z >> 16) * 0x85ebca6b;
        z = (z ^ z >> 13) * 0xc2b2ae35;
        random->state[i] = z ^ z >> 16;
    }
}

uint32_t fl_random_u32(struct fl_random *random)
{
    uint32_t *s = random->state;
    uint32_t result = rotate(s[1] * 5, 7) * 9;
    uint32_t t = s[1] << 9;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 11);
    return result;
}

float fl_random_unit(struct fl_random *random)
{
    return (float)(fl_random_u32(random) >> 8) * 0x1p-24f;
}

void fl_permutation_draw(struct fl_permutation *permutation, uint32_t count,
                         struct fl_random *random)
{
    uint32_t bits = count > 1 ? 32 - (uint32_t)__builtin_clz(count - 1) : 0;

    permutation->count = count;
    permutation->mask = ((uint32_t)1 << bits) - 1;
    permutation->shift = (bits + 1) / 2;
    for (int i = 0; i < 3; i++) {
        permutation->multiply[i] = fl_random_u32(random) | 1;
        permutation->add[i] = fl_random_u32(random);
    }
}

uint32_t fl_permutation_at(const struct fl_permutation *permutation, uint32_t position)
{
    uint32_t x = position;

    /*
     * Each step can be undone within `bits` bits (an odd factor, a sum, a shift to the right), so
     * together they permute 0 … mask. Following the cycle until it is back below count leaves a
     * permutation of those; count is more than half of mask + 1, so that takes two turns at most
     * on average.
     */
    do {
        for (int i = 0; i < 3; i++) {
            x = (x * permutation->multiply[i] + permutation->add[i]) & permutation->mask;
            x ^= x >> permutation->shift;
        }
    } while (x >= permutation->count);
    return x;
}
