#include "fl_source.h"

#include "fl_env.h"
#include "fl_memory.h"
#include "fl_platform.h"
#include "fl_report.h"

#include <stddef.h>

static struct {
    const struct fl_source *source;
    uint32_t start; /* where the buffer lies in the source */
    uint32_t at;
    uint32_t size;
    uint8_t buffer[256];
} cursor;

void fl_source_open(struct fl_source *source, const char *name, const char *path,
                    const char *variable)
{
    uint32_t status = fl_platform_open(path, &source->fd);

    if (status == 0) {
        source->name = name;
        source->memory = NULL;
        return;
    }
    if (status != FL_ABSENT) {
        fl_fail("%s: %s: WASI error %u", name, path, status);
    }
    const char *text = fl_env(variable);
    if (text == NULL) {
        fl_fail("%s: neither %s nor %s is there", name, path, variable);
    }
    fl_source_text(source, name, text);
}

void fl_source_text(struct fl_source *source, const char *name, const char *text)
{
    source->name = name;
    source->memory = (const uint8_t *)text;
    source->memory_size = fl_length(text);
}

/* Copies up to `size` bytes; returns how many there were. */
static uint32_t read_some(const struct fl_source *source, uint32_t offset, void *bytes,
                          uint32_t size)
{
    uint32_t count;

    if (source->memory != NULL) {
        uint32_t left = offset < source->memory_size ? source->memory_size - offset : 0;

        count = size < left ? size : left;
        memcpy(bytes, source->memory + (source->memory_size - left), count);
        return count;
    }
    uint32_t status = fl_platform_read_at(source->fd, offset, bytes, size, &count);
    if (status != 0) {
        fl_fail("%s: cannot be read: WASI error %u", source->name, status);
    }
    return count;
}

void fl_source_read(const struct fl_source *source, uint32_t offset, void *bytes, uint32_t size)
{
    uint32_t count = read_some(source, offset, bytes, size);

    if (count < size) {
        fl_fail("%s: byte %u: the end, %u bytes too early", source->name, offset + count,
                size - count);
    }
}

void fl_cursor_begin(const struct fl_source *source, uint32_t offset)
{
    cursor.source = source;
    cursor.start = offset;
    cursor.at = 0;
    cursor.size = 0;
}

uint32_t fl_cursor_offset(void)
{
    return cursor.start + cursor.at;
}

int fl_peek(void)
{
    if (cursor.at == cursor.size) {
        cursor.start += cursor.at;
        cursor.at = 0;
        cursor.size = read_some(cursor.source, cursor.start, cursor.buffer, sizeof cursor.buffer);
        if (cursor.size == 0) {
            return -1;
        }
    }
    return cursor.buffer[cursor.at];
}

uint32_t fl_next(void)
{
    int byte = fl_peek();

    if (byte < 0) {
        fl_expected("more bytes");
    }
    cursor.at++;
    return (uint32_t)byte;
}

void fl_skip(uint32_t size)
{
    uint32_t offset = fl_cursor_offset();
    uint8_t last;

    if (size == 0) {
        return;
    }
    /* Whether the last byte is there tells whether all are. */
    if (size > UINT32_MAX - offset || read_some(cursor.source, offset + size - 1, &last, 1) == 0) {
        fl_expected("more bytes");
    }
    fl_cursor_begin(cursor.source, offset + size);
}

void fl_expected(const char *what)
{
    fl_fail("%s: byte %u: %s expected", cursor.source->name, fl_cursor_offset(), what);
}
