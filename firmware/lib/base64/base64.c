#include "fl_base64.h"

#include <string.h>

#define BAD 0xFFu

static uint8_t value_of(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return (uint8_t)(c - 'A');
    }
    if (c >= 'a' && c <= 'z') {
        return (uint8_t)(c - 'a' + 26);
    }
    if (c >= '0' && c <= '9') {
        return (uint8_t)(c - '0' + 52);
    }
    if (c == '+') {
        return 62;
    }
    return c == '/' ? 63 : BAD;
}

void fl_base64_begin(struct fl_base64 *decoder)
{
    memset(decoder, 0, sizeof(*decoder));
}

/* Takes one character into the group; false when it cannot stand there. */
static bool take(struct fl_base64 *decoder, char c)
{
    uint8_t value = value_of(c);

    if (decoder->ended) {
        return false;
    }
    if (c == '=') {
        if (decoder->count < 2) {
            return false;
        }
        decoder->padding++;
        value = 0;
    } else if (value == BAD || decoder->padding > 0) {
        return false;
    }
    decoder->bits = (decoder->bits << 6) | value;
    decoder->count++;
    return true;
}

bool fl_base64_feed(struct fl_base64 *decoder, const char *in, size_t size, uint8_t *out,
                    size_t *out_size)
{
    size_t written = 0;

    for (size_t i = 0; i < size; i++) {
        if (!take(decoder, in[i])) {
            *out_size = written;
            return false;
        }
        if (decoder->count < 4) {
            continue;
        }
        /* Bits that padding leaves over must be zero, or several texts would mean one file. */
        if ((decoder->bits & ((1u << (8u * decoder->padding)) - 1u)) != 0) {
            *out_size = written;
            return false;
        }
        for (unsigned int byte = 0; byte < 3u - decoder->padding; byte++) {
            out[written++] = (uint8_t)(decoder->bits >> (16u - 8u * byte));
        }
        decoder->ended = decoder->padding > 0;
        decoder->bits = 0;
        decoder->count = 0;
    }
    *out_size = written;
    return true;
}

bool fl_base64_end(const struct fl_base64 *decoder)
{
    return decoder->count == 0;
}
