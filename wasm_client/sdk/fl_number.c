#include "fl_number.h"

enum { POW10_MIN = -65, POW10_MAX = 45 }; /* what both directions need */

/* Every eighth power of ten from 10^-72 on: its top 64 bits, rounded down. */
static const uint64_t POW10[] = {
    0xe2280b6c20dd5232, 0xa87fea27a539e9a5, 0xfb158592be068d2e, 0xbb127c53b17ec159,
    0x8b61313bbabce2c6, 0xcfb11ead453994ba, 0x9abe14cd44753b52, 0xe69594bec44de15b,
    0xabcc77118461cefc, 0x8000000000000000, 0xbebc200000000000, 0x8e1bc9bf04000000,
    0xd3c21bcecceda100, 0x9dc5ada82b70b59d, 0xeb194f8e1ae525fd,
};

/* The high 64 bits of a 128-bit product; `low` gets the rest. */
static uint64_t multiply(uint64_t a, uint64_t b, uint64_t *low)
{
    uint64_t a0 = (uint32_t)a, a1 = a >> 32;
    uint64_t b0 = (uint32_t)b, b1 = b >> 32;
    uint64_t low_low = a0 * b0;
    uint64_t middle = a1 * b0 + (low_low >> 32); /* cannot overflow: (2^32-1)^2 + 2^32-1 < 2^64 */
    uint64_t middle_low = a0 * b1 + (uint32_t)middle;

    *low = middle_low << 32 | (uint32_t)low_low;
    return a1 * b1 + (middle >> 32) + (middle_low >> 32);
}

/* floor(log2(10^e)) */
static int32_t log2_pow10(int32_t e)
{
    return (e * 1741647) >> 19;
}

/*
 * The top 64 bits of 10^e, 10^e * 2^(63 - floor(log2(10^e))), rounded down; or, for want of a
 * larger table, up to 2 less.
 */
static uint64_t pow10(int32_t e)
{
    uint32_t index = (uint32_t)(e + 72);
    uint64_t factor = 1;
    uint64_t low;

    for (uint32_t i = index & 7; i > 0; i--) {
        factor *= 10;
    }
    if (factor == 1) {
        return POW10[index >> 3];
    }
    uint64_t high = multiply(POW10[index >> 3], factor, &low);
    int32_t shift = __builtin_clzll(high);
    return high << shift | low >> (64 - shift);
}

static float float_of(uint32_t bits)
{
    union {
        uint32_t bits;
        float value;
    } view = {bits};

    return view.value;
}

uint32_t fl_half_of(float value)
{
    uint32_t bits = fl_bits_of(value) & 0x7fffffff;
    uint32_t sign = fl_bits_of(value) >> 16 & 0x8000;

    if (bits < 0x38800000) { /* subnormal: the last bit of a sum with 0.5 is worth 2^-24 */
        return sign | (fl_bits_of(float_of(bits) + 0.5f) - fl_bits_of(0.5f));
    }
    /* A carry out of the fraction lands in the exponent, which is right. */
    return sign | (bits - 0x38000000 + 0xfff + (bits >> 13 & 1)) >> 13;
}

