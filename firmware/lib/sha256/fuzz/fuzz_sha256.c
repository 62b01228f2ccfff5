/* A digest does not depend on the pieces, and has one form in hexadecimal. */
#include "fl_sha256.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t whole[FL_SHA256_SIZE];
    uint8_t pieces[FL_SHA256_SIZE];
    char hex[FL_SHA256_HEX_SIZE + 1];
    struct fl_sha256 hash;

    fl_sha256_of(data, size, whole);
    fl_sha256_begin(&hash);
    for (size_t at = 0; at < size;) {
        size_t piece = data[at] % 70u;

        piece = piece < size - at ? piece : size - at;
        fl_sha256_update(&hash, data + at, piece);
        at += piece;
        if (at < size && piece == 0) {
            fl_sha256_update(&hash, data + at++, 1);
        }
    }
    fl_sha256_end(&hash, pieces);
    if (!fl_sha256_equal(whole, pieces)) {
        abort();
    }
    if (fl_sha256_from_hex((const char *)data, size, pieces)) {
        fl_sha256_to_hex(pieces, hex);
        if (size != FL_SHA256_HEX_SIZE || memcmp(hex, data, size) != 0) {
            abort();
        }
    }
    fl_sha256_to_hex(whole, hex);
    if (!fl_sha256_from_hex(hex, FL_SHA256_HEX_SIZE, pieces) || !fl_sha256_equal(whole, pieces)) {
        abort();
    }
    return 0;
}
