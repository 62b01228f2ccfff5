#include "fl_text.h"

#include <string.h>

void fl_text_begin(struct fl_text *text, char *out, size_t capacity)
{
    text->out = out;
    text->capacity = capacity;
    text->size = 0;
    out[0] = '\0';
}

void fl_text_put_n(struct fl_text *text, const char *bytes, size_t size)
{
    /* Once something did not fit, `size` is at least the capacity, so nothing ever follows a gap.
     */
    if (text->size < text->capacity && size < text->capacity - text->size) {
        memcpy(text->out + text->size, bytes, size);
        text->out[text->size + size] = '\0';
    }
    text->size = size > SIZE_MAX - text->size ? SIZE_MAX : text->size + size;
}

void fl_text_put(struct fl_text *text, const char *string)
{
    fl_text_put_n(text, string, strlen(string));
}

void fl_text_put_u64(struct fl_text *text, uint64_t value)
{
    char digits[20]; /* 2^64 has 20 */
    size_t first = sizeof(digits);

    do {
        digits[--first] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    fl_text_put_n(text, digits + first, sizeof(digits) - first);
}

bool fl_text_ok(const struct fl_text *text)
{
    return text->size < text->capacity;
}

bool fl_text_copy(char *to, size_t capacity, const char *from)
{
    size_t size = strlen(from);

    if (size >= capacity) {
        to[0] = '\0';
        return false;
    }
    memcpy(to, from, size + 1);
    return true;
}

void fl_text_excerpt(char *to, size_t capacity, const char *from)
{
    static const char cut_mark[] = "...";
    size_t size;

    if (fl_text_copy(to, capacity, from)) {
        return;
    }
    size = capacity - sizeof(cut_mark);
    /* A continuation byte at the cut belongs to a character that does not fit whole. */
    while (size > 0 && ((uint8_t)from[size] & 0xC0u) == 0x80u) {
        size--;
    }
    memcpy(to, from, size);
    memcpy(to + size, cut_mark, sizeof(cut_mark));
}
