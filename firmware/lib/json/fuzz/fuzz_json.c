/* However the bytes are cut, the parser says the same. */
#include "fl_json.h"

#include <stdlib.h>

/* A hash of all that the handler saw, so that two runs can be compared. */
static bool on_event(void *user, const struct fl_json_event *event)
{
    uint64_t *seen = user;

    if (event->type != FL_JSON_STRING || event->first) {
        *seen = *seen * 31u + (uint64_t)event->type * 64u + event->depth;
    }
    for (size_t i = 0; i < event->size; i++) {
        *seen = *seen * 31u + (uint8_t)event->text[i];
    }
    return true;
}

static enum fl_json_status parse(const char *bytes, size_t size, size_t piece, uint64_t *seen)
{
    struct fl_json json;

    *seen = 0;
    fl_json_begin(&json, on_event, seen);
    for (size_t at = 0; at < size; at += piece) {
        (void)fl_json_feed(&json, bytes + at, size - at < piece ? size - at : piece);
    }
    return fl_json_end(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data + 1;
    uint64_t whole_seen;
    uint64_t seen;
    enum fl_json_status whole;

    if (size < 2) {
        return 0;
    }
    whole = parse(bytes, size - 1, size, &whole_seen);
    if (parse(bytes, size - 1, data[0] % 16u + 1u, &seen) != whole) {
        abort();
    }
    if (whole == FL_JSON_OK && seen != whole_seen) {
        abort();
    }
    return 0;
}
