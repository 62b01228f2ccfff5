#include "float_private.h"

#define DIGITS_MAX 17 /* enough for every double */

/*
 * A float between its neighbours, as fractions of one denominator: it reads back from whatever is
 * less than `below` under and `above` over it, and from these bounds too when it is even.
 */
struct gap {
    struct big value;
    struct big below;
    struct big above;
    struct big one; /* the denominator */
    bool even;
};

struct digits {
    char text[DIGITS_MAX];
    int32_t count;
    int32_t point; /* digits before the decimal point; may be negative */
};

/* significand * 2^exponent; `narrow`: the float below is only half as far as the one above. */
static void open_gap(struct gap *gap, uint64_t significand, int32_t exponent, bool narrow)
{
    uint32_t up = exponent > 0 ? (uint32_t)exponent : 0;
    uint32_t down = exponent < 0 ? (uint32_t)-exponent : 0;
    uint32_t more = narrow ? 1 : 0;

    big_set(&gap->value, significand);
    big_shift_left(&gap->value, up + 1 + more);
    big_set(&gap->below, 1);
    big_shift_left(&gap->below, up);
    big_set(&gap->above, 1);
    big_shift_left(&gap->above, up + more);
    big_set(&gap->one, 1);
    big_shift_left(&gap->one, down + 1 + more);
    gap->even = (significand & 1) == 0;
}

/* Whether the bound above the value, times `factor`, is `one` or more. */
static bool reaches_one(const struct gap *gap, uint32_t factor)
{
    struct big bound = gap->value;

    big_add(&bound, &gap->above);
    big_multiply(&bound, factor, 0);
    return big_compare(&bound, &gap->one) >= (gap->even ? 0 : 1);
}

static void multiply(struct gap *gap, uint32_t factor)
{
    big_multiply(&gap->value, factor, 0);
    big_multiply(&gap->below, factor, 0);
    big_multiply(&gap->above, factor, 0);
}

/* Powers of ten, nine at a time, that a factor of 2^bits is sure to hold; log10(2) is over 77/256.
 */
static int32_t steps_of_9(uint32_t bits)
{
    return (int32_t)(bits * 77u / 256u / 9u);
}

/* Most of the way to the first digit; the rest of it is found step by step. Returns the point. */
static int32_t approach(struct gap *gap)
{
    uint32_t bits = big_bits(&gap->value);
    uint32_t bits_one = big_bits(&gap->one);
    int32_t up = bits > bits_one + 1 ? steps_of_9(bits - bits_one - 1) : 0;
    int32_t down = bits_one > bits + 2 ? steps_of_9(bits_one - bits - 2) : 0;

    for (int32_t i = 0; i < up; i++) {
        big_multiply(&gap->one, 1000000000, 0);
    }
    for (int32_t i = 0; i < down; i++) {
        multiply(gap, 1000000000);
    }
    return 9 * (up - down);
}

/*
 * Free-format printing: Steele and White, "How to Print Floating-Point Numbers Accurately" (1990),
 * with the bounds of Burger and Dybvig. The first digits that lie in the gap are the shortest.
 */
static void find_digits(struct gap *gap, struct digits *digits)
{
    digits->count = 0;
    digits->point = approach(gap);
    for (; reaches_one(gap, 1); digits->point++) {
        big_multiply(&gap->one, 10, 0);
    }
    for (; !reaches_one(gap, 10); digits->point--) {
        multiply(gap, 10);
    }
    while (digits->count < DIGITS_MAX) {
        char digit = '0';
        bool low;
        bool high;

        multiply(gap, 10);
        while (big_compare(&gap->value, &gap->one) >= 0) {
            big_subtract(&gap->value, &gap->one);
            digit++;
        }
        low = big_compare(&gap->value, &gap->below) < (gap->even ? 1 : 0);
        high = reaches_one(gap, 1);
        if (low && high) { /* both are near enough: the nearer; of two as near, the even one */
            int order;

            big_multiply(&gap->value, 2, 0);
            order = big_compare(&gap->value, &gap->one);
            high = order > 0 || (order == 0 && (digit & 1) != 0);
        }
        digits->text[digits->count++] = (char)(high ? digit + 1 : digit);
        if (low || high) {
            return;
        }
    }
}

static void put_zeros(struct fl_text *text, int32_t count)
{
    for (; count > 0; count--) {
        fl_text_put(text, "0");
    }
}

static void put_digits(struct fl_text *text, const struct digits *digits)
{
    int32_t before = digits->point < 0 ? 0 : digits->point;

    before = before < digits->count ? before : digits->count;
    if (before == 0) {
        fl_text_put(text, "0");
    }
    fl_text_put_n(text, digits->text, (size_t)before);
    put_zeros(text, digits->point - digits->count);
    if (before < digits->count) {
        fl_text_put(text, ".");
        put_zeros(text, -digits->point);
        fl_text_put_n(text, digits->text + before, (size_t)(digits->count - before));
    }
}

void fl_float_put(struct fl_text *text, enum fl_float_format format, uint64_t bits)
{
    const struct format numbers = float_format(format);
    uint64_t hidden = (uint64_t)1 << (numbers.precision - 1);
    uint64_t fraction = bits & (hidden - 1);
    uint32_t biased = (uint32_t)(bits >> (numbers.precision - 1)) & numbers.exponent_mask;
    struct gap gap;
    struct digits digits;

    if (biased == numbers.exponent_mask && fraction != 0) {
        fl_text_put(text, "nan");
        return;
    }
    if (bits >> (format == FL_FLOAT_F32 ? 31 : 63) != 0) {
        fl_text_put(text, "-");
    }
    if (biased == numbers.exponent_mask) {
        fl_text_put(text, "inf");
    } else if (biased == 0 && fraction == 0) {
        fl_text_put(text, "0");
    } else {
        int32_t exponent = numbers.exponent_min - (numbers.precision - 1);

        exponent += biased == 0 ? 0 : (int32_t)biased - 1;
        open_gap(&gap, fraction | (biased == 0 ? 0 : hidden), exponent,
                 fraction == 0 && biased > 1);
        find_digits(&gap, &digits);
        put_digits(text, &digits);
    }
}
