/*
 * JSON, written into a buffer of the caller's: commas, quotes and escapes are right by
 * construction; matching begins and ends is the caller's part.
 *
 * Strings are bytes meant to be UTF-8. What is not becomes U+FFFD, so that the document is valid
 * whatever a module wrote.
 */
#ifndef FL_JSON_WRITER_H
#define FL_JSON_WRITER_H

#include "fl_text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fl_json_writer {
    struct fl_text text;
    bool comma; /* the next value or key needs one before it */
};

/* Starts an empty document in `out`, which holds `capacity` >= 1 bytes. */
void fl_json_writer_begin(struct fl_json_writer *writer, char *out, size_t capacity);

/*
 * The document's size in bytes, without a NUL. When it is >= the capacity, the document did not
 * fit, `out` is of no use, and capacity must be at least the size plus 1.
 */
size_t fl_json_writer_end(const struct fl_json_writer *writer);

void fl_json_write_object_begin(struct fl_json_writer *writer);
void fl_json_write_object_end(struct fl_json_writer *writer);
void fl_json_write_array_begin(struct fl_json_writer *writer);
void fl_json_write_array_end(struct fl_json_writer *writer);
void fl_json_write_key(struct fl_json_writer *writer, const char *key);
void fl_json_write_string(struct fl_json_writer *writer, const char *string);
void fl_json_write_string_n(struct fl_json_writer *writer, const char *bytes, size_t size);
void fl_json_write_u64(struct fl_json_writer *writer, uint64_t value);
void fl_json_write_bool(struct fl_json_writer *writer, bool value);
void fl_json_write_null(struct fl_json_writer *writer);

#endif
