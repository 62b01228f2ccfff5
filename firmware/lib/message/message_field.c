#include "message_private.h"

#include <string.h>

#define BASE64_PIECE 64 /* characters decoded at a time */

static void *target_of(struct fl_message_decoder *decoder)
{
    return (uint8_t *)decoder->target + decoder->spec->offset;
}

static bool refuse(struct fl_message_decoder *decoder, enum fl_message_status status)
{
    return message_fail(decoder, status, decoder->spec->name);
}

static void set_filled(struct fl_message_decoder *decoder)
{
    decoder->filled |= message_bit(decoder, decoder->spec);
}

static bool is_model_uri(const char *text, size_t size)
{
    struct fl_topic topic;

    return fl_topic_match(NULL, text, size, &topic) == FL_TOPIC_MODEL;
}

/* A string of decoder->cursor characters is complete in `text`: checks what it must be. */
static bool finish_text(struct fl_message_decoder *decoder, const char *text)
{
    size_t size = decoder->cursor;

    /* An empty text says nothing, but where an id must stand it is a bad one. */
    if (size == 0 && !(decoder->spec->required && (decoder->spec->type == FIELD_ID ||
                                                   decoder->spec->type == FIELD_MODEL_URI))) {
        return true;
    }
    switch (decoder->spec->type) {
    case FIELD_ID:
        if (!fl_id_valid(text, size)) {
            return refuse(decoder, FL_MESSAGE_BAD_ID);
        }
        break;
    case FIELD_SHA256:
        if (!fl_sha256_from_hex(text, size, target_of(decoder))) {
            return refuse(decoder, FL_MESSAGE_BAD_FIELD);
        }
        break;
    case FIELD_VERDICT:
        if (strcmp(text, "accepted") != 0 && strcmp(text, "refused") != 0) {
            return refuse(decoder, FL_MESSAGE_BAD_FIELD);
        }
        *(bool *)target_of(decoder) = text[0] == 'a';
        break;
    case FIELD_MODEL_URI:
        if (!is_model_uri(text, size)) {
            return refuse(decoder, FL_MESSAGE_BAD_FIELD);
        }
        break;
    default:
        break;
    }
    set_filled(decoder);
    return true;
}

/* What a string too long for its place is refused as. */
static enum fl_message_status overflow_status(enum field_type type)
{
    switch (type) {
    case FIELD_ID:
        return FL_MESSAGE_BAD_ID;
    case FIELD_SHA256:
    case FIELD_VERDICT:
    case FIELD_MODEL_URI:
        return FL_MESSAGE_BAD_FIELD;
    default:
        return FL_MESSAGE_TOO_LARGE;
    }
}

/* Keeps the head of a sentence; the cut falls between characters and shows. */
static void append_excerpt(struct fl_message_decoder *decoder, const struct fl_json_event *event)
{
    static const char cut_mark[] = "...";
    char *out = target_of(decoder);
    size_t capacity = decoder->spec->capacity;
    size_t room;
    size_t end;

    if (decoder->cursor == capacity) {
        return; /* it was cut before */
    }
    room = capacity - 1 - decoder->cursor;
    memcpy(out + decoder->cursor, event->text, event->size < room ? event->size : room);
    if (event->size <= room) {
        decoder->cursor += event->size;
        out[decoder->cursor] = '\0';
        return;
    }
    decoder->cursor = capacity;
    end = capacity - sizeof(cut_mark);
    while (end > 0 && ((uint8_t)out[end] & 0xC0u) == 0x80u) {
        end--;
    }
    memcpy(out + end, cut_mark, sizeof(cut_mark));
}

