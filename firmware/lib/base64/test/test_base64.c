#include "fl_base64.h"
#include "fl_check.h"

FL_SUITE(base64)

/* Decodes `text` in pieces of `piece` characters; returns the bytes' count, or -1. */
static int decode(const char *text, size_t piece, uint8_t *out)
{
    struct fl_base64 decoder;
    size_t size = strlen(text);
    size_t total = 0;

    fl_base64_begin(&decoder);
    for (size_t at = 0; at < size; at += piece) {
        size_t left = size - at;
        size_t written;

        if (!fl_base64_feed(&decoder, text + at, left < piece ? left : piece, out + total,
                            &written)) {
            return -1;
        }
        total += written;
    }
    return fl_base64_end(&decoder) ? (int)total : -1;
}

FL_TEST(base64, published_vectors_in_any_pieces)
{
    static const char *const vectors[][2] = {
        {"", ""},
        {"Zg==", "f"},
        {"Zm8=", "fo"},
        {"Zm9v", "foo"},
        {"Zm9vYg==", "foob"},
        {"Zm9vYmE=", "fooba"},
        {"Zm9vYmFy", "foobar"},
    };

    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        for (size_t piece = 1; piece <= 8; piece++) {
            uint8_t out[16];

            FL_CHECK_INT(decode(vectors[i][0], piece, out), strlen(vectors[i][1]));
            FL_CHECK_BYTES(out, vectors[i][1], strlen(vectors[i][1]));
        }
    }
}

FL_TEST(base64, the_whole_alphabet)
{
    uint8_t out[48];

    FL_CHECK_INT(
        decode("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", 64, out), 48);
    for (unsigned int i = 0; i < 64; i++) {
        unsigned int bit = i * 6;
        unsigned int pair =
            (unsigned int)out[bit / 8] << 8 | (bit / 8 + 1 < 48 ? out[bit / 8 + 1] : 0u);

        FL_CHECK_INT(pair >> (10 - bit % 8) & 63u, i);
    }
}

FL_TEST(base64, refused)
{
    static const char *const bad[] = {
        "Z",        /* broken off */
        "Zg",       /* padding left out */
        "Zg=",      /* half the padding */
        "Zg===",    /* too much of it */
        "=Zg=",     /* padding in front */
        "Z===",     /* one character says nothing */
        "Zg=v",     /* a character after padding */
        "Zg==Zg==", /* two texts */
        "Zh==",     /* bits that padding leaves over are not zero */
        "Zm9=",     /* the same of two bytes */
        "Zm9v\n",   /* a line break */
        "Zm9-",     /* the other alphabet */
        "Zm 9",     /* a space */
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        for (size_t piece = 1; piece <= 8; piece++) {
            uint8_t out[16];

            FL_CHECK_INT(decode(bad[i], piece, out), -1);
        }
    }
}
