/*
 * Floats as text, exactly: a text becomes the nearest float, ties to even, and a float becomes the
 * shortest digits that read back as the same one, without an exponent. Floats are bit patterns and
 * all is done in integers, so that a core without a floating-point unit needs no library for them.
 */
#ifndef FL_FLOAT_H
#define FL_FLOAT_H

#include "fl_text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FL_FLOAT_READ_MAX 127 /* characters of a text that is read */
#define FL_FLOAT_TEXT_MAX                                                                          \
    327 /* bytes of the longest text that is written: a sign, "0.", 324 more */

enum fl_float_format {
    FL_FLOAT_F32, /* IEEE 754 binary32, in the low 32 bits */
    FL_FLOAT_F64,
};

/*
 * Reads the `size` characters at `text`: a sign, digits with at most one point in or around them,
 * and an exponent, of which all but the digits may be absent; or "inf", "infinity" or "nan" in any
 * case, with a sign. What is too large is an infinity, as the standard has it. Returns false, with
 * `*bits` as it was, for anything else, and for a text longer than FL_FLOAT_READ_MAX.
 */
bool fl_float_read(const char *text, size_t size, enum fl_float_format format, uint64_t *bits);

/* Appends a float: "8", "-0", "0.1", "0.0000001", "inf", "-inf", "nan". */
void fl_float_put(struct fl_text *text, enum fl_float_format format, uint64_t bits);

#endif
