/*
 * Numbers as text. Both directions are exact: fl_format_f32() gives the shortest text that reads
 * back as the same float, fl_decimal_to_f32() the float nearest to a text. Integers only inside, so
 * that every runtime agrees.
 */
#ifndef FL_NUMBER_H
#define FL_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

/* Room for the longest result of a format function; none of them writes a NUL. */
#define FL_NUMBER_TEXT_MAX 16

/* Writes decimal digits to `text`; returns how many. */
uint32_t fl_format_u32(uint32_t value, char *text);

/*
 * Writes `value` as a JSON number with a fraction or an exponent, such as 0.12, -3.0 or 1e-7;
 * returns its length. Infinities and NaN, which JSON has no word for, become inf, -inf and nan.
 */
uint32_t fl_format_f32(float value, char *text);

/* The number (-1)^negative * digits * 10^exponent, and a little more than that when `more`. */
struct fl_decimal {
    uint64_t digits; /* the first 19 significant ones */
    int64_t exponent;
    bool negative;
    bool more; /* non-zero digits came after those; they only break ties */
};

/* The nearest float, ties to even; an infinity when it is out of range. */
float fl_decimal_to_f32(const struct fl_decimal *decimal);

static inline uint32_t fl_bits_of(float value)
{
    union {
        float value;
        uint32_t bits;
    } view = {value};

    return view.bits;
}

/* Whether a float is neither an infinity nor NaN. */
static inline bool fl_is_finite(float value)
{
    return value - value == 0.0f; /* else it is NaN */
}

/* Whether a float16 is near: not for NaN, and not from 65520 on, which would round to infinity. */
static inline bool fl_fits_half(float value)
{
    return __builtin_fabsf(value) < 65520.0f;
}

/* The bits of the nearest float16, ties to even, of a float that fits. */
uint32_t fl_half_of(float value);

#endif
