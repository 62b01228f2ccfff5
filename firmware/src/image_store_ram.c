#include "image_store.h"

#include <errno.h>
#include <string.h>

static struct {
    uint32_t size_bytes; /* 0: no whole image is there */
    uint8_t sha256[FL_SHA256_SIZE];
    uint8_t bytes[CONFIG_FL_IMAGE_BYTES_MAX];
} store;

int image_store_begin(void)
{
    store.size_bytes = 0;
    return 0;
}

bool image_store_has(const uint8_t sha256[FL_SHA256_SIZE])
{
    return store.size_bytes > 0 && fl_sha256_equal(store.sha256, sha256);
}

int image_store_write(struct fl_stream_sink *sink)
{
    static struct fl_stream_memory memory = {store.bytes, sizeof(store.bytes)};

    store.size_bytes = 0;
    sink->write = fl_stream_to_memory;
    sink->user = &memory;
    return 0;
}

int image_store_commit(uint32_t size_bytes, const uint8_t sha256[FL_SHA256_SIZE])
{
    store.size_bytes = size_bytes;
    memcpy(store.sha256, sha256, FL_SHA256_SIZE);
    return 0;
}

uint32_t image_store_size(void)
{
    return store.size_bytes;
}

int image_store_load(uint8_t **image)
{
    uint8_t digest[FL_SHA256_SIZE];
    uint32_t size = store.size_bytes;

    if (size == 0) {
        return -ENOENT;
    }
    store.size_bytes = 0;
    fl_sha256_of(store.bytes, size, digest);
    *image = store.bytes;
    return fl_sha256_equal(digest, store.sha256) ? 0 : -EBADMSG;
}
