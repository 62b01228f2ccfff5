#include "fl_check.h"
#include "fl_stream.h"

FL_SUITE(stream)

static uint8_t place[16];
static struct fl_stream_memory memory = {place, sizeof(place)};

static struct fl_stream_sink sink(void)
{
    memset(place, 0xEE, sizeof(place));
    return (struct fl_stream_sink){fl_stream_to_memory, &memory};
}

static bool broken(void *user, uint32_t offset, const uint8_t *data, size_t size)
{
    (void)user;
    (void)offset;
    (void)data;
    (void)size;
    return false;
}

FL_TEST(stream, pieces_of_any_size_make_the_whole)
{
    static const char payload[] = "sixteen bytes it";
    uint8_t digest[FL_SHA256_SIZE];

    fl_sha256_of(payload, 16, digest);
    for (size_t piece = 1; piece <= 16; piece++) {
        struct fl_stream stream;

        FL_CHECK_INT(fl_stream_begin(&stream, sink(), 16, 16, digest), FL_STREAM_OK);
        for (size_t at = 0; at < 16; at += piece) {
            size_t left = 16 - at;

            FL_CHECK_INT(fl_stream_left(&stream), left);
            FL_CHECK_INT(fl_stream_write(&stream, payload + at, left < piece ? left : piece),
                         FL_STREAM_OK);
        }
        FL_CHECK_INT(fl_stream_end(&stream), FL_STREAM_OK);
        FL_CHECK_INT(fl_stream_end(&stream), FL_STREAM_OK);
        FL_CHECK_BYTES(place, payload, 16);
        FL_CHECK(fl_sha256_equal(stream.digest, digest));
    }
}

FL_TEST(stream, what_is_announced_too_large_never_reaches_the_sink)
{
    struct fl_stream stream;

    FL_CHECK_INT(fl_stream_begin(&stream, sink(), 17, 16, NULL), FL_STREAM_TOO_LARGE);
    FL_CHECK_INT(fl_stream_write(&stream, "x", 1), FL_STREAM_TOO_LARGE);
    FL_CHECK_INT(fl_stream_end(&stream), FL_STREAM_TOO_LARGE);
    FL_CHECK_INT(place[0], 0xEE);
    FL_CHECK_INT(fl_stream_left(&stream), 0);
}

FL_TEST(stream, what_turns_out_too_large_is_refused_whole)
{
    struct fl_stream stream;

    FL_CHECK_INT(fl_stream_begin(&stream, sink(), FL_STREAM_TOTAL_UNKNOWN, 4, NULL), FL_STREAM_OK);
    FL_CHECK_INT(fl_stream_write(&stream, "abc", 3), FL_STREAM_OK);
    FL_CHECK_INT(fl_stream_left(&stream), 0);
    FL_CHECK_INT(fl_stream_write(&stream, "de", 2), FL_STREAM_TOO_LARGE);
    FL_CHECK_INT(place[3], 0xEE);
    FL_CHECK_INT(fl_stream_write(&stream, "d", 1), FL_STREAM_TOO_LARGE);
    FL_CHECK_INT(fl_stream_end(&stream), FL_STREAM_TOO_LARGE);
}

FL_TEST(stream, an_unknown_total_may_fill_the_limit)
{
    struct fl_stream stream;

    FL_CHECK_INT(fl_stream_begin(&stream, sink(), FL_STREAM_TOTAL_UNKNOWN, 4, NULL), FL_STREAM_OK);
    FL_CHECK_INT(fl_stream_write(&stream, "abcd", 4), FL_STREAM_OK);
    FL_CHECK_INT(fl_stream_end(&stream), FL_STREAM_OK);
}

FL_TEST(stream, more_than_announced_is_an_overrun)
{
    struct fl_stream stream;

    FL_CHECK_INT(fl_stream_begin(&stream, sink(), 3, 16, NULL), FL_STREAM_OK);
    FL_CHECK_INT(fl_stream_write(&stream, "abcd", 4), FL_STREAM_OVERRUN);
    FL_CHECK_INT(place[0], 0xEE);
    FL_CHECK_INT(fl_stream_end(&stream), FL_STREAM_OVERRUN);
}

