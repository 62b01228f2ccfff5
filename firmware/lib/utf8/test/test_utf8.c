#include "fl_check.h"
#include "fl_utf8.h"

FL_SUITE(utf8)

/* Whether `bytes` are whole, valid characters, by the byte-wise check. */
static bool is_valid(const char *bytes)
{
    struct fl_utf8 utf8;

    fl_utf8_begin(&utf8);
    for (; *bytes != '\0'; bytes++) {
        if (!fl_utf8_feed(&utf8, (uint8_t)*bytes)) {
            return false;
        }
    }
    return utf8.left == 0;
}

FL_TEST(utf8, every_scalar_value_survives_encoding)
{
    for (uint32_t code = 1; code <= 0x10FFFF; code++) {
        char text[5] = {0};
        size_t size;

        if (code == 0xD800) {
            code = 0xE000;
        }
        size = fl_utf8_encode(code, text);
        FL_CHECK(is_valid(text));
        FL_CHECK_INT(fl_utf8_character_size(text, size), size);
        FL_CHECK_INT(fl_utf8_character_size(text, size - 1), 0);
    }
}

FL_TEST(utf8, lengths)
{
    char text[4];

    FL_CHECK_INT(fl_utf8_encode(0x7F, text), 1);
    FL_CHECK_INT(fl_utf8_encode(0x80, text), 2);
    FL_CHECK_INT(fl_utf8_encode(0x7FF, text), 2);
    FL_CHECK_INT(fl_utf8_encode(0x800, text), 3);
    FL_CHECK_INT(fl_utf8_encode(0xFFFF, text), 3);
    FL_CHECK_INT(fl_utf8_encode(0x10000, text), 4);
    FL_CHECK_BYTES(text, "\xF0\x90\x80\x80", 4);
}

FL_TEST(utf8, refused)
{
    static const char *const bad[] = {
        "\x80",             /* a continuation without a start */
        "\xC3",             /* half a character */
        "\xC3(",            /* a start without a continuation */
        "\xC0\xAF",         /* overlong, two bytes */
        "\xC1\xBF",         /* overlong */
        "\xE0\x80\xAF",     /* overlong, three bytes */
        "\xF0\x80\x80\xAF", /* overlong, four bytes */
        "\xED\xA0\x80",     /* a surrogate */
        "\xF4\x90\x80\x80", /* above U+10FFFF */
        "\xF5\x80\x80\x80", /* far above */
        "\xFF",             /* never a byte of it */
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        FL_CHECK(!is_valid(bad[i]));
        FL_CHECK_INT(fl_utf8_character_size(bad[i], strlen(bad[i])), 0);
    }
}

FL_TEST(utf8, a_refused_byte_starts_over)
{
    struct fl_utf8 utf8;

    fl_utf8_begin(&utf8);
    FL_CHECK(fl_utf8_feed(&utf8, 0xE2));
    FL_CHECK_INT(utf8.left, 2);
    FL_CHECK(!fl_utf8_feed(&utf8, 'a'));
    FL_CHECK_INT(utf8.left, 0);
    FL_CHECK(fl_utf8_feed(&utf8, 'a'));
}
