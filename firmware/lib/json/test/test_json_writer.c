#include "fl_check.h"
#include "fl_json_writer.h"

FL_SUITE(json_writer)

FL_TEST(json_writer, commas_stand_between_things)
{
    char out[128];
    struct fl_json_writer writer;

    fl_json_writer_begin(&writer, out, sizeof(out));
    fl_json_write_object_begin(&writer);
    fl_json_write_key(&writer, "a");
    fl_json_write_u64(&writer, 1);
    fl_json_write_key(&writer, "b");
    fl_json_write_array_begin(&writer);
    fl_json_write_bool(&writer, true);
    fl_json_write_array_begin(&writer);
    fl_json_write_array_end(&writer);
    fl_json_write_null(&writer);
    fl_json_write_array_end(&writer);
    fl_json_write_key(&writer, "c");
    fl_json_write_object_begin(&writer);
    fl_json_write_object_end(&writer);
    fl_json_write_key(&writer, "d");
    fl_json_write_string(&writer, "x");
    fl_json_write_object_end(&writer);
    FL_CHECK_STRING(out, "{\"a\":1,\"b\":[true,[],null],\"c\":{},\"d\":\"x\"}");
    FL_CHECK_INT(fl_json_writer_end(&writer), strlen(out));
}

static void check_string(const char *bytes, size_t size, const char *expected)
{
    char out[128];
    struct fl_json_writer writer;

    fl_json_writer_begin(&writer, out, sizeof(out));
    fl_json_write_string_n(&writer, bytes, size);
    FL_CHECK_STRING(out, expected);
}

FL_TEST(json_writer, strings_are_escaped)
{
    check_string("a\"b\\c/", 6, "\"a\\\"b\\\\c/\"");
    check_string("\n\r\t\x01\x1f", 5, "\"\\n\\r\\t\\u0001\\u001f\"");
    check_string("a\0b", 3, "\"a\\u0000b\"");
    check_string("\x7F\xC3\xA9\xF0\x9F\x98\x80", 7, "\"\x7F\xC3\xA9\xF0\x9F\x98\x80\"");
}

FL_TEST(json_writer, what_is_not_utf8_is_replaced)
{
    check_string("a\xFF"
                 "b",
                 3,
                 "\"a\xEF\xBF\xBD"
                 "b\"");
    check_string("\xC3", 1, "\"\xEF\xBF\xBD\"");
    check_string("\xE2\x82", 2, "\"\xEF\xBF\xBD\xEF\xBF\xBD\"");
    check_string("\xED\xA0\x80", 3, "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
}

FL_TEST(json_writer, what_does_not_fit_says_how_much_it_needs)
{
    char out[8];
    struct fl_json_writer writer;

    fl_json_writer_begin(&writer, out, sizeof(out));
    fl_json_write_string(&writer, "12345");
    FL_CHECK_INT(fl_json_writer_end(&writer), 7); /* and a NUL: exactly full */
    FL_CHECK_STRING(out, "\"12345\"");
    fl_json_writer_begin(&writer, out, sizeof(out));
    fl_json_write_string(&writer, "123456");
    FL_CHECK_INT(fl_json_writer_end(&writer), 8);
}
