#include "coverage.h"

#include <stddef.h>
#include <string.h>

#define EDGES 65536u

static uint8_t counts[EDGES]; /* in this run, by edge */
static uint8_t known[EDGES];  /* one bit for each order of magnitude seen so far */
static uintptr_t previous;

/* The compiler puts a call of it into every basic block of what is instrumented. */
void __sanitizer_cov_trace_pc(void);

void __sanitizer_cov_trace_pc(void)
{
    /* The program may lie anywhere: addresses count from one of its own. */
    uintptr_t place = (uintptr_t)__builtin_return_address(0) - (uintptr_t)coverage_begin;
    uint8_t *count;

    place = (place * 0x9E3779B1u) >> 8;
    count = &counts[(place ^ previous) % EDGES];
    previous = place >> 1;
    if (*count < UINT8_MAX) {
        (*count)++;
    }
}

void coverage_begin(void)
{
    memset(counts, 0, sizeof(counts));
    previous = 0;
}

/* 1, 2, 3, 4-7, 8-15, 16-31, 32-127, 128 and more: a bit each. */
static uint8_t magnitude(uint8_t count)
{
    static const uint8_t ends[] = {1, 2, 3, 7, 15, 31, 127};
    unsigned int bit = 0;

    while (bit < sizeof(ends) && count > ends[bit]) {
        bit++;
    }
    return (uint8_t)(1u << bit);
}

uint32_t coverage_end(void)
{
    uint32_t found = 0;

    for (size_t i = 0; i < EDGES; i++) {
        if (counts[i] != 0 && (known[i] & magnitude(counts[i])) == 0) {
            known[i] |= magnitude(counts[i]);
            found++;
        }
    }
    return found;
}
