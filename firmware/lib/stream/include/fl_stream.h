/*
 * A payload on its way into its place: bytes come in pieces of any size, go to a sink, and are
 * counted, hashed and held to a limit. Larger is refused, shorter is noticed, nothing is cut.
 *
 *   begin --> write, write, ... --> end
 *
 * A refusal stays: every later call returns it again, so a caller may check only the last one.
 */
#ifndef FL_STREAM_H
#define FL_STREAM_H

#include "fl_sha256.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FL_STREAM_TOTAL_UNKNOWN UINT32_MAX /* the size is not announced; only the limit holds */

enum fl_stream_status {
    FL_STREAM_OK,
    FL_STREAM_TOO_LARGE,   /* announced or arrived: more than the limit */
    FL_STREAM_OVERRUN,     /* more bytes than were announced */
    FL_STREAM_SHORT,       /* it ended before the announced size (fl_stream_end only) */
    FL_STREAM_MISMATCH,    /* whole, but not the bytes that were asked for (fl_stream_end only) */
    FL_STREAM_SINK_FAILED, /* the sink did not take a piece */
};

/*
 * Where the bytes go. `write` takes `size` bytes that belong at `offset`; offsets rise without
 * gaps from 0. It returns false when it cannot take them. `user` is passed through.
 */
struct fl_stream_sink {
    bool (*write)(void *user, uint32_t offset, const uint8_t *data, size_t size);
    void *user;
};

/* The simplest sink: memory of the caller's. `user` of its fl_stream_sink points to one of these.
 */
struct fl_stream_memory {
    uint8_t *base;
    uint32_t capacity_bytes;
};

bool fl_stream_to_memory(void *memory, uint32_t offset, const uint8_t *data, size_t size);

struct fl_stream {
    struct fl_stream_sink sink;
    struct fl_sha256 hash;
    enum fl_stream_status status;
    uint32_t limit_bytes;
    uint32_t total_bytes;  /* announced, or FL_STREAM_TOTAL_UNKNOWN */
    uint32_t offset_bytes; /* arrived and handed to the sink */
    bool ended;
    bool has_expected;
    uint8_t expected[FL_SHA256_SIZE];
    uint8_t digest[FL_SHA256_SIZE]; /* of what arrived; valid after fl_stream_end */
};

/*
 * Starts a stream of `total_bytes` (or FL_STREAM_TOTAL_UNKNOWN) into `sink`, at most `limit_bytes`.
 * `expected` is the digest the payload must have, or NULL when any will do.
 * Returns FL_STREAM_OK, or FL_STREAM_TOO_LARGE, and then nothing reaches the sink.
 */
enum fl_stream_status fl_stream_begin(struct fl_stream *stream, struct fl_stream_sink sink,
                                      uint32_t total_bytes, uint32_t limit_bytes,
                                      const uint8_t *expected);

/* Takes the next piece. A piece that breaks the limit or the total is refused whole. */
enum fl_stream_status fl_stream_write(struct fl_stream *stream, const void *data, size_t size);

/*
 * Ends the stream. FL_STREAM_OK means: whole, of the expected digest, and all in the sink.
 * Ending it again gives the same answer; writing to it after that is an overrun.
 */
enum fl_stream_status fl_stream_end(struct fl_stream *stream);

/* Bytes still to come; 0 when the total is unknown or the stream was refused. */
uint32_t fl_stream_left(const struct fl_stream *stream);

/* A short stable word for a status: "ok", "too_large", "overrun", "short", "mismatch", "sink". */
const char *fl_stream_word(enum fl_stream_status status);

#endif
