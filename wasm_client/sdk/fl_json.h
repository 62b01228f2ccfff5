/* The tokens of JSON (RFC 8259), from a cursor. Every function fails (fl_fail) on anything else. */
#ifndef FL_JSON_H
#define FL_JSON_H

#include "fl_number.h"
#include "fl_source.h"

#include <stdbool.h>
#include <stdint.h>

/* The next byte that is not white space, which stays; -1 at the end. */
int fl_json_peek(void);

/* Goes past white space and `byte`. */
void fl_json_expect(char byte);

/*
 * A string, as it is written between its quotes: escapes stay, since no name that is looked for
 * needs one. Puts up to `capacity` - 1 bytes and a NUL into `text`, and returns the
 * whole length; a result of `capacity` or more says that the string did not fit.
 */
uint32_t fl_json_string(char *text, uint32_t capacity);

/* A number. */
void fl_json_number(struct fl_decimal *decimal);

/*
 * Goes to the next member of an object, or past the object's end, after which nothing may follow.
 * `first` is true for the first call, after the brace. Returns whether there is a member.
 */
bool fl_json_member(bool first);

#endif
