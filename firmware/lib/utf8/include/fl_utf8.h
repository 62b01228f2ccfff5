/*
 * UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF), a byte at a time.
 */
#ifndef FL_UTF8_H
#define FL_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fl_utf8 {
    uint8_t left; /* continuation bytes still to come; 0 between characters */
    uint8_t low;  /* bounds of the next one */
    uint8_t high;
};

void fl_utf8_begin(struct fl_utf8 *utf8);

/*
 * Whether `byte` may stand here. After a false the check starts over with the next byte: `left`
 * is 0.
 */
bool fl_utf8_feed(struct fl_utf8 *utf8, uint8_t byte);

/* Bytes of the character at the start of `bytes` (`size` >= 1), or 0 when there is no whole one. */
size_t fl_utf8_character_size(const char *bytes, size_t size);

/* Writes `code`, a scalar value, and returns how many bytes that took. */
size_t fl_utf8_encode(uint32_t code, char out[4]);

#endif
