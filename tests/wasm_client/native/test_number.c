/*
 * Numbers as text, against the C library.
 *
 *     test_number STRIDE       every STRIDE-th of all floats; 1 takes some minutes
 */
#include "fl_json.h"
#include "fl_number.h"
#include "platform_memory.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

static float float_of(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void fail(const char *what, const char *text, float got, float wanted)
{
    if (failures++ < 20) {
        printf("%s: \"%s\" is %a, not %a\n", what, text, (double)got, (double)wanted);
    }
}

static struct fl_decimal decimal;

static void read_decimal(void)
{
    fl_json_number(&decimal);
}

static float read_number(const char *text)
{
    struct fl_source source;

    fl_source_text(&source, "text", text);
    fl_cursor_begin(&source, 0);
    return memory_run(read_decimal) ? fl_decimal_to_f32(&decimal) : NAN;
}

static void check_read(const char *text)
{
    float wanted = strtof(text, NULL);
    float got = read_number(text);

    if (bits_of(got) != bits_of(wanted)) {
        fail("read", text, got, wanted);
    }
}

/* Significant digits in a number's text. */
static int digits_in(const char *text)
{
    int digits = 0;
    int zeros = 0;

    for (; *text != '\0' && *text != 'e'; text++) {
        if (*text >= '1' && *text <= '9') {
            digits += zeros + 1;
            zeros = 0;
        } else if (*text == '0' && digits > 0) {
            zeros++;
        }
    }
    return digits;
}

/* The text reads back, and no shorter one does; of the shortest it is the nearest. */
static void check_format(float value, bool thoroughly)
{
    char text[FL_NUMBER_TEXT_MAX + 1];
    char other[32];
    uint32_t size = fl_format_f32(value, text);

    text[size] = '\0';
    if (bits_of(strtof(text, NULL)) != bits_of(value) ||
        bits_of(read_number(text)) != bits_of(value)) {
        fail("format", text, strtof(text, NULL), value);
    }
    if (strpbrk(text, ".e") == NULL) {
        fail("an integer, not a float", text, value, value);
    }
    if (!thoroughly || value == 0.0f) {
        return;
    }
    int digits = digits_in(text);
    if (digits > 1) {
        snprintf(other, sizeof other, "%.*e", digits - 2, (double)value);
        if (bits_of(strtof(other, NULL)) == bits_of(value)) {
            fail("a shorter text exists", text, value, value);
        }
    }
    snprintf(other, sizeof other, "%.*e", digits - 1, (double)value);
    if (bits_of(strtof(other, NULL)) == bits_of(value) &&
        strtod(other, NULL) != strtod(text, NULL)) {
        fail("a nearer text exists", text, value, value);
    }
}

static uint64_t state = 88172645463325252;

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void test_tricky_floats(void)
{
    static const float floats[] = {
        0.0f,           -0.0f,      FLT_MIN,    FLT_MAX,    -FLT_MAX,  FLT_EPSILON,        0.1f,
        0.3f,           1.0f,       10.0f,      1e9f,       1e10f,     123456789.f,        0.001f,
        0.0001f,        9.9999e-5f, 16777216.f, 33554432.f, 8388608.f, 9007199254740991.f, 5e-45f,
        1.17549421e-38f};

    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) {
        check_format(floats[i], true);
    }
    for (uint32_t exponent = 0; exponent < 255; exponent++) { /* powers of two, and neighbours */
        for (uint32_t near = 0; near < 5; near++) {
            uint32_t bits = (exponent << 23) + near;

            check_format(float_of(bits), true);
            check_format(float_of(bits < 3 ? bits : bits - 3), true);
        }
    }
}

