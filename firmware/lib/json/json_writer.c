#include "fl_json_writer.h"

#include "fl_utf8.h"

#include <string.h>

void fl_json_writer_begin(struct fl_json_writer *writer, char *out, size_t capacity)
{
    fl_text_begin(&writer->text, out, capacity);
    writer->comma = false;
}

size_t fl_json_writer_end(const struct fl_json_writer *writer)
{
    return writer->text.size;
}

static void separate(struct fl_json_writer *writer)
{
    if (writer->comma) {
        fl_text_put(&writer->text, ",");
    }
    writer->comma = true;
}

static void open_container(struct fl_json_writer *writer, const char *bracket)
{
    separate(writer);
    fl_text_put(&writer->text, bracket);
    writer->comma = false;
}

static void close_container(struct fl_json_writer *writer, const char *bracket)
{
    fl_text_put(&writer->text, bracket);
    writer->comma = true;
}

void fl_json_write_object_begin(struct fl_json_writer *writer)
{
    open_container(writer, "{");
}

void fl_json_write_object_end(struct fl_json_writer *writer)
{
    close_container(writer, "}");
}

void fl_json_write_array_begin(struct fl_json_writer *writer)
{
    open_container(writer, "[");
}

void fl_json_write_array_end(struct fl_json_writer *writer)
{
    close_container(writer, "]");
}

void fl_json_write_key(struct fl_json_writer *writer, const char *key)
{
    fl_json_write_string(writer, key);
    fl_text_put(&writer->text, ":");
    writer->comma = false;
}

static void put_escape(struct fl_text *text, uint8_t control)
{
    static const char digits[] = "0123456789abcdef";
    char escape[] = "\\u00..";

    switch (control) {
    case '\n':
        fl_text_put(text, "\\n");
        return;
    case '\r':
        fl_text_put(text, "\\r");
        return;
    case '\t':
        fl_text_put(text, "\\t");
        return;
    default:
        escape[4] = digits[control >> 4];
        escape[5] = digits[control & 15u];
        fl_text_put(text, escape);
    }
}

void fl_json_write_string(struct fl_json_writer *writer, const char *string)
{
    fl_json_write_string_n(writer, string, strlen(string));
}

void fl_json_write_string_n(struct fl_json_writer *writer, const char *bytes, size_t size)
{
    struct fl_text *text = &writer->text;
    size_t at = 0;

    separate(writer);
    fl_text_put(text, "\"");
    while (at < size) {
        uint8_t byte = (uint8_t)bytes[at];
        size_t taken = fl_utf8_character_size(bytes + at, size - at);

        if (taken == 0) {
            fl_text_put(text, "\xEF\xBF\xBD"); /* U+FFFD */
            taken = 1;
        } else if (byte == '"' || byte == '\\') {
            fl_text_put(text, byte == '"' ? "\\\"" : "\\\\");
        } else if (byte < 0x20) {
            put_escape(text, byte);
        } else {
            fl_text_put_n(text, bytes + at, taken);
        }
        at += taken;
    }
    fl_text_put(text, "\"");
}

void fl_json_write_u64(struct fl_json_writer *writer, uint64_t value)
{
    separate(writer);
    fl_text_put_u64(&writer->text, value);
}

void fl_json_write_bool(struct fl_json_writer *writer, bool value)
{
    separate(writer);
    fl_text_put(&writer->text, value ? "true" : "false");
}

void fl_json_write_null(struct fl_json_writer *writer)
{
    separate(writer);
    fl_text_put(&writer->text, "null");
}
