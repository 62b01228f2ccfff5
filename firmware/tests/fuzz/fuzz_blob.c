/* What somebody loaded into memory is found whole, or not at all; nothing beyond it is read. */
#include "blob.c"

#include <stdlib.h>

struct place {
    const uint8_t *bytes;
    size_t size;
};

static bool read_place(void *user, uint32_t offset, uint8_t *out, size_t size)
{
    const struct place *place = user;

    if (offset > place->size || size > place->size - offset) {
        abort(); /* blob_find() was told how much there is */
    }
    memcpy(out, place->bytes + offset, size);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct place place = {data, size};
    uint8_t digest[FL_SHA256_SIZE];
    uint32_t found;

    if (blob_find(read_place, &place, (uint32_t)size, BLOB_KIND_CONFIG, &found) == 0) {
        if (found > size - BLOB_HEADER_SIZE) {
            abort();
        }
        fl_sha256_of(data + BLOB_HEADER_SIZE, found, digest);
        if (!fl_sha256_equal(digest, data + 12)) {
            abort();
        }
    }
    return 0;
}
