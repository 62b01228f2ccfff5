/*
 * What the parts of the codec share: message.c (the kinds and their fields) and message_field.c
 * (reading one field).
 */
#ifndef MESSAGE_PRIVATE_H
#define MESSAGE_PRIVATE_H

#include "fl_message.h"

enum field_type {
    FIELD_STRING,     /* a string, whole or refused */
    FIELD_EXCERPT,    /* a string for people: a long one is kept in part */
    FIELD_ID,         /* a string that is an id */
    FIELD_SHA256,     /* 64 hexadecimal characters; 32 bytes at the target */
    FIELD_VERDICT,    /* "accepted" or "refused"; a bool at the target */
    FIELD_COUNT,      /* an unsigned integer of 32 bits */
    FIELD_ENV,        /* an object of strings */
    FIELD_SIGNATURES, /* an object of signatures in base64, by the id of the key */
    FIELD_BASE64,     /* a string for the stream */
    FIELD_MODEL_URI,  /* a string that is a model's topic, without prefix */
    FIELD_NUMBER,     /* a number, not negative; not kept */
    FIELD_FLAT,       /* an object of strings, numbers and booleans; not kept */
    FIELD_WORDS,      /* an array of numbers and strings, one blank between two at the target */
    FIELD_ARGS,       /* an array of strings and numbers; a struct fl_args at the target */
    FIELD_FLAG,       /* true or false; a bool at the target */
    FIELD_FL,         /* an object with fields of its own */
    FIELD_FORBIDDEN,  /* what this proplet cannot do: a const char * at the target names it */
};

struct fl_field {
    const char *name; /* for errors; inside "fl" it begins so. NULL ends a table */
    uint8_t type;
    bool required;
    uint16_t offset;   /* of the target within the message */
    uint16_t capacity; /* bytes of a string's target, with its NUL */
};

/* Records a refusal; always false, so that it can end an expression. */
bool message_fail(struct fl_message_decoder *decoder, enum fl_message_status status,
                  const char *field);

/* The field of that name and its bit in `seen` and `filled`, or NULL. */
const struct fl_field *message_find_field(const struct fl_message_decoder *decoder,
                                          const char *name);
uint32_t message_bit(const struct fl_message_decoder *decoder, const struct fl_field *field);

/* Handles a JSON event inside the message's object that belongs to decoder->spec. */
bool message_read_field(struct fl_message_decoder *decoder, const struct fl_json_event *event);

/* Goes on with the fields of "fl", whose object has just begun. */
void message_enter_fl(struct fl_message_decoder *decoder);

/*
 * Hooks of message.c into base64 fields: before the first byte (false: refused; the decoder's
 * stream says where the bytes go), and for what was decoded.
 */
bool message_open_data(struct fl_message_decoder *decoder);
void message_take_data(struct fl_message_decoder *decoder, const uint8_t *bytes, size_t size);

#endif
