#include "float_private.h"

#include <string.h>

#define EXPONENT_CLAMP 10000 /* far beyond every float, whatever digits stand before it */
/* 10 to these powers: what is below is less than half the smallest double, from it on infinite. */
#define POWER_MIN (-325)
#define POWER_MAX 310

/* digits * 10^exponent, digits not zero */
struct decimal {
    struct big digits;
    int32_t digit_count; /* without zeros before them */
    int32_t exponent;
};

static bool is_digit(char character)
{
    return character >= '0' && character <= '9';
}

/* `word` is in lower case. */
static bool is_word(const char *text, size_t size, const char *word)
{
    if (size != strlen(word)) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if ((text[i] | 0x20) != word[i]) {
            return false;
        }
    }
    return true;
}

/* An exponent at the end: "e", perhaps a sign, digits. */
static bool read_exponent(const char *text, size_t size, int32_t *exponent)
{
    size_t at = 1;
    bool negative;
    int32_t value = 0;

    negative = at < size && text[at] == '-';
    at += at < size && (text[at] == '-' || text[at] == '+') ? 1 : 0;
    if ((text[0] | 0x20) != 'e' || at == size) {
        return false;
    }
    for (; at < size; at++) {
        if (!is_digit(text[at])) {
            return false;
        }
        value = value < EXPONENT_CLAMP ? value * 10 + (text[at] - '0') : value;
    }
    *exponent += negative ? -value : value;
    return true;
}

static bool read_decimal(const char *text, size_t size, struct decimal *decimal)
{
    bool has_digits = false;
    bool has_point = false;

    memset(decimal, 0, sizeof(*decimal));
    for (size_t at = 0; at < size; at++) {
        if (is_digit(text[at])) {
            big_multiply(&decimal->digits, 10, (uint32_t)(text[at] - '0'));
            decimal->digit_count += decimal->digit_count > 0 || text[at] != '0' ? 1 : 0;
            decimal->exponent -= has_point ? 1 : 0;
            has_digits = true;
        } else if (text[at] == '.' && !has_point) {
            has_point = true;
        } else {
            return has_digits && read_exponent(text + at, size - at, &decimal->exponent);
        }
    }
    return has_digits;
}

static void multiply_by_power_of_5(struct big *big, int32_t power)
{
    for (; power >= 13; power -= 13) {
        big_multiply(big, 1220703125, 0); /* 5^13 */
    }
    for (; power > 0; power--) {
        big_multiply(big, 5, 0);
    }
}

/* Shifts the smaller of the two until they have as many bits; returns how far `a` went to the left.
 */
static int32_t align(struct big *a, struct big *b)
{
    uint32_t bits_a = big_bits(a);
    uint32_t bits_b = big_bits(b);

    big_shift_left(bits_a < bits_b ? a : b, bits_a < bits_b ? bits_b - bits_a : bits_a - bits_b);
    return (int32_t)bits_b - (int32_t)bits_a;
}

/* The magnitude's bits: a division by hand, of which as many bits are kept as the format has. */
static uint64_t nearest(struct decimal *decimal, const struct format *format)
{
    struct big *rest = &decimal->digits;
    struct big divisor;
    int32_t exponent = decimal->exponent;
    int32_t precision = format->precision;
    uint64_t significand = 0;
    int order;

    big_set(&divisor, 1);
    multiply_by_power_of_5(rest, exponent);
    multiply_by_power_of_5(&divisor, -exponent);
    exponent -= align(rest, &divisor);
    if (big_compare(rest, &divisor) < 0) {
        big_shift_left(rest, 1);
        exponent--;
    }
    /* The value is rest / divisor * 2^exponent, and the quotient is from 1 to below 2. */
    if (exponent < format->exponent_min) {
        precision -= format->exponent_min - exponent; /* a subnormal has fewer bits */
    }
    if (precision < 0) {
        return 0;
    }
    for (int32_t i = 0; i < precision; i++) {
        significand *= 2;
        if (big_compare(rest, &divisor) >= 0) {
            big_subtract(rest, &divisor);
            significand++;
        }
        big_shift_left(rest, 1);
    }
    order = big_compare(rest, &divisor); /* of what is left to a half */
    significand += order > 0 || (order == 0 && (significand & 1) != 0) ? 1 : 0;
    if (exponent < format->exponent_min) {
        return significand;
    }
    /* The hidden bit adds one to the exponent, and a carry another: that is right. */
    return ((uint64_t)(uint32_t)(exponent - format->exponent_min) << (format->precision - 1)) +
           significand;
}

bool fl_float_read(const char *text, size_t size, enum fl_float_format format, uint64_t *bits)
{
    const struct format numbers = float_format(format);
    uint64_t infinity = (uint64_t)numbers.exponent_mask << (numbers.precision - 1);
    uint64_t magnitude;
    bool negative = size > 0 && text[0] == '-';
    size_t sign_size = size > 0 && (text[0] == '-' || text[0] == '+') ? 1 : 0;
    struct decimal decimal;

    if (size > FL_FLOAT_READ_MAX) {
        return false;
    }
    text += sign_size;
    size -= sign_size;
    if (is_word(text, size, "inf") || is_word(text, size, "infinity")) {
        magnitude = infinity;
    } else if (is_word(text, size, "nan")) {
        magnitude = infinity | (uint64_t)1 << (numbers.precision - 2);
    } else if (!read_decimal(text, size, &decimal)) {
        return false;
    } else if (decimal.digit_count == 0 || decimal.digit_count + decimal.exponent < POWER_MIN) {
        magnitude = 0;
    } else if (decimal.digit_count + decimal.exponent > POWER_MAX) {
        magnitude = infinity;
    } else {
        magnitude = nearest(&decimal, &numbers);
        magnitude = magnitude < infinity ? magnitude : infinity;
    }
    *bits = magnitude;
    if (negative) {
        *bits |= (uint64_t)1 << (format == FL_FLOAT_F32 ? 31 : 63);
    }
    return true;
}
