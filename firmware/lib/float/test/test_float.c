#include "fl_check.h"
#include "fl_float.h"

FL_SUITE(float)

static enum fl_float_format format_of(const char *name)
{
    return strcmp(name, "f32") == 0 ? FL_FLOAT_F32 : FL_FLOAT_F64;
}

static const char *written(enum fl_float_format format, uint64_t bits)
{
    static char out[FL_FLOAT_TEXT_MAX + 1];
    struct fl_text text;

    fl_text_begin(&text, out, sizeof(out));
    fl_float_put(&text, format, bits);
    FL_CHECK(fl_text_ok(&text));
    return out;
}

/* The same cases as the host's. */
static const struct {
    const char *format;
    const char *text;
    uint64_t bits;
    const char *written;
} cases[] = {
#define FLOAT_CASE(format, text, bits, written) {#format, text, bits, written},
#define FLOAT_REFUSED(text)
#include "../../../../tests/fixtures/numbers/floats.h"
#undef FLOAT_CASE
#undef FLOAT_REFUSED
};

static const char *const refused[] = {
#define FLOAT_CASE(format, text, bits, written)
#define FLOAT_REFUSED(text) text,
#include "../../../../tests/fixtures/numbers/floats.h"
};

FL_TEST(float, a_text_becomes_the_nearest_float)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t bits = 1;

        FL_CHECK(
            fl_float_read(cases[i].text, strlen(cases[i].text), format_of(cases[i].format), &bits));
        FL_CHECK_INT(bits, cases[i].bits);
    }
}

FL_TEST(float, a_float_becomes_its_shortest_text)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        FL_CHECK_STRING(written(format_of(cases[i].format), cases[i].bits), cases[i].written);
    }
}

FL_TEST(float, what_is_no_number_is_refused_and_changes_nothing)
{
    uint64_t bits = 7;

    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        FL_CHECK(!fl_float_read(refused[i], strlen(refused[i]), FL_FLOAT_F64, &bits));
        FL_CHECK_INT(bits, 7);
    }
}

FL_TEST(float, a_text_may_be_so_long_and_no_longer)
{
    char text[FL_FLOAT_READ_MAX + 1];
    uint64_t bits = 0;

    memset(text, '9', sizeof(text));
    FL_CHECK(fl_float_read(text, FL_FLOAT_READ_MAX, FL_FLOAT_F64, &bits));
    FL_CHECK_STRING(written(FL_FLOAT_F64, bits) + 1, /* 1e127 */
                    "0000000000000000000000000000000000000000000000000000000000000000000000000000"
                    "000000000000000000000000000000000000000000000000000");
    FL_CHECK(!fl_float_read(text, FL_FLOAT_READ_MAX + 1, FL_FLOAT_F64, &bits));
    memcpy(text + FL_FLOAT_READ_MAX - 5, "e-445", 5);
    FL_CHECK(fl_float_read(text, FL_FLOAT_READ_MAX, FL_FLOAT_F64, &bits));
    FL_CHECK_INT(bits, 2); /* 1e-323 */
}

/* Every exponent, with the fractions around a power of two: each reads back as itself. */
FL_TEST(float, what_is_written_reads_back)
{
    static const uint64_t steps[] = {0, 1, (uint64_t)1 << 51, ((uint64_t)1 << 52) - 1};

    for (uint64_t exponent = 620; exponent < 1400; exponent += 3) {
        for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
            uint64_t wanted = exponent << 52 | steps[i];
            const char *text = written(FL_FLOAT_F64, wanted);
            uint64_t bits = 0;

            if (strlen(text) <= FL_FLOAT_READ_MAX) {
                FL_CHECK(fl_float_read(text, strlen(text), FL_FLOAT_F64, &bits));
                FL_CHECK(bits == wanted);
            }
        }
    }
}

FL_TEST(float, a_text_without_room_is_counted_and_not_written)
{
    char out[4];
    struct fl_text text;

    fl_text_begin(&text, out, sizeof(out));
    fl_float_put(&text, FL_FLOAT_F64, 1); /* the smallest, with the longest text but for a sign */
    FL_CHECK(!fl_text_ok(&text));
    FL_CHECK_INT(text.size, FL_FLOAT_TEXT_MAX - 1);
}