FL_TEST(stream, writing_after_the_end_is_an_overrun)
{
    struct fl_stream stream;

    FL_CHECK_INT(fl_stream_begin(&stream, sink(), FL_STREAM_TOTAL_UNKNOWN, 16, NULL), FL_STREAM_OK);
    FL_CHECK_INT(fl_stream_end(&stream), FL_STREAM_OK);
    FL_CHECK_INT(fl_stream_write(&stream, "a", 1), FL_STREAM_OVERRUN);
}

FL_TEST(stream, less_than_announced_is_short)
{
    struct fl_stream stream;

    FL_CHECK_INT(fl_stream_begin(&stream, sink(), 3, 16, NULL), FL_STREAM_OK);
    FL_CHECK_INT(fl_stream_write(&stream, "ab", 2), FL_STREAM_OK);
    FL_CHECK_INT(fl_stream_end(&stream), FL_STREAM_SHORT);
    FL_CHECK_INT(fl_stream_write(&stream, "c", 1), FL_STREAM_SHORT);
}

FL_TEST(stream, other_bytes_are_a_mismatch)
{
    struct fl_stream stream;
    uint8_t digest[FL_SHA256_SIZE];

    fl_sha256_of("abc", 3, digest);
    FL_CHECK_INT(fl_stream_begin(&stream, sink(), 3, 16, digest), FL_STREAM_OK);
    FL_CHECK_INT(fl_stream_write(&stream, "abd", 3), FL_STREAM_OK);
    FL_CHECK_INT(fl_stream_end(&stream), FL_STREAM_MISMATCH);
    FL_CHECK(!fl_sha256_equal(stream.digest, digest));
}

FL_TEST(stream, a_sink_that_fails_is_told)
{
    struct fl_stream stream;
    const struct fl_stream_sink none = {broken, NULL};

    FL_CHECK_INT(fl_stream_begin(&stream, none, 3, 16, NULL), FL_STREAM_OK);
    FL_CHECK_INT(fl_stream_write(&stream, "", 0), FL_STREAM_OK);
    FL_CHECK_INT(fl_stream_write(&stream, "a", 1), FL_STREAM_SINK_FAILED);
    FL_CHECK_INT(fl_stream_end(&stream), FL_STREAM_SINK_FAILED);
}

FL_TEST(stream, an_empty_payload_is_whole)
{
    struct fl_stream stream;

    FL_CHECK_INT(fl_stream_begin(&stream, sink(), 0, 0, NULL), FL_STREAM_OK);
    FL_CHECK_INT(fl_stream_end(&stream), FL_STREAM_OK);
}

FL_TEST(stream, memory_takes_no_byte_beyond_its_end)
{
    (void)sink();
    FL_CHECK(fl_stream_to_memory(&memory, 15, (const uint8_t *)"a", 1));
    FL_CHECK(!fl_stream_to_memory(&memory, 15, (const uint8_t *)"ab", 2));
    FL_CHECK(!fl_stream_to_memory(&memory, 17, (const uint8_t *)"", 0));
    FL_CHECK(!fl_stream_to_memory(&memory, UINT32_MAX, (const uint8_t *)"a", 1));
}

FL_TEST(stream, every_status_has_a_word)
{
    static const char *const words[] = {
        [FL_STREAM_OK] = "ok",
        [FL_STREAM_TOO_LARGE] = "too_large",
        [FL_STREAM_OVERRUN] = "overrun",
        [FL_STREAM_SHORT] = "short",
        [FL_STREAM_MISMATCH] = "mismatch",
        [FL_STREAM_SINK_FAILED] = "sink",
    };

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        FL_CHECK_STRING(fl_stream_word((enum fl_stream_status)i), words[i]);
    }
}
