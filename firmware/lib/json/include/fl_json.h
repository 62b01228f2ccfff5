/*
 * JSON (RFC 8259), read as it arrives.
 *
 * A push parser: the caller feeds bytes in pieces of any size and a handler gets one event for each
 * thing found. Nothing is allocated, nothing recurses, and a string value may be of any length,
 * because it is handed on in fragments; so a message of any size is read in constant memory.
 *
 * Refused, each with its own status: what is not JSON, invalid UTF-8 (lone surrogates included),
 * nesting deeper than FL_JSON_DEPTH_MAX, a key or a number longer than FL_JSON_TOKEN_MAX.
 */
#ifndef FL_JSON_H
#define FL_JSON_H

#include "fl_utf8.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FL_JSON_DEPTH_MAX 32 /* objects and arrays inside one another */
#define FL_JSON_TOKEN_MAX 64 /* bytes of a key (unescaped) or of a number */

enum fl_json_status {
    FL_JSON_OK,
    FL_JSON_SYNTAX,     /* this is not JSON */
    FL_JSON_UTF8,       /* not UTF-8, or an escape that names half a character */
    FL_JSON_TOO_DEEP,   /* more than FL_JSON_DEPTH_MAX levels */
    FL_JSON_TOO_LONG,   /* a key or a number of more than FL_JSON_TOKEN_MAX bytes */
    FL_JSON_INCOMPLETE, /* the bytes ended before the value did (fl_json_end only) */
    FL_JSON_STOPPED,    /* the handler returned false */
};

enum fl_json_type {
    FL_JSON_OBJECT_BEGIN,
    FL_JSON_OBJECT_END,
    FL_JSON_ARRAY_BEGIN,
    FL_JSON_ARRAY_END,
    FL_JSON_KEY,    /* text, size: the whole key, unescaped, NUL-terminated */
    FL_JSON_STRING, /* text, size: a fragment, unescaped, not terminated; `last` on the last one */
    FL_JSON_NUMBER, /* text, size: as it was written, NUL-terminated */
    FL_JSON_TRUE,
    FL_JSON_FALSE,
    FL_JSON_NULL,
};

struct fl_json_event {
    enum fl_json_type type;
    /*
     * Containers around the thing: 0 for the outermost value, 1 for a key or a value of the
     * outermost object. A container's begin and end have the same depth.
     */
    uint8_t depth;
    bool first;       /* FL_JSON_STRING: the value's first fragment */
    bool last;        /* FL_JSON_STRING: the value's last fragment, which may be empty */
    const char *text; /* valid during the call only */
    size_t size;
};

/* Returns false to stop the parser. `user` is what fl_json_begin was given. */
typedef bool (*fl_json_handler)(void *user, const struct fl_json_event *event);

/* All private; it is here so that the caller can place it. */
struct fl_json {
    fl_json_handler handler;
    void *user;
    enum fl_json_status status;
    uint8_t state;
    uint8_t depth;
    uint8_t escape_digits; /* hexadecimal digits of \uXXXX still to come */
    struct fl_utf8 utf8;
    bool in_key;
    bool first_fragment;
    uint16_t escape;         /* code unit under way */
    uint16_t high_surrogate; /* 0, or the half that waits for its other half */
    uint32_t is_object;      /* one bit a level */
    uint8_t token_size;
    uint8_t literal; /* which of true, false, null */
    char token[FL_JSON_TOKEN_MAX + 1];
};

/* Starts a document. `handler` and `user` must stay valid until fl_json_end. */
void fl_json_begin(struct fl_json *json, fl_json_handler handler, void *user);

/*
 * Reads `size` bytes. Returns FL_JSON_OK or the reason of the refusal, which stays: feeding more
 * returns it again.
 */
enum fl_json_status fl_json_feed(struct fl_json *json, const char *bytes, size_t size);

/* Ends the document: exactly one whole value must have been fed. */
enum fl_json_status fl_json_end(struct fl_json *json);

/*
 * Reads a number event's text as an unsigned integer. Returns false for a sign, a fraction, an
 * exponent, or a value above `max`.
 */
bool fl_json_to_u64(const char *text, size_t size, uint64_t max, uint64_t *value);

#endif
