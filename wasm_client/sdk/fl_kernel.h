/*
 * The two loops all the time goes into. Four numbers a turn, because an interpreter pays for each
 * turn; and at fixed distances from a moving pointer, which Wasm loads and stores have room for.
 */
#ifndef FL_KERNEL_H
#define FL_KERNEL_H

#include <stdint.h>

/* y += a * x */
static inline void fl_add_scaled(float *restrict y, float a, const float *restrict x,
                                 uint32_t count)
{
    for (; count >= 4; count -= 4) {
        y[0] += a * x[0];
        y[1] += a * x[1];
        y[2] += a * x[2];
        y[3] += a * x[3];
        y += 4;
        x += 4;
    }
    if ((count & 2) != 0) {
        y[0] += a * x[0];
        y[1] += a * x[1];
        y += 2;
        x += 2;
    }
    if ((count & 1) != 0) {
        y[0] += a * x[0];
    }
}

/* start + x . y, added from the first element to the last. */
static inline float fl_dot(float start, const float *x, const float *y, uint32_t count)
{
    for (; count >= 4; count -= 4) {
        start += x[0] * y[0];
        start += x[1] * y[1];
        start += x[2] * y[2];
        start += x[3] * y[3];
        x += 4;
        y += 4;
    }
    if ((count & 2) != 0) {
        start += x[0] * y[0];
        start += x[1] * y[1];
        x += 2;
        y += 2;
    }
    if ((count & 1) != 0) {
        start += x[0] * y[0];
    }
    return start;
}

#endif
