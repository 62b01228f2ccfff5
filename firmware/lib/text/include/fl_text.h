/*
 * Bounded text: appends to a buffer of the caller's and never writes past it.
 *
 * A text that does not fit is not cut and passed on: fl_text_ok() turns false and stays so, and
 * `size` goes on counting, so that the caller learns how large the buffer would have to be.
 */
#ifndef FL_TEXT_H
#define FL_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fl_text {
    char *out;       /* the caller's; lives as long as this struct is used */
    size_t capacity; /* bytes at `out`, the terminating NUL included; at least 1 */
    size_t size;     /* bytes appended or wished for so far, without the NUL */
};

/* Starts an empty text in `out`, which holds `capacity` >= 1 bytes. */
void fl_text_begin(struct fl_text *text, char *out, size_t capacity);

/* Appends `size` bytes at `bytes`; all of them or none. The text stays NUL-terminated. */
void fl_text_put_n(struct fl_text *text, const char *bytes, size_t size);

/* Appends the NUL-terminated `string`. */
void fl_text_put(struct fl_text *text, const char *string);

/* Appends `value` in decimal. */
void fl_text_put_u64(struct fl_text *text, uint64_t value);

/* Whether everything appended so far is in the buffer. */
bool fl_text_ok(const struct fl_text *text);

/*
 * Copies the string `from` to `to`, which holds `capacity` bytes.
 * Returns false, with `to` the empty string, when it does not fit with its NUL.
 */
bool fl_text_copy(char *to, size_t capacity, const char *from);

/*
 * As fl_text_copy, for words meant only for people: what does not fit is cut at a whole UTF-8
 * character and the cut is shown as "...". `capacity` >= 4.
 */
void fl_text_excerpt(char *to, size_t capacity, const char *from);

#endif
