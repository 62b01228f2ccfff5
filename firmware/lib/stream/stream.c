#include "fl_stream.h"

#include <string.h>

bool fl_stream_to_memory(void *memory, uint32_t offset, const uint8_t *data, size_t size)
{
    const struct fl_stream_memory *target = memory;

    if (offset > target->capacity_bytes || size > target->capacity_bytes - offset) {
        return false;
    }
    memcpy(target->base + offset, data, size);
    return true;
}

enum fl_stream_status fl_stream_begin(struct fl_stream *stream, struct fl_stream_sink sink,
                                      uint32_t total_bytes, uint32_t limit_bytes,
                                      const uint8_t *expected)
{
    memset(stream, 0, sizeof(*stream));
    stream->sink = sink;
    stream->total_bytes = total_bytes;
    stream->limit_bytes = limit_bytes;
    if (expected != NULL) {
        stream->has_expected = true;
        memcpy(stream->expected, expected, FL_SHA256_SIZE);
    }
    fl_sha256_begin(&stream->hash);
    if (total_bytes != FL_STREAM_TOTAL_UNKNOWN && total_bytes > limit_bytes) {
        stream->status = FL_STREAM_TOO_LARGE;
    }
    return stream->status;
}

enum fl_stream_status fl_stream_write(struct fl_stream *stream, const void *data, size_t size)
{
    if (stream->status != FL_STREAM_OK) {
        return stream->status;
    }
    if (stream->ended || (stream->total_bytes != FL_STREAM_TOTAL_UNKNOWN &&
                          size > stream->total_bytes - stream->offset_bytes)) {
        stream->status = FL_STREAM_OVERRUN;
    } else if (size > stream->limit_bytes - stream->offset_bytes) {
        stream->status = FL_STREAM_TOO_LARGE;
    } else if (size > 0 &&
               !stream->sink.write(stream->sink.user, stream->offset_bytes, data, size)) {
        stream->status = FL_STREAM_SINK_FAILED;
    } else {
        fl_sha256_update(&stream->hash, data, size);
        stream->offset_bytes += (uint32_t)size;
    }
    return stream->status;
}

enum fl_stream_status fl_stream_end(struct fl_stream *stream)
{
    if (stream->status != FL_STREAM_OK || stream->ended) {
        return stream->status;
    }
    stream->ended = true;
    if (stream->total_bytes != FL_STREAM_TOTAL_UNKNOWN &&
        stream->offset_bytes < stream->total_bytes) {
        stream->status = FL_STREAM_SHORT;
        return stream->status;
    }
    fl_sha256_end(&stream->hash, stream->digest);
    if (stream->has_expected && !fl_sha256_equal(stream->digest, stream->expected)) {
        stream->status = FL_STREAM_MISMATCH;
    }
    return stream->status;
}

uint32_t fl_stream_left(const struct fl_stream *stream)
{
    if (stream->status != FL_STREAM_OK || stream->total_bytes == FL_STREAM_TOTAL_UNKNOWN) {
        return 0;
    }
    return stream->total_bytes - stream->offset_bytes;
}

const char *fl_stream_word(enum fl_stream_status status)
{
    switch (status) {
    case FL_STREAM_OK:
        return "ok";
    case FL_STREAM_TOO_LARGE:
        return "too_large";
    case FL_STREAM_OVERRUN:
        return "overrun";
    case FL_STREAM_SHORT:
        return "short";
    case FL_STREAM_MISMATCH:
        return "mismatch";
    case FL_STREAM_SINK_FAILED:
        return "sink";
    }
    return "unknown";
}
