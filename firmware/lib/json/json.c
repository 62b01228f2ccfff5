#include "json_private.h"

#include <string.h>

/*
 * One byte at a time through a state; the nesting is a bit a level in `is_object`, so that there
 * is no stack to overflow. Runs of plain characters in a string go to the handler as they lie in
 * the input, without a copy.
 */

_Static_assert(FL_JSON_DEPTH_MAX <= 32, "is_object has 32 bits");

static const struct {
    const char *word;
    enum fl_json_type type;
} literals[] = {
    {"true", FL_JSON_TRUE},
    {"false", FL_JSON_FALSE},
    {"null", FL_JSON_NULL},
};

bool json_fail(struct fl_json *json, enum fl_json_status status)
{
    json->status = status;
    return false;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

bool json_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool json_emit(struct fl_json *json, const struct fl_json_event *event)
{
    return json->handler(json->user, event) || json_fail(json, FL_JSON_STOPPED);
}

static bool emit_plain(struct fl_json *json, enum fl_json_type type)
{
    const struct fl_json_event event = {.type = type, .depth = json->depth};

    return json_emit(json, &event);
}

bool json_emit_token(struct fl_json *json, enum fl_json_type type)
{
    const struct fl_json_event event = {
        .type = type, .depth = json->depth, .text = json->token, .size = json->token_size};

    json->token[json->token_size] = '\0';
    return json_emit(json, &event);
}

bool json_append_to_token(struct fl_json *json, const char *bytes, size_t size)
{
    if (size > FL_JSON_TOKEN_MAX - (size_t)json->token_size) {
        return json_fail(json, FL_JSON_TOO_LONG);
    }
    memcpy(json->token + json->token_size, bytes, size);
    json->token_size = (uint8_t)(json->token_size + size);
    return true;
}

void json_after_value(struct fl_json *json)
{
    json->state = json->depth == 0 ? DONE : COMMA_OR_CLOSE;
}

static bool open_container(struct fl_json *json, bool object)
{
    if (json->depth == FL_JSON_DEPTH_MAX) {
        return json_fail(json, FL_JSON_TOO_DEEP);
    }
    if (!emit_plain(json, object ? FL_JSON_OBJECT_BEGIN : FL_JSON_ARRAY_BEGIN)) {
        return false;
    }
    if (object) {
        json->is_object |= (uint32_t)1 << json->depth;
    } else {
        json->is_object &= ~((uint32_t)1 << json->depth);
    }
    json->depth++;
    json->state = object ? KEY_OR_CLOSE : VALUE_OR_CLOSE;
    return true;
}

static bool in_object(const struct fl_json *json)
{
    return (json->is_object >> (json->depth - 1u) & 1u) != 0;
}

static bool close_container(struct fl_json *json, bool object)
{
    if (in_object(json) != object) {
        return json_fail(json, FL_JSON_SYNTAX);
    }
    json->depth--;
    json_after_value(json);
    return emit_plain(json, object ? FL_JSON_OBJECT_END : FL_JSON_ARRAY_END);
}

static bool begin_value(struct fl_json *json, char c)
{
    switch (c) {
    case '{':
        return open_container(json, true);
    case '[':
        return open_container(json, false);
    case '"':
        json_begin_string(json, false);
        return true;
    default:
        break;
    }
    json->token_size = 0;
    if (c == '-' || json_is_digit(c)) {
        json->state = c == '-' ? NUMBER_MINUS : c == '0' ? NUMBER_ZERO : NUMBER_INTEGER;
        return json_append_to_token(json, &c, 1);
    }
    for (size_t i = 0; i < sizeof(literals) / sizeof(literals[0]); i++) {
        if (c == literals[i].word[0]) {
            json->literal = (uint8_t)i;
            json->token_size = 1;
            json->state = LITERAL;
            return true;
        }
    }
    return json_fail(json, FL_JSON_SYNTAX);
}

static bool step_literal(struct fl_json *json, char c)
{
    const char *word = literals[json->literal].word;

    if (c != word[json->token_size]) {
        return json_fail(json, FL_JSON_SYNTAX);
    }
    json->token_size++;
    if (word[json->token_size] != '\0') {
        return true;
    }
    json_after_value(json);
    return emit_plain(json, literals[json->literal].type);
}

/* The state after `c` in a number; DONE when `c` is no longer part of it. */
static uint8_t next_number_state(uint8_t state, char c)
{
    switch (state) {
    case NUMBER_MINUS:
        return c == '0' ? NUMBER_ZERO : json_is_digit(c) ? NUMBER_INTEGER : DONE;
    case NUMBER_ZERO:
    case NUMBER_INTEGER:
        if (c == '.') {
            return NUMBER_POINT;
        }
        if (c == 'e' || c == 'E') {
            return NUMBER_E;
        }
        return state == NUMBER_INTEGER && json_is_digit(c) ? NUMBER_INTEGER : DONE;
    case NUMBER_POINT:
        return json_is_digit(c) ? NUMBER_FRACTION : DONE;
    case NUMBER_FRACTION:
        return json_is_digit(c) ? NUMBER_FRACTION : c == 'e' || c == 'E' ? NUMBER_E : DONE;
    case NUMBER_E:
        return json_is_digit(c) ? NUMBER_EXPONENT : c == '+' || c == '-' ? NUMBER_E_SIGN : DONE;
    default:
        return json_is_digit(c) ? NUMBER_EXPONENT : DONE;
    }
}

static bool end_number(struct fl_json *json)
{
    bool whole = json->state == NUMBER_ZERO || json->state == NUMBER_INTEGER ||
                 json->state == NUMBER_FRACTION || json->state == NUMBER_EXPONENT;

    if (!whole) {
        return json_fail(json, FL_JSON_SYNTAX);
    }
    json_after_value(json);
    return json_emit_token(json, FL_JSON_NUMBER);
}

/* Between values: white space and punctuation. */
static bool step_structure(struct fl_json *json, char c)
{
    if (is_space(c)) {
        return true;
    }
    switch (json->state) {
    case VALUE_OR_CLOSE:
        if (c == ']') {
            return close_container(json, false);
        }
        return begin_value(json, c);
    case VALUE:
        return begin_value(json, c);
    case KEY_OR_CLOSE:
        if (c == '}') {
            return close_container(json, true);
        }
        /* fall through */
    case KEY:
        if (c != '"') {
            return json_fail(json, FL_JSON_SYNTAX);
        }
        json_begin_string(json, true);
        return true;
    case COLON:
        json->state = VALUE;
        return c == ':' || json_fail(json, FL_JSON_SYNTAX);
    case COMMA_OR_CLOSE:
        if (c == ',') {
            json->state = in_object(json) ? KEY : VALUE;
            return true;
        }
        if (c == '}' || c == ']') {
            return close_container(json, c == '}');
        }
        return json_fail(json, FL_JSON_SYNTAX);
    default: /* DONE: nothing may follow */
        return json_fail(json, FL_JSON_SYNTAX);
    }
}

void fl_json_begin(struct fl_json *json, fl_json_handler handler, void *user)
{
    memset(json, 0, sizeof(*json));
    json->handler = handler;
    json->user = user;
    json->state = VALUE;
}

/* Takes one byte, or a run of string characters; returns how many bytes it took. */
static size_t step(struct fl_json *json, const char *bytes, size_t size)
{
    char c = bytes[0];

    switch (json->state) {
    case STRING:
    case STRING_ESCAPE:
    case STRING_HEX:
        return json_step_string(json, bytes, size);
    case LITERAL:
        (void)step_literal(json, c);
        return 1;
    case NUMBER_MINUS:
    case NUMBER_ZERO:
    case NUMBER_INTEGER:
    case NUMBER_POINT:
    case NUMBER_FRACTION:
    case NUMBER_E:
    case NUMBER_E_SIGN:
    case NUMBER_EXPONENT: {
        uint8_t next = next_number_state(json->state, c);

        if (next == DONE) { /* `c` is not part of it: it is read again as structure */
            (void)end_number(json);
            return 0;
        }
        json->state = next;
        (void)json_append_to_token(json, &c, 1);
        return 1;
    }
    default:
        (void)step_structure(json, c);
        return 1;
    }
}

enum fl_json_status fl_json_feed(struct fl_json *json, const char *bytes, size_t size)
{
    size_t at = 0;

    while (at < size && json->status == FL_JSON_OK) {
        at += step(json, bytes + at, size - at);
    }
    return json->status;
}

enum fl_json_status fl_json_end(struct fl_json *json)
{
    if (json->status == FL_JSON_OK && json->depth == 0 && json->state >= NUMBER_MINUS &&
        json->state <= NUMBER_EXPONENT) {
        (void)end_number(json); /* a bare number ends with the document */
    }
    if (json->status == FL_JSON_OK && json->state != DONE) {
        json->status = FL_JSON_INCOMPLETE;
    }
    return json->status;
}

bool fl_json_to_u64(const char *text, size_t size, uint64_t max, uint64_t *value)
{
    uint64_t sum = 0;

    if (size == 0) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        uint64_t digit;

        if (!json_is_digit(text[i])) {
            return false;
        }
        digit = (uint64_t)(text[i] - '0');
        if (digit > max || sum > (max - digit) / 10u) {
            return false;
        }
        sum = sum * 10u + digit;
    }
    *value = sum;
    return true;
}
