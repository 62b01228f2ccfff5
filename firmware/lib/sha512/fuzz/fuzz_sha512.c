/* A digest does not depend on the pieces. */
#include "fl_sha512.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t whole[FL_SHA512_SIZE];
    uint8_t pieces[FL_SHA512_SIZE];
    struct fl_sha512 hash;

    fl_sha512_begin(&hash);
    fl_sha512_update(&hash, data, size);
    fl_sha512_end(&hash, whole);
    fl_sha512_begin(&hash);
    for (size_t at = 0; at < size;) {
        size_t piece = data[at] % 140u + 1u;

        piece = piece < size - at ? piece : size - at;
        fl_sha512_update(&hash, data + at, piece);
        at += piece;
    }
    fl_sha512_end(&hash, pieces);
    if (memcmp(whole, pieces, sizeof(whole)) != 0) {
        abort();
    }
    return 0;
}
