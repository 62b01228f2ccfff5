/* Whatever bytes a string is made of, the document is JSON, and says them where they are UTF-8. */
#include "fl_json.h"
#include "fl_json_writer.h"

#include <stdlib.h>
#include <string.h>

#define STRING_MAX 1024

struct seen {
    char text[3 * STRING_MAX]; /* what is not UTF-8 becomes three bytes */
    size_t size;
};

static bool on_event(void *user, const struct fl_json_event *event)
{
    struct seen *seen = user;

    if (event->type == FL_JSON_STRING) {
        if (event->size > sizeof(seen->text) - seen->size) {
            abort();
        }
        memcpy(seen->text + seen->size, event->text, event->size);
        seen->size += event->size;
    }
    return true;
}

static bool is_utf8(const char *text, size_t size)
{
    size_t at = 0;

    while (at < size) {
        size_t taken = fl_utf8_character_size(text + at, size - at);

        if (taken == 0) {
            return false;
        }
        at += taken;
    }
    return true;
}

static size_t write_document(char *out, size_t capacity, const char *bytes, size_t size)
{
    struct fl_json_writer writer;

    fl_json_writer_begin(&writer, out, capacity);
    fl_json_write_object_begin(&writer);
    fl_json_write_key(&writer, "key");
    fl_json_write_array_begin(&writer);
    fl_json_write_string_n(&writer, bytes, size);
    fl_json_write_u64(&writer, size);
    fl_json_write_bool(&writer, size % 2 == 0);
    fl_json_write_null(&writer);
    fl_json_write_array_end(&writer);
    fl_json_write_object_end(&writer);
    return fl_json_writer_end(&writer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char document[6 * STRING_MAX + 64]; /* an escape has up to six */
    static struct seen seen;
    struct fl_json json;
    const char *bytes = (const char *)data;
    size_t written;
    char *place;

    if (size > STRING_MAX) {
        return 0;
    }
    written = write_document(document, sizeof(document), bytes, size);
    seen.size = 0;
    fl_json_begin(&json, on_event, &seen);
    (void)fl_json_feed(&json, document, written);
    if (written >= sizeof(document) || fl_json_end(&json) != FL_JSON_OK) {
        abort();
    }
    if (is_utf8(bytes, size) && (seen.size != size || memcmp(seen.text, bytes, size) != 0)) {
        abort();
    }
    place = malloc(size + 1); /* too small for it: its size is told, and nothing is written past */
    if (write_document(place, size + 1, bytes, size) != written) {
        abort();
    }
    free(place);
    return 0;
}