static bool read_string(struct fl_message_decoder *decoder, const struct fl_json_event *event)
{
    bool short_text = decoder->spec->type == FIELD_SHA256 || decoder->spec->type == FIELD_VERDICT;
    char *out = short_text ? decoder->text : target_of(decoder);
    size_t capacity = short_text ? sizeof(decoder->text) : decoder->spec->capacity;

    if (event->first) {
        decoder->cursor = 0;
    }
    if (memchr(event->text, '\0', event->size) != NULL) {
        return refuse(decoder, FL_MESSAGE_BAD_FIELD);
    }
    if (decoder->spec->type == FIELD_EXCERPT) {
        append_excerpt(decoder, event);
    } else if (event->size >= capacity - decoder->cursor) {
        return refuse(decoder, overflow_status(decoder->spec->type));
    } else {
        memcpy(out + decoder->cursor, event->text, event->size);
        decoder->cursor += event->size;
    }
    if (!event->last) {
        return true;
    }
    if (decoder->spec->type != FIELD_EXCERPT) { /* that one is terminated already */
        out[decoder->cursor] = '\0';
    }
    return finish_text(decoder, out);
}

static bool read_base64(struct fl_message_decoder *decoder, const struct fl_json_event *event)
{
    uint8_t bytes[FL_BASE64_DECODED_MAX(BASE64_PIECE)];

    if (event->first) {
        fl_base64_begin(&decoder->base64);
        if (!message_open_data(decoder)) {
            return false;
        }
    }
    for (size_t at = 0; at < event->size; at += BASE64_PIECE) {
        size_t left = event->size - at;
        size_t decoded;

        if (!fl_base64_feed(&decoder->base64, event->text + at,
                            left < BASE64_PIECE ? left : BASE64_PIECE, bytes, &decoded)) {
            return refuse(decoder, FL_MESSAGE_BAD_FIELD);
        }
        message_take_data(decoder, bytes, decoded);
    }
    if (!event->last) {
        return true;
    }
    if (!fl_base64_end(&decoder->base64)) {
        return refuse(decoder, FL_MESSAGE_BAD_FIELD);
    }
    set_filled(decoder);
    return true;
}

static bool check_env(struct fl_message_decoder *decoder, enum fl_env_status status)
{
    switch (status) {
    case FL_ENV_OK:
        return true;
    case FL_ENV_FULL:
        return refuse(decoder, FL_MESSAGE_TOO_LARGE);
    default:
        return refuse(decoder, FL_MESSAGE_BAD_FIELD);
    }
}

static bool read_env(struct fl_message_decoder *decoder, const struct fl_json_event *event)
{
    struct fl_env *env = target_of(decoder);

    if (event->depth == 1) { /* the object itself */
        bool object = event->type == FL_JSON_OBJECT_BEGIN || event->type == FL_JSON_OBJECT_END;

        return object || refuse(decoder, FL_MESSAGE_BAD_FIELD);
    }
    if (event->type == FL_JSON_KEY) {
        if (memchr(event->text, '\0', event->size) != NULL) {
            return refuse(decoder, FL_MESSAGE_BAD_FIELD);
        }
        return check_env(decoder, fl_env_open(env, event->text, &decoder->cursor));
    }
    if (event->type != FL_JSON_STRING || memchr(event->text, '\0', event->size) != NULL) {
        return refuse(decoder, FL_MESSAGE_BAD_FIELD);
    }
    if (!check_env(decoder, fl_env_append(env, &decoder->cursor, event->text, event->size))) {
        return false;
    }
    if (event->last) {
        fl_env_close(env, decoder->cursor);
    }
    return true;
}