uint32_t fl_format_u32(uint32_t value, char *text)
{
    char reversed[10];
    uint32_t size = 0;

    do {
        reversed[size++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    for (uint32_t i = 0; i < size; i++) {
        text[i] = reversed[size - 1 - i];
    }
    return size;
}

/* ---- float to text: Schubfach (Giulietti, "The Schubfach way to render doubles") ---- */

/* floor(power * factor / 2^64), with the lowest bit set if anything was dropped. */
static uint32_t round_to_odd(uint64_t power, uint32_t factor)
{
    uint64_t low;
    uint64_t high = multiply(power, (uint64_t)factor << 32, &low);

    return (uint32_t)(high >> 32) | ((uint32_t)high > 1);
}

/*
 * The shortest decimal in the rounding interval of `bits` (positive, finite, not zero), and of
 * those the nearest: digits * 10^exponent.
 */
static uint32_t shortest(uint32_t bits, int32_t *exponent)
{
    uint32_t fraction = bits & 0x7fffff;
    uint32_t biased = bits >> 23;
    uint32_t c = biased != 0 ? fraction | 0x800000 : fraction;
    int32_t q = (int32_t)(biased != 0 ? biased : 1) - 150; /* the value is c * 2^q */
    bool lower_is_closer = fraction == 0 && biased > 1;
    uint32_t odd = c & 1; /* bounds round to even: they belong to the interval when c is even */

    /* floor(log10(2^q)), or of 3/4 * 2^q where the gap below is half the gap above. */
    int32_t k = (q * 1262611 - (lower_is_closer ? 524031 : 0)) >> 22;
    int32_t h = q + log2_pow10(-k) + 1; /* 1 to 4 */
    uint64_t power = pow10(-k) + 2; /* never too small; that this is near enough, all floats show */

    /* The value and the bounds of its interval, times 4 * 10^-k. */
    uint32_t value = round_to_odd(power, 4 * c << h);
    uint32_t lower = round_to_odd(power, (4 * c - (lower_is_closer ? 1 : 2)) << h) + odd;
    uint32_t upper = round_to_odd(power, (4 * c + 2) << h) - odd;

    uint32_t s = value / 4;
    if (s >= 10) { /* one digit fewer, if exactly one such number is inside */
        uint32_t tens = s / 10;
        bool down_inside = lower <= 40 * tens;
        bool up_inside = 40 * tens + 40 <= upper;

        if (down_inside != up_inside) {
            *exponent = k + 1;
            return tens + up_inside;
        }
    }
    *exponent = k;
    bool down_inside = lower <= 4 * s;
    bool up_inside = 4 * s + 4 <= upper;
    if (down_inside != up_inside) {
        return s + up_inside;
    }
    uint32_t middle = 4 * s + 2;
    return s + (value > middle || (value == middle && (s & 1) != 0));
}

static uint32_t copy(const char *from, char *to)
{
    uint32_t size = 0;

    for (; from[size] != '\0'; size++) {
        to[size] = from[size];
    }
    return size;
}

uint32_t fl_format_f32(float value, char *text)
{
    uint32_t bits = fl_bits_of(value);
    uint32_t magnitude = bits & 0x7fffffff;
    char digits[10];
    int32_t exponent;
    uint32_t size = 0;

    if (magnitude > 0x7f800000) {
        return copy("nan", text);
    }
    if (bits >> 31 != 0) {
        text[size++] = '-';
    }
    if (magnitude == 0x7f800000) {
        return size + copy("inf", text + size);
    }
    if (magnitude == 0) {
        return size + copy("0.0", text + size);
    }

    uint32_t number = shortest(magnitude, &exponent);
    while (number % 10 == 0) {
        number /= 10;
        exponent++;
    }
    int32_t count = (int32_t)fl_format_u32(number, digits);
    int32_t point = count + exponent; /* digits before the decimal point */
    int32_t power = point - 1;
    bool scientific = point < -3 || point > 9;
    if (scientific) {
        point = 1;
    }
    for (int32_t i = point < 1 ? point - 1 : 0; i < count || (i <= point && !scientific); i++) {
        if (i == point) {
            text[size++] = '.';
        }
        text[size++] = i >= 0 && i < count ? digits[i] : '0';
    }
    if (scientific) {
        text[size++] = 'e';
        if (power < 0) {
            text[size++] = '-';
            power = -power;
        }
        size += fl_format_u32((uint32_t)power, text + size);
    }
    return size;
}

/* ---- text to float ---- */

/* A non-negative integer below 2^256, lowest word first: enough for every comparison below. */
struct big {
    uint32_t words[8];
};

static struct big big_of(uint64_t value)
{
    struct big big = {{(uint32_t)value, (uint32_t)(value >> 32)}};

    return big;
}

static void big_multiply(struct big *big, uint32_t factor)
{
    uint64_t carry = 0;

    for (int i = 0; i < 8; i++) {
        carry += (uint64_t)big->words[i] * factor;
        big->words[i] = (uint32_t)carry;
        carry >>= 32;
    }
}

static void big_raise(struct big *big, uint32_t factor, int32_t power)
{
    for (; power > 0; power--) {
        big_multiply(big, factor);
    }
}

static int big_compare(const struct big *a, const struct big *b)
{
    for (int i = 7; i >= 0; i--) {
        if (a->words[i] != b->words[i]) {
            return a->words[i] < b->words[i] ? -1 : 1;
        }
    }
    return 0;
}

/* Compares digits * 10^e with m * 2^q. Both are below 2^130 and no smaller than about 2^-151. */
static int compare_exactly(uint64_t digits, int32_t e, uint32_t m, int32_t q)
{
    struct big a = big_of(digits);
    struct big b = big_of(m);

    big_raise(&a, 5, e);
    big_raise(&b, 5, -e);
    big_raise(&a, 2, e - q);
    big_raise(&b, 2, q - e);
    return big_compare(&a, &b);
}

float fl_decimal_to_f32(const struct fl_decimal *decimal)
{
    uint32_t sign = decimal->negative ? 0x80000000 : 0;

    /* Below 10^20 * 10^-66 everything is zero, from 1 * 10^39 on everything is infinite. */
    if (decimal->digits == 0 || decimal->exponent < POW10_MIN) {
        return float_of(sign);
    }
    if (decimal->exponent > 38) {
        return float_of(sign | 0x7f800000);
    }

    /* The value is at least high * 2^q and less than (high + 8) * 2^q; high has 64 bits. */
    int32_t e = (int32_t)decimal->exponent;
    int32_t shift = __builtin_clzll(decimal->digits);
    uint64_t low;
    uint64_t high = multiply(decimal->digits << shift, pow10(e), &low);
    int32_t q = log2_pow10(e) - 63 + 64 - shift;
    if (high >> 63 == 0) {
        high = high << 1 | low >> 63;
        q--;
    }

    /* Keep 24 bits, fewer below 2^-126: m * 2^q, and what has been dropped. */
    int32_t drop = q + 40 < -149 ? -149 - q : 40;
    if (drop > 64) { /* around or below 2^-150, half the smallest float */
        return float_of(sign | (compare_exactly(decimal->digits, e, 1, -150) > 0));
    }
    uint64_t half = (uint64_t)1 << (drop - 1);
    uint32_t m = drop == 64 ? 0 : (uint32_t)(high >> drop);
    uint64_t dropped = high & (half - 1 + half);
    q += drop;

    bool up = dropped > half;
    if (dropped > half - 8 && dropped <= half) { /* too close to call in 64 bits */
        int order = compare_exactly(decimal->digits, e, 2 * m + 1, q - 1);

        up = order > 0 || (order == 0 && (decimal->more || (m & 1) != 0));
    }
    m += up;
    if (m == 1 << 24) {
        m >>= 1;
        q++;
    }
    if (q > 104) {
        return float_of(sign | 0x7f800000);
    }
    /* A carry out of a subnormal's bits lands in the exponent, which is right. */
    return float_of(sign | (m < 1 << 23 ? m : (uint32_t)(q + 150) << 23 | (m & 0x7fffff)));
}
