/*
 * A seeded generator (xoshiro128**, Blackman and Vigna) and permutations that need no memory.
 * Nothing here comes from the host.
 */
#ifndef FL_RANDOM_H
#define FL_RANDOM_H

#include <stdint.h>

struct fl_random {
    uint32_t state[4];
};

/* Any seed is good, 0 included. */
void fl_random_seed(struct fl_random *random, uint32_t seed);

/* 32 random bits. */
uint32_t fl_random_u32(struct fl_random *random);

/* A multiple of 2^-24 in [0, 1). */
float fl_random_unit(struct fl_random *random);

/* A random order of 0 … count - 1. */
struct fl_permutation {
    uint32_t count;
    uint32_t mask; /* one less than the power of two that holds count */
    uint32_t shift;
    uint32_t multiply[3];
    uint32_t add[3];
};

/* `count` is 1 to 2^31. Draws six numbers from `random`. */
void fl_permutation_draw(struct fl_permutation *permutation, uint32_t count,
                         struct fl_random *random);

/* The number at `position` (less than count). Each number is at exactly one position. */
uint32_t fl_permutation_at(const struct fl_permutation *permutation, uint32_t position);

#endif
