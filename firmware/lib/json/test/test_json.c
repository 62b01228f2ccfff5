#include "fl_check.h"
#include "fl_json.h"
#include "fl_text.h"

FL_SUITE(json)

/* What the handler saw, in short: {k"a" s"x|" n1 t f z } with each event's depth in front. */
static char seen[2048];
static struct fl_text trace;

static bool on_event(void *user, const struct fl_json_event *event)
{
    static const char marks[] = {'{', '}', '[', ']', 'k', 's', 'n', 't', 'f', 'z'};
    bool *in_string = user;

    /* Fragments are run together, so that the trace does not depend on where the input was cut. */
    if (!*in_string) {
        fl_text_put_u64(&trace, event->depth);
        fl_text_put_n(&trace, &marks[event->type], 1);
    }
    FL_CHECK(event->type != FL_JSON_STRING || event->first == !*in_string);
    if (event->type == FL_JSON_KEY || event->type == FL_JSON_NUMBER) {
        FL_CHECK_INT(strlen(event->text), event->size);
    }
    if (event->text != NULL) {
        fl_text_put_n(&trace, event->text, event->size);
    }
    *in_string = event->type == FL_JSON_STRING && !event->last;
    if (!*in_string) {
        fl_text_put(&trace, " ");
    }
    return true;
}

static enum fl_json_status parse(const char *text, size_t size, size_t piece)
{
    struct fl_json json;
    bool in_string = false;

    fl_text_begin(&trace, seen, sizeof(seen));
    fl_json_begin(&json, on_event, &in_string);
    for (size_t at = 0; at < size; at += piece) {
        size_t left = size - at;
        char copy[64]; /* so that a read beyond the piece is seen by a sanitizer */
        size_t now = left < piece ? left : piece;

        if (now <= sizeof(copy)) {
            memcpy(copy, text + at, now);
            (void)fl_json_feed(&json, copy, now);
        } else {
            (void)fl_json_feed(&json, text + at, now);
        }
    }
    return fl_json_end(&json);
}

static void check_trace(const char *text, const char *expected)
{
    for (size_t piece = 1; piece <= strlen(text); piece++) {
        FL_CHECK_INT(parse(text, strlen(text), piece), FL_JSON_OK);
        FL_CHECK_STRING(seen, expected);
    }
}

FL_TEST(json, values)
{
    check_trace("{}", "0{ 0} ");
    check_trace(" [ ] ", "0[ 0] ");
    check_trace("true", "0t ");
    check_trace("\tfalse\r\n", "0f ");
    check_trace("null", "0z ");
    check_trace("\"\"", "0s ");
    check_trace("{\"a\":1,\"b\":[true,{\"c\":null}],\"d\":\"x\"}",
                "0{ 1ka 1n1 1kb 1[ 2t 2{ 3kc 3z 2} 1] 1kd 1sx 0} ");
}

FL_TEST(json, numbers)
{
    check_trace("0", "0n0 ");
    check_trace("-0", "0n-0 ");
    check_trace("-12.50e+07", "0n-12.50e+07 ");
    check_trace("[1E5,0.1,10,3e0]", "0[ 1n1E5 1n0.1 1n10 1n3e0 0] ");
}

FL_TEST(json, escapes)
{
    check_trace("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "0s\"\\/\b\f\n\r\t ");
    check_trace("\"\\u0041\\u00e9\\u20AC\\ud83d\\ude00\"",
                "0sA\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80 ");
    check_trace("{\"k\\u0065y\":\"\"}", "0{ 1kkey 1s 0} ");
}

FL_TEST(json, utf8_passes_through)
{
    check_trace("\"a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z\"",
                "0sa\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z ");
}

FL_TEST(json, a_nul_in_a_string_is_a_character_like_others)
{
    FL_CHECK_INT(parse("\"a\\u0000b\"", 10, 10), FL_JSON_OK);
    FL_CHECK_BYTES(seen, "0sa\0b ", 6);
}

