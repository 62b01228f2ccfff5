/* However a text is cut, it decodes to the same; and what is decoded has this text and no other. */
#include "fl_base64.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 4096

/* Returns whether it is base64; what it says is in `out`, of TEXT_MAX bytes. */
static bool decode(const char *text, size_t size, size_t piece, uint8_t *out, size_t *out_size)
{
    struct fl_base64 decoder;

    *out_size = 0;
    fl_base64_begin(&decoder);
    for (size_t at = 0; at < size; at += piece) {
        size_t count;
        size_t room = FL_BASE64_DECODED_MAX(piece);
        uint8_t *place = malloc(room); /* of its exact size, for the sanitizer */
        bool ok = fl_base64_feed(&decoder, text + at, size - at < piece ? size - at : piece, place,
                                 &count);

        if (count > room) {
            abort();
        }
        memcpy(out + *out_size, place, count);
        *out_size += count;
        free(place);
        if (!ok) {
            return false;
        }
    }
    return fl_base64_end(&decoder);
}

static size_t encode(const uint8_t *bytes, size_t size, char *text)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t written = 0;

    for (size_t at = 0; at < size; at += 3) {
        size_t left = size - at;
        uint32_t group = (uint32_t)bytes[at] << 16;

        group |= left > 1 ? (uint32_t)bytes[at + 1] << 8 : 0;
        group |= left > 2 ? (uint32_t)bytes[at + 2] : 0;
        for (size_t i = 0; i < 4; i++) {
            text[written++] = i <= left ? alphabet[group >> (18 - 6 * i) & 63u] : '=';
        }
    }
    return written;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t whole[TEXT_MAX];
    static uint8_t pieces[TEXT_MAX];
    static char again[TEXT_MAX + 4];
    const char *text = (const char *)data + 1;
    size_t whole_size;
    size_t pieces_size;
    bool ok;

    if (size < 2 || size > TEXT_MAX) {
        return 0;
    }
    size--;
    ok = decode(text, size, size, whole, &whole_size);
    if (decode(text, size, data[0] % 9u + 1u, pieces, &pieces_size) != ok) {
        abort();
    }
    if (ok && (whole_size != pieces_size || memcmp(whole, pieces, whole_size) != 0 ||
               encode(whole, whole_size, again) != size || memcmp(again, text, size) != 0)) {
        abort();
    }
    return 0;
}