static bool read_signatures(struct fl_message_decoder *decoder, const struct fl_json_event *event)
{
    struct fl_signatures *signatures = target_of(decoder);
    struct fl_signature *signature;
    uint8_t bytes[FL_BASE64_DECODED_MAX(BASE64_PIECE)];

    if (event->depth == decoder->depth) { /* the object itself */
        bool object = event->type == FL_JSON_OBJECT_BEGIN || event->type == FL_JSON_OBJECT_END;

        return object || refuse(decoder, FL_MESSAGE_BAD_FIELD);
    }
    if (signatures->count == FL_SIGNATURES_MAX) {
        return refuse(decoder, FL_MESSAGE_BAD_FIELD);
    }
    signature = &signatures->list[signatures->count];
    if (event->type == FL_JSON_KEY) {
        return fl_key_id_from_hex(event->text, event->size, signature->key_id) ||
               refuse(decoder, FL_MESSAGE_BAD_FIELD);
    }
    if (event->type != FL_JSON_STRING) {
        return refuse(decoder, FL_MESSAGE_BAD_FIELD);
    }
    if (event->first) {
        fl_base64_begin(&decoder->base64);
        decoder->cursor = 0;
    }
    for (size_t at = 0; at < event->size; at += BASE64_PIECE) {
        size_t left = event->size - at;
        size_t decoded;

        if (!fl_base64_feed(&decoder->base64, event->text + at,
                            left < BASE64_PIECE ? left : BASE64_PIECE, bytes, &decoded) ||
            decoded > sizeof(signature->bytes) - decoder->cursor) {
            return refuse(decoder, FL_MESSAGE_BAD_FIELD);
        }
        memcpy(signature->bytes + decoder->cursor, bytes, decoded);
        decoder->cursor += decoded;
    }
    if (!event->last) {
        return true;
    }
    if (!fl_base64_end(&decoder->base64) || decoder->cursor != sizeof(signature->bytes)) {
        return refuse(decoder, FL_MESSAGE_BAD_FIELD);
    }
    signatures->count++;
    return true;
}

/* What asks for nothing is fine: false, 0, "", [] and {}. */
static bool read_forbidden(struct fl_message_decoder *decoder, const struct fl_json_event *event)
{
    const char **named = target_of(decoder);
    bool asks = event->depth > 1 || event->type == FL_JSON_TRUE ||
                (event->type == FL_JSON_STRING && event->size > 0) ||
                (event->type == FL_JSON_NUMBER && strcmp(event->text, "0") != 0);

    if (asks && *named == NULL) {
        *named = decoder->spec->name;
    }
    return true;
}

static bool read_count(struct fl_message_decoder *decoder, const struct fl_json_event *event)
{
    uint32_t *count = target_of(decoder);
    uint64_t value;

    if (event->type != FL_JSON_NUMBER ||
        !fl_json_to_u64(event->text, event->size, UINT32_MAX, &value)) {
        return refuse(decoder, FL_MESSAGE_BAD_FIELD);
    }
    *count = (uint32_t)value;
    set_filled(decoder);
    return true;
}

static bool read_number(struct fl_message_decoder *decoder, const struct fl_json_event *event)
{
    if (event->type != FL_JSON_NUMBER || event->text[0] == '-') {
        return refuse(decoder, FL_MESSAGE_BAD_FIELD);
    }
    set_filled(decoder);
    return true;
}

static bool read_flat(struct fl_message_decoder *decoder, const struct fl_json_event *event)
{
    bool object = event->type == FL_JSON_OBJECT_BEGIN || event->type == FL_JSON_OBJECT_END;
    bool scalar = event->type == FL_JSON_KEY || event->type == FL_JSON_STRING ||
                  event->type == FL_JSON_NUMBER || event->type == FL_JSON_TRUE ||
                  event->type == FL_JSON_FALSE;

    return (event->depth == decoder->depth ? object : scalar) ||
           refuse(decoder, FL_MESSAGE_BAD_FIELD);
}

/* A word of an array, or a piece of one. */
static bool append_word(struct fl_message_decoder *decoder, const struct fl_json_event *event)
{
    char *out = target_of(decoder);
    size_t end = strlen(out);
    size_t gap = event->first && end > 0 ? 1 : 0;

    for (size_t i = 0; i < event->size; i++) {
        if ((uint8_t)event->text[i] <= (uint8_t)' ') {
            return refuse(decoder, FL_MESSAGE_BAD_FIELD);
        }
    }
    if (end + gap + event->size >= decoder->spec->capacity) {
        return refuse(decoder, FL_MESSAGE_TOO_LARGE);
    }
    if (gap > 0) {
        out[end++] = ' ';
    }
    memcpy(out + end, event->text, event->size);
    out[end + event->size] = '\0';
    return true;
}