static void check_refused(const char *text, size_t size, enum fl_json_status expected)
{
    for (size_t piece = 1; piece <= size; piece++) {
        FL_CHECK_INT(parse(text, size, piece), expected);
    }
}

FL_TEST(json, what_is_not_json)
{
    static const char *const bad[] = {
        "}",           "]",           ",",         ":",           "{]",         "[}",
        "[1,]",        "[,1]",        "[1 2]",     "{\"a\"}",     "{\"a\":}",   "{\"a\" 1}",
        "{,}",         "{1:2}",       "{a:1}",     "{\"a\":1,}",  "01",         "-",
        "-a",          "1.",          ".5",        "+1",          "1e",         "1e+",
        "1.e5",        "0x10",        "1_000",     "NaN",         "Infinity",   "-Infinity",
        "nul",         "nulll",       "True",      "tru e",       "'a'",        "\"\\x41\"",
        "\"\\u12g4\"", "\"\\u 123\"", "\"a\nb\"",  "\"\t\"",      "{} {}",      "1 2",
        "[1]]",        "// x\n1",     "/* */1",    "\"a\" \"b\"", "{\"a\":1}}", "\xEF\xBB\xBF{}",
        "--1",         "[1}",         "{\"a\":1]", "\"\\",        "1.5.5",      "1e5e5",
        "tRUE",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        enum fl_json_status status = parse(bad[i], strlen(bad[i]), strlen(bad[i]));

        FL_CHECK(status == FL_JSON_SYNTAX || status == FL_JSON_INCOMPLETE);
        check_refused(bad[i], strlen(bad[i]), status);
    }
}

FL_TEST(json, a_nul_between_values_is_not_white_space)
{
    check_refused("{}\0", 3, FL_JSON_SYNTAX);
    check_refused("\0{}", 3, FL_JSON_SYNTAX);
    check_refused("\"\\\0\"", 4, FL_JSON_SYNTAX);
    check_refused("\"a\0\"", 4, FL_JSON_SYNTAX);
}

FL_TEST(json, broken_off)
{
    static const char whole[] = "{\"a\":[1.5,true,\"x\\u00e9\",{\"b\":null}]}";

    for (size_t size = 0; size < strlen(whole); size++) {
        if (size > 0) {
            check_refused(whole, size, FL_JSON_INCOMPLETE);
        }
    }
    FL_CHECK_INT(parse("", 0, 1), FL_JSON_INCOMPLETE);
    check_refused("  ", 2, FL_JSON_INCOMPLETE);
}

FL_TEST(json, what_is_not_utf8)
{
    static const char *const bad[] = {
        "\"\x80\"",     "\"\xC3\"",           "\"\xC3(\"",
        "\"\xC0\xAF\"", "\"\xED\xA0\x80\"",   "\"\xF4\x90\x80\x80\"",
        "\"\xFF\"",     "\"\\ud800\"",        "\"\\udc00\"",
        "\"\\ud800x\"", "\"\\ud800\\n\"",     "\"\\ud800\\ud800\"",
        "{\"\xC3\":1}", "\"\\ud83d\\u0041\"", "\"\\ude00\\ud83d\"",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        check_refused(bad[i], strlen(bad[i]), FL_JSON_UTF8);
    }
}

FL_TEST(json, nesting_is_limited)
{
    char text[2 * (FL_JSON_DEPTH_MAX + 1)];

    memset(text, '[', FL_JSON_DEPTH_MAX);
    memset(text + FL_JSON_DEPTH_MAX, ']', FL_JSON_DEPTH_MAX);
    FL_CHECK_INT(parse(text, 2 * FL_JSON_DEPTH_MAX, 7), FL_JSON_OK);
    memset(text, '[', FL_JSON_DEPTH_MAX + 1);
    memset(text + FL_JSON_DEPTH_MAX + 1, ']', FL_JSON_DEPTH_MAX + 1);
    check_refused(text, sizeof(text), FL_JSON_TOO_DEEP);
}

