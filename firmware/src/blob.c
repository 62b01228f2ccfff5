#include "blob.h"

#include <errno.h>
#include <string.h>
#include <zephyr/sys/byteorder.h>
#include <zephyr/sys/util.h>

static int check_digest(blob_read read, void *user, uint32_t size, const uint8_t *expected)
{
    struct fl_sha256 hash;
    uint8_t digest[FL_SHA256_SIZE];
    uint8_t piece[64];

    fl_sha256_begin(&hash);
    for (uint32_t offset = 0; offset < size;) {
        uint32_t count = MIN(size - offset, sizeof(piece));

        if (!read(user, BLOB_HEADER_SIZE + offset, piece, count)) {
            return -EIO;
        }
        fl_sha256_update(&hash, piece, count);
        offset += count;
    }
    fl_sha256_end(&hash, digest);
    return fl_sha256_equal(digest, expected) ? 0 : -EBADMSG;
}

int blob_find(blob_read read, void *user, uint32_t capacity, const char *kind,
              uint32_t *payload_bytes)
{
    uint8_t header[BLOB_HEADER_SIZE];
    uint32_t size;

    if (capacity < sizeof(header)) {
        return -EINVAL;
    }
    if (!read(user, 0, header, sizeof(header))) {
        return -EIO;
    }
    if (memcmp(header, "FLB1", 4) != 0) {
        return -ENOENT;
    }
    size = sys_get_le32(header + 8);
    if (memcmp(header + 4, kind, 4) != 0 || size > capacity - sizeof(header)) {
        return -EINVAL;
    }
    *payload_bytes = size;
    return check_digest(read, user, size, header + 12);
}