static bool read_words(struct fl_message_decoder *decoder, const struct fl_json_event *event)
{
    struct fl_json_event number = *event;

    if (event->depth == decoder->depth) { /* the array itself */
        bool array = event->type == FL_JSON_ARRAY_BEGIN || event->type == FL_JSON_ARRAY_END;

        return array || refuse(decoder, FL_MESSAGE_BAD_FIELD);
    }
    switch (event->type) {
    case FL_JSON_STRING:
        if (event->first && event->last && event->size == 0) {
            return refuse(decoder, FL_MESSAGE_BAD_FIELD);
        }
        return append_word(decoder, event);
    case FL_JSON_NUMBER:
        number.first = true;
        return append_word(decoder, &number);
    default:
        return refuse(decoder, FL_MESSAGE_BAD_FIELD);
    }
}

static bool read_args(struct fl_message_decoder *decoder, const struct fl_json_event *event)
{
    struct fl_args *args = target_of(decoder);

    if (event->depth == decoder->depth) { /* the array itself */
        bool array = event->type == FL_JSON_ARRAY_BEGIN || event->type == FL_JSON_ARRAY_END;

        return array || refuse(decoder, FL_MESSAGE_BAD_FIELD);
    }
    if ((event->type != FL_JSON_STRING && event->type != FL_JSON_NUMBER) ||
        memchr(event->text, '\0', event->size) != NULL) {
        return refuse(decoder, FL_MESSAGE_BAD_FIELD);
    }
    if (event->first || event->type == FL_JSON_NUMBER) {
        decoder->cursor = args->size;
    }
    if (!fl_args_append(args, &decoder->cursor, event->text, event->size)) {
        return refuse(decoder, FL_MESSAGE_TOO_LARGE);
    }
    if (event->last || event->type == FL_JSON_NUMBER) {
        fl_args_close(args, decoder->cursor);
    }
    return true;
}

static bool read_flag(struct fl_message_decoder *decoder, const struct fl_json_event *event)
{
    if (event->type != FL_JSON_TRUE && event->type != FL_JSON_FALSE) {
        return refuse(decoder, FL_MESSAGE_BAD_FIELD);
    }
    *(bool *)target_of(decoder) = event->type == FL_JSON_TRUE;
    return true;
}

static bool read_fl(struct fl_message_decoder *decoder, const struct fl_json_event *event)
{
    if (event->type != FL_JSON_OBJECT_BEGIN) {
        return refuse(decoder, FL_MESSAGE_BAD_FIELD);
    }
    set_filled(decoder);
    message_enter_fl(decoder);
    return true;
}

bool message_read_field(struct fl_message_decoder *decoder, const struct fl_json_event *event)
{
    if (event->type == FL_JSON_NULL && event->depth == decoder->depth) {
        return true; /* as if it were not there */
    }
    switch (decoder->spec->type) {
    case FIELD_ENV:
        return read_env(decoder, event);
    case FIELD_SIGNATURES:
        return read_signatures(decoder, event);
    case FIELD_FORBIDDEN:
        return read_forbidden(decoder, event);
    case FIELD_COUNT:
        return read_count(decoder, event);
    case FIELD_NUMBER:
        return read_number(decoder, event);
    case FIELD_FLAT:
        return read_flat(decoder, event);
    case FIELD_WORDS:
        return read_words(decoder, event);
    case FIELD_ARGS:
        return FL_ARGS_SUPPORTED && read_args(decoder, event); /* no field is one without it */
    case FIELD_FLAG:
        return read_flag(decoder, event);
    case FIELD_FL:
        return read_fl(decoder, event);
    default:
        break;
    }
    if (event->type != FL_JSON_STRING) {
        return refuse(decoder, FL_MESSAGE_BAD_FIELD);
    }
    return decoder->spec->type == FIELD_BASE64 ? read_base64(decoder, event)
                                               : read_string(decoder, event);
}
