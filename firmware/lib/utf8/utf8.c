#include "fl_utf8.h"

void fl_utf8_begin(struct fl_utf8 *utf8)
{
    utf8->left = 0;
    utf8->low = 0x80;
    utf8->high = 0xBF;
}

bool fl_utf8_feed(struct fl_utf8 *utf8, uint8_t byte)
{
    if (utf8->left > 0) {
        uint8_t left = (uint8_t)(utf8->left - 1u);
        bool ok = byte >= utf8->low && byte <= utf8->high;

        fl_utf8_begin(utf8);
        utf8->left = ok ? left : 0;
        return ok;
    }
    fl_utf8_begin(utf8);
    if (byte < 0x80) {
        return true;
    }
    if (byte >= 0xC2 && byte <= 0xDF) {
        utf8->left = 1;
    } else if (byte >= 0xE0 && byte <= 0xEF) {
        utf8->left = 2;
        utf8->low = byte == 0xE0 ? 0xA0 : 0x80;  /* shorter forms exist below */
        utf8->high = byte == 0xED ? 0x9F : 0xBF; /* surrogates lie above */
    } else if (byte >= 0xF0 && byte <= 0xF4) {
        utf8->left = 3;
        utf8->low = byte == 0xF0 ? 0x90 : 0x80;
        utf8->high = byte == 0xF4 ? 0x8F : 0xBF; /* U+10FFFF is the last */
    } else {
        return false;
    }
    return true;
}

size_t fl_utf8_character_size(const char *bytes, size_t size)
{
    struct fl_utf8 utf8;

    fl_utf8_begin(&utf8);
    for (size_t i = 0; i < size; i++) {
        if (!fl_utf8_feed(&utf8, (uint8_t)bytes[i])) {
            return 0;
        }
        if (utf8.left == 0) {
            return i + 1;
        }
    }
    return 0;
}

size_t fl_utf8_encode(uint32_t code, char out[4])
{
    size_t size;

    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xC0u | code >> 6);
        size = 2;
    } else if (code < 0x10000) {
        out[0] = (char)(0xE0u | code >> 12);
        size = 3;
    } else {
        out[0] = (char)(0xF0u | code >> 18);
        size = 4;
    }
    for (size_t i = 1; i < size; i++) {
        out[i] = (char)(0x80u | (code >> (6u * (size - 1 - i)) & 0x3Fu));
    }
    return size;
}
