/* A character that is accepted is the one and only form of its code. */
#include "fl_utf8.h"

#include <stdlib.h>
#include <string.h>

static uint32_t code_of(const uint8_t *bytes, size_t size)
{
    static const uint8_t head_bits[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    uint32_t code = bytes[0] & head_bits[size];

    for (size_t i = 1; i < size; i++) {
        code = code << 6 | (bytes[i] & 0x3Fu);
    }
    return code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fl_utf8 utf8;
    size_t at = 0;

    while (at < size) {
        char again[4];
        size_t taken = fl_utf8_character_size((const char *)data + at, size - at);

        if (taken > 4 || taken > size - at) {
            abort();
        }
        if (taken > 0) {
            uint32_t code = code_of(data + at, taken);

            if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF) ||
                fl_utf8_encode(code, again) != taken || memcmp(again, data + at, taken) != 0) {
                abort();
            }
        }
        at += taken == 0 ? 1 : taken;
    }
    fl_utf8_begin(&utf8);
    for (at = 0; at < size; at++) {
        if (!fl_utf8_feed(&utf8, data[at]) && utf8.left != 0) {
            abort();
        }
    }
    return 0;
}
