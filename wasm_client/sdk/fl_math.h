/*
 * exp and log in float32. Libraries differ in the last bit, and WASI has none: these give the same
 * bits wherever float32 arithmetic is IEEE 754's and nothing is fused.
 */
#ifndef FL_MATH_H
#define FL_MATH_H

#include <stdint.h>

/* x without its fraction; any number when that is no int32_t. */
int32_t fl_truncate(float x);

/* e^x, within 1 unit in the last place; 0 below -104, infinite above 88.8. NaN gives NaN. */
float fl_exp(float x);

/* The natural logarithm, within 1 unit in the last place; -inf at 0, NaN below. */
float fl_log(float x);

#endif
