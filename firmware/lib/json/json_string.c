#include "json_private.h"

#include <string.h>

/* A piece of the string under way: into the token if it is a key, else to the handler. */
static bool string_piece(struct fl_json *json, const char *bytes, size_t size, bool last)
{
    struct fl_json_event event = {.type = FL_JSON_STRING,
                                  .depth = json->depth,
                                  .first = json->first_fragment,
                                  .last = last,
                                  .text = bytes,
                                  .size = size};

    if (json->in_key) {
        return json_append_to_token(json, bytes, size);
    }
    if (size == 0 && !last) {
        return true;
    }
    json->first_fragment = false;
    return json_emit(json, &event);
}

void json_begin_string(struct fl_json *json, bool key)
{
    json->state = STRING;
    json->in_key = key;
    json->first_fragment = true;
    json->token_size = 0;
    fl_utf8_begin(&json->utf8);
    json->high_surrogate = 0;
}

static bool end_string(struct fl_json *json)
{
    if (json->in_key) {
        json->state = COLON;
        return json_emit_token(json, FL_JSON_KEY);
    }
    json_after_value(json);
    return string_piece(json, "", 0, true);
}

static bool emit_code_point(struct fl_json *json, uint32_t code)
{
    char utf8[4];

    return string_piece(json, utf8, fl_utf8_encode(code, utf8), false);
}

/* One UTF-16 code unit of a \u escape: a character, or one half of one. */
static bool take_code_unit(struct fl_json *json)
{
    uint32_t unit = json->escape;

    json->state = STRING;
    if (unit >= 0xDC00 && unit <= 0xDFFF) {
        uint32_t high = json->high_surrogate;

        json->high_surrogate = 0;
        return high != 0
                   ? emit_code_point(json, 0x10000u + ((high - 0xD800u) << 10) + (unit - 0xDC00u))
                   : json_fail(json, FL_JSON_UTF8);
    }
    if (json->high_surrogate != 0) {
        return json_fail(json, FL_JSON_UTF8);
    }
    if (unit >= 0xD800 && unit <= 0xDBFF) {
        json->high_surrogate = (uint16_t)unit;
        return true;
    }
    return emit_code_point(json, unit);
}

static bool step_hex(struct fl_json *json, char c)
{
    unsigned int value;

    if (json_is_digit(c)) {
        value = (unsigned int)(c - '0');
    } else if (c >= 'a' && c <= 'f') {
        value = (unsigned int)(c - 'a') + 10u;
    } else if (c >= 'A' && c <= 'F') {
        value = (unsigned int)(c - 'A') + 10u;
    } else {
        return json_fail(json, FL_JSON_SYNTAX);
    }
    json->escape = (uint16_t)((unsigned int)json->escape << 4 | value);
    return --json->escape_digits > 0 || take_code_unit(json);
}

static bool step_escape(struct fl_json *json, char c)
{
    static const char names[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    const char *found;

    if (c == 'u') {
        json->state = STRING_HEX;
        json->escape = 0;
        json->escape_digits = 4;
        return true;
    }
    if (json->high_surrogate != 0) {
        return json_fail(json, FL_JSON_UTF8);
    }
    found = c == '\0' ? NULL : strchr(names, c);
    if (found == NULL) {
        return json_fail(json, FL_JSON_SYNTAX);
    }
    json->state = STRING;
    return string_piece(json, &meanings[found - names], 1, false);
}

/* What is wrong with `byte` as the next one of a string. */
static enum fl_json_status check_byte(struct fl_json *json, uint8_t byte)
{
    if (json->high_surrogate != 0 && byte != '\\') {
        return FL_JSON_UTF8; /* its other half must come */
    }
    if (!fl_utf8_feed(&json->utf8, byte)) {
        return FL_JSON_UTF8;
    }
    return byte < 0x20 ? FL_JSON_SYNTAX : FL_JSON_OK;
}

/* Reads on up to a quote, a backslash or a refusal; returns how many bytes it took. */
static size_t step_characters(struct fl_json *json, const char *bytes, size_t size)
{
    enum fl_json_status status = FL_JSON_OK;
    size_t run = 0;

    while (run < size) {
        status = check_byte(json, (uint8_t)bytes[run]);
        if (status != FL_JSON_OK || bytes[run] == '"' || bytes[run] == '\\') {
            break;
        }
        run++;
    }
    /* Handed on before a refusal, so that it does not matter where the input was cut. */
    if (!string_piece(json, bytes, run, false) || run == size) {
        return run;
    }
    if (status != FL_JSON_OK) {
        (void)json_fail(json, status);
    } else if (bytes[run] == '\\') {
        json->state = STRING_ESCAPE;
    } else {
        (void)end_string(json);
    }
    return run + 1;
}

size_t json_step_string(struct fl_json *json, const char *bytes, size_t size)
{
    if (json->state == STRING) {
        return step_characters(json, bytes, size);
    }
    if (json->state == STRING_ESCAPE) {
        (void)step_escape(json, bytes[0]);
    } else {
        (void)step_hex(json, bytes[0]);
    }
    return 1;
}
