#include "fl_check.h"
#include "fl_text.h"

FL_SUITE(text)

FL_TEST(text, what_fits_is_kept_and_terminated)
{
    char out[8];
    struct fl_text text;

    fl_text_begin(&text, out, sizeof(out));
    FL_CHECK_STRING(out, "");
    fl_text_put(&text, "abc");
    fl_text_put_n(&text, "defgh", 4);
    FL_CHECK(fl_text_ok(&text));
    FL_CHECK_STRING(out, "abcdefg");
    FL_CHECK_INT(text.size, 7);
}

FL_TEST(text, what_does_not_fit_is_left_out_whole_but_counted)
{
    char out[8];
    struct fl_text text;

    fl_text_begin(&text, out, sizeof(out));
    fl_text_put(&text, "abc");
    fl_text_put(&text, "defgh");
    FL_CHECK(!fl_text_ok(&text));
    FL_CHECK_STRING(out, "abc");
    FL_CHECK_INT(text.size, 8);
    /* Not even what would fit may follow a gap. */
    fl_text_put(&text, "x");
    FL_CHECK_STRING(out, "abc");
    FL_CHECK_INT(text.size, 9);
}

FL_TEST(text, a_buffer_of_one_byte_holds_the_empty_text)
{
    char out[1];
    struct fl_text text;

    fl_text_begin(&text, out, sizeof(out));
    fl_text_put(&text, "");
    FL_CHECK(fl_text_ok(&text));
    fl_text_put(&text, "x");
    FL_CHECK(!fl_text_ok(&text));
    FL_CHECK_STRING(out, "");
}

FL_TEST(text, numbers)
{
    char out[64];
    struct fl_text text;

    fl_text_begin(&text, out, sizeof(out));
    fl_text_put_u64(&text, 0);
    fl_text_put(&text, " ");
    fl_text_put_u64(&text, 907);
    fl_text_put(&text, " ");
    fl_text_put_u64(&text, UINT64_MAX);
    FL_CHECK_STRING(out, "0 907 18446744073709551615");
}

FL_TEST(text, copy_is_whole_or_empty)
{
    char out[4] = "zzz";

    FL_CHECK(fl_text_copy(out, sizeof(out), "abc"));
    FL_CHECK_STRING(out, "abc");
    FL_CHECK(!fl_text_copy(out, sizeof(out), "abcd"));
    FL_CHECK_STRING(out, "");
}

FL_TEST(text, excerpt_shows_that_it_was_cut)
{
    char out[8];

    fl_text_excerpt(out, sizeof(out), "1234567");
    FL_CHECK_STRING(out, "1234567");
    fl_text_excerpt(out, sizeof(out), "12345678");
    FL_CHECK_STRING(out, "1234...");
}

FL_TEST(text, excerpt_cuts_between_characters)
{
    char out[8];

    /* The euro sign takes three bytes, of which two would fit. */
    fl_text_excerpt(out, sizeof(out),
                    "12\xE2\x82\xAC"
                    "5678");
    FL_CHECK_STRING(out, "12...");
    fl_text_excerpt(out, sizeof(out),
                    "1\xE2\x82\xAC"
                    "5678");
    FL_CHECK_STRING(out, "1\xE2\x82\xAC...");
}
