/* What the two halves of the parser share: json.c (structure) and json_string.c (strings). */
#ifndef JSON_PRIVATE_H
#define JSON_PRIVATE_H

#include "fl_json.h"

enum json_state {
    VALUE,          /* a value must come */
    VALUE_OR_CLOSE, /* just after '[' */
    KEY_OR_CLOSE,   /* just after '{' */
    KEY,            /* after ',' in an object */
    COLON,
    COMMA_OR_CLOSE,
    STRING,
    STRING_ESCAPE,
    STRING_HEX,
    NUMBER_MINUS, /* a digit must come */
    NUMBER_ZERO,  /* no further digit may */
    NUMBER_INTEGER,
    NUMBER_POINT, /* a digit must come */
    NUMBER_FRACTION,
    NUMBER_E,      /* a sign or a digit must come */
    NUMBER_E_SIGN, /* a digit must come */
    NUMBER_EXPONENT,
    LITERAL,
    DONE,
};

/* Records a refusal; always false, so that it can end an expression. */
bool json_fail(struct fl_json *json, enum fl_json_status status);

/* Hands an event on. */
bool json_emit(struct fl_json *json, const struct fl_json_event *event);

/* Hands on the token, terminated, as an event of `type`. */
bool json_emit_token(struct fl_json *json, enum fl_json_type type);

/* Grows the token, up to its limit. */
bool json_append_to_token(struct fl_json *json, const char *bytes, size_t size);

/* A value is complete: what may come next. */
void json_after_value(struct fl_json *json);

bool json_is_digit(char c);

/* A quote was read: a key or a value begins. */
void json_begin_string(struct fl_json *json, bool key);

/* Reads on in a string (STRING, STRING_ESCAPE, STRING_HEX); returns how many bytes it took. */
size_t json_step_string(struct fl_json *json, const char *bytes, size_t size);

#endif
