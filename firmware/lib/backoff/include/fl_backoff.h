/*
 * Waiting longer after each failure, at random, so that a fleet does not come back in step.
 */
#ifndef FL_BACKOFF_H
#define FL_BACKOFF_H

#include <stdint.h>

struct fl_backoff {
    uint32_t min_ms;     /* the first delay's upper end, at least 1 */
    uint32_t max_ms;     /* no delay is longer; at least min_ms */
    uint32_t ceiling_ms; /* upper end of the next delay */
};

void fl_backoff_begin(struct fl_backoff *backoff, uint32_t min_ms, uint32_t max_ms);

/* Starts over: the next delay is a first one. */
void fl_backoff_reset(struct fl_backoff *backoff);

/*
 * The next delay in milliseconds: even over the upper half of 0..ceiling, where the ceiling doubles
 * from min_ms to max_ms. `random` is 32 random bits of the caller's.
 */
uint32_t fl_backoff_next(struct fl_backoff *backoff, uint32_t random);

#endif