FL_TEST(json, objects_and_arrays_are_told_apart_at_every_level)
{
    char text[1024];
    struct fl_text out;

    /* [{"":[{"": ... alternating to the limit, and back. */
    fl_text_begin(&out, text, sizeof(text));
    for (int level = 0; level < FL_JSON_DEPTH_MAX; level++) {
        fl_text_put(&out, level % 2 == 0 ? "[" : "{\"\":");
    }
    fl_text_put(&out, "1");
    for (int level = FL_JSON_DEPTH_MAX; level-- > 0;) {
        fl_text_put(&out, level % 2 == 0 ? "]" : "}");
    }
    FL_CHECK_INT(parse(text, out.size, 5), FL_JSON_OK);
    FL_CHECK_STRING(seen + strlen(seen) - 3, "0] ");
    text[strlen(text) - 2] = ']'; /* one bracket of the wrong kind */
    FL_CHECK_INT(parse(text, strlen(text), 5), FL_JSON_SYNTAX);
}

FL_TEST(json, keys_and_numbers_are_limited_and_strings_are_not)
{
    char text[3 * FL_JSON_TOKEN_MAX];

    memset(text, 'k', sizeof(text));
    memcpy(text, "{\"", 2);
    memcpy(text + 2 + FL_JSON_TOKEN_MAX, "\":1}", 4);
    FL_CHECK_INT(parse(text, FL_JSON_TOKEN_MAX + 6, 9), FL_JSON_OK);
    memcpy(text + 2 + FL_JSON_TOKEN_MAX, "k\":1}", 5);
    check_refused(text, FL_JSON_TOKEN_MAX + 7, FL_JSON_TOO_LONG);

    memset(text, '1', sizeof(text));
    FL_CHECK_INT(parse(text, FL_JSON_TOKEN_MAX, 9), FL_JSON_OK);
    check_refused(text, FL_JSON_TOKEN_MAX + 1, FL_JSON_TOO_LONG);

    memset(text, 's', sizeof(text));
    text[0] = '"';
    text[sizeof(text) - 1] = '"';
    FL_CHECK_INT(parse(text, sizeof(text), 9), FL_JSON_OK);
}

static bool stop_at_true(void *user, const struct fl_json_event *event)
{
    (void)user;
    return event->type != FL_JSON_TRUE;
}

FL_TEST(json, a_handler_may_stop_it_for_good)
{
    struct fl_json json;

    fl_json_begin(&json, stop_at_true, NULL);
    FL_CHECK_INT(fl_json_feed(&json, "[1,true,2]", 10), FL_JSON_STOPPED);
    FL_CHECK_INT(fl_json_feed(&json, "]", 1), FL_JSON_STOPPED);
    FL_CHECK_INT(fl_json_end(&json), FL_JSON_STOPPED);
}

FL_TEST(json, unsigned_integers)
{
    static const char *const bad[] = {"", "-1", "1.0", "1e3", "256", "-0", "1000", " 1"};
    uint64_t value = 7;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        FL_CHECK(!fl_json_to_u64(bad[i], strlen(bad[i]), 255, &value));
    }
    FL_CHECK_INT(value, 7);
    FL_CHECK(fl_json_to_u64("255", 3, 255, &value));
    FL_CHECK_INT(value, 255);
    FL_CHECK(fl_json_to_u64("18446744073709551615", 20, UINT64_MAX, &value));
    FL_CHECK(value == UINT64_MAX);
    FL_CHECK(!fl_json_to_u64("18446744073709551616", 20, UINT64_MAX, &value));
    FL_CHECK(!fl_json_to_u64("99999999999999999999", 20, UINT64_MAX, &value));
    FL_CHECK(fl_json_to_u64("0", 1, 0, &value));
    FL_CHECK(!fl_json_to_u64("1", 1, 0, &value));
}
