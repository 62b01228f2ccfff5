/* Nothing is written past a buffer, and what is in it is all that was put, or less and it says so.
 */
#include "fl_text.h"
#include "fl_utf8.h"

#include <stdlib.h>
#include <string.h>

static bool is_utf8(const char *text)
{
    size_t size = strlen(text);
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

static void check_put(const uint8_t *data, size_t size, size_t capacity)
{
    char *out = malloc(capacity);
    struct fl_text text;
    size_t total = 0;

    fl_text_begin(&text, out, capacity);
    for (size_t at = 0; at < size; at += 5) {
        size_t piece = size - at < 5 ? size - at : 5;

        fl_text_put_n(&text, (const char *)data + at, piece);
        total += piece;
    }
    if (text.size != total || fl_text_ok(&text) != (total < capacity) ||
        memchr(out, '\0', capacity) == NULL) {
        abort();
    }
    if (fl_text_ok(&text) && memcmp(out, data, size) != 0) {
        abort();
    }
    fl_text_put_u64(&text, size > 7 ? (uint64_t)data[7] << 56 : size);
    free(out);
}

static void check_excerpt(const char *from, size_t capacity)
{
    char *copy = malloc(capacity);
    char *excerpt = malloc(capacity);

    fl_text_excerpt(excerpt, capacity, from);
    if (fl_text_copy(copy, capacity, from) ? strcmp(excerpt, from) != 0 || strcmp(copy, from) != 0
                                           : copy[0] != '\0' || strstr(excerpt, "...") == NULL) {
        abort();
    }
    if (is_utf8(from) && !is_utf8(excerpt)) {
        abort();
    }
    free(copy);
    free(excerpt);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *string;

    if (size < 1) {
        return 0;
    }
    check_put(data + 1, size - 1, data[0] % 64u + 1u);
    string = calloc(1, size);
    memcpy(string, data + 1, size - 1);
    check_excerpt(string, data[0] % 64u + 4u);
    free(string);
    return 0;
}