static void test_known_texts(void)
{
    static const struct {
        float value;
        const char *text;
    } known[] = {{0.12f, "0.12"},     {-0.05f, "-0.05"}, {3.0f, "3.0"},
                 {-0.0f, "-0.0"},     {1e-7f, "1e-7"},   {1.5e-7f, "1.5e-7"},
                 {1e10f, "1e10"},     {1e9f, "1e9"},     {123456792.0f, "123456790.0"},
                 {0.0001f, "0.0001"}, {1e-5f, "1e-5"},   {FLT_MAX, "3.4028235e38"},
                 {1e-45f, "1e-45"},   {INFINITY, "inf"}, {-INFINITY, "-inf"},
                 {NAN, "nan"}};

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        char text[FL_NUMBER_TEXT_MAX + 1];

        text[fl_format_f32(known[i].value, text)] = '\0';
        if (strcmp(text, known[i].text) != 0) {
            printf("format: %s, not %s\n", text, known[i].text);
            failures++;
        }
    }
}

static void test_many_floats(uint32_t stride)
{
    for (uint64_t bits = 0; bits < 0x7f800000; bits += stride) {
        check_format(float_of((uint32_t)bits), false);
        check_format(-float_of((uint32_t)bits), false);
    }
    for (int i = 0; i < 100000; i++) {
        float value = float_of((uint32_t)next_random());

        if (isfinite(value)) {
            check_format(value, true);
        }
    }
}

static void test_texts(void)
{
    static const char *const texts[] = {"0",
                                        "-0",
                                        "0e5",
                                        "0.000",
                                        "1e39",
                                        "-1e39",
                                        "1e-46",
                                        "7.0064923216240853546e-46", /* 2^-150 */
                                        "7.006492321624085354e-46",
                                        "7.006492321624085355e-46",
                                        "16777217",
                                        "16777219",
                                        "33554434.5",
                                        "3.4028235677973366e38",
                                        "3.4028235677973365e38",
                                        "3.40282347e38",
                                        "1e999999999999999999999",
                                        "1e-999999999999999999999",
                                        "0.1000000000000000055511151231257827",
                                        "123456789012345678901234567890",
                                        "100000000000000000000000000000000000000",
                                        "0.00000000000000000000000000000000000000001",
                                        "1.17549429e-38",
                                        "1.401298464324817e-45",
                                        "2.1019476964872256e-45",
                                        "9007199254740993"};
    char text[64];

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        check_read(texts[i]);
    }
    for (int i = 0; i < 300000; i++) {
        float value = float_of((uint32_t)next_random() & 0x7fffffff);
        float next = nextafterf(value, INFINITY);

        if (!isfinite(value) || !isfinite(next)) {
            continue;
        }
        /* Half way between two floats, to as many digits as count; and any float64. */
        snprintf(text, sizeof text, "%.18e", ((double)value + (double)next) / 2);
        check_read(text);
        snprintf(text, sizeof text, "%.*e", (int)(next_random() % 17),
                 (double)value * (1.0 + (double)(next_random() >> 11) * 0x1p-60));
        check_read(text);
        snprintf(text, sizeof text, "%llue%d",
                 (unsigned long long)(next_random() >> next_random() % 64),
                 (int)(next_random() % 130) - 80);
        check_read(text);
    }
    for (uint64_t i = 0; i < 100000; i++) { /* exactly half way, in integers */
        snprintf(text, sizeof text, "%llu", (unsigned long long)((1 << 25) + 2 * i + 1) << i % 38);
        check_read(text);
    }
}

static void test_bad_texts(void)
{
    static const char *const texts[] = {"", "-", "+1", ".5", "1.", "1e", "1e+", "a", "-a", "1.e5"};

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (!isnan(read_number(texts[i])) || memory_stderr[0] == '\0') {
            printf("\"%s\" was read\n", texts[i]);
            failures++;
        }
    }
}

int main(int argc, char **argv)
{
    uint32_t stride = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 0;

    if (stride == 0) {
        return 2;
    }
    test_known_texts();
    test_tricky_floats();
    test_many_floats(stride);
    test_texts();
    test_bad_texts();
    printf("%d failures\n", failures);
    return failures != 0;
}
