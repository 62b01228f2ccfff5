/*
 * The image in the partition fl_image_partition: from its second page on, and in the first page a
 * record of size and digest, which is written last. A power cut in between leaves no record.
 */
#include "image_store.h"

#include <errno.h>
#include <string.h>
#include <zephyr/logging/log.h>
#include <zephyr/storage/flash_map.h>
#include <zephyr/storage/stream_flash.h>

LOG_MODULE_REGISTER(fl_image, CONFIG_FL_LOG_LEVEL);

#define RECORD_MAGIC 0x31494c46u /* "FLI1" */
#define WRITE_BUFFER_BYTES 512

struct record {
    uint32_t magic;
    uint32_t size_bytes;
    uint8_t sha256[FL_SHA256_SIZE];
};

static struct {
    const struct flash_area *area;
    uint32_t image_offset; /* of the second page */
    struct record record;  /* magic 0: no whole image is there */
    struct stream_flash_ctx stream;
    uint8_t buffer[WRITE_BUFFER_BYTES];
    uint8_t bytes[CONFIG_FL_IMAGE_BYTES_MAX]; /* of the image, while it is run */
} store;

static int open_stream(uint32_t offset, uint32_t size)
{
    return stream_flash_init(&store.stream, flash_area_get_device(store.area), store.buffer,
                             sizeof(store.buffer), (size_t)(store.area->fa_off + offset), size,
                             NULL);
}

int image_store_begin(void)
{
    struct flash_pages_info page;
    uint8_t *image;
    int status = flash_area_open(FIXED_PARTITION_ID(fl_image_partition), &store.area);

    if (status == 0) {
        status = flash_get_page_info_by_offs(flash_area_get_device(store.area), store.area->fa_off,
                                             &page);
    }
    if (status == 0) {
        store.image_offset = page.size;
        if (store.area->fa_size < page.size + CONFIG_FL_IMAGE_BYTES_MAX) {
            LOG_ERR("fl_image_partition is too small for CONFIG_FL_IMAGE_BYTES_MAX and a page");
            return -ENOSPC;
        }
        status = flash_area_read(store.area, 0, &store.record, sizeof(store.record));
    }
    if (status == 0 && (store.record.magic != RECORD_MAGIC ||
                        store.record.size_bytes > CONFIG_FL_IMAGE_BYTES_MAX)) {
        store.record.magic = 0;
    }
    if (status == 0 && image_store_load(&image) == -EBADMSG) {
        LOG_WRN("the kept image has changed: it will be fetched anew");
    }
    return status;
}

bool image_store_has(const uint8_t sha256[FL_SHA256_SIZE])
{
    return store.record.magic == RECORD_MAGIC && fl_sha256_equal(store.record.sha256, sha256);
}

static bool write_piece(void *user, uint32_t offset, const uint8_t *data, size_t size)
{
    (void)user;
    (void)offset; /* they rise without gaps */
    return stream_flash_buffered_write(&store.stream, data, size, false) == 0;
}

int image_store_write(struct fl_stream_sink *sink)
{
    int status;

    store.record.magic = 0;
    status = flash_area_erase(store.area, 0, store.area->fa_size);
    if (status == 0) {
        status =
            open_stream(store.image_offset, (uint32_t)store.area->fa_size - store.image_offset);
    }
    sink->write = write_piece;
    sink->user = NULL;
    return status;
}

int image_store_commit(uint32_t size_bytes, const uint8_t sha256[FL_SHA256_SIZE])
{
    struct record record = {.magic = RECORD_MAGIC, .size_bytes = size_bytes};
    int status = stream_flash_buffered_write(&store.stream, NULL, 0, true);

    memcpy(record.sha256, sha256, FL_SHA256_SIZE);
    if (status == 0) {
        status = open_stream(0, store.image_offset);
    }
    if (status == 0) {
        status = stream_flash_buffered_write(&store.stream, (const uint8_t *)&record,
                                             sizeof(record), true);
    }
    if (status == 0) {
        store.record = record;
    }
    return status;
}

uint32_t image_store_size(void)
{
    return store.record.magic == RECORD_MAGIC ? store.record.size_bytes : 0;
}

int image_store_load(uint8_t **image)
{
    uint8_t digest[FL_SHA256_SIZE];
    int status;

    if (store.record.magic != RECORD_MAGIC) {
        return -ENOENT;
    }
    status = flash_area_read(store.area, store.image_offset, store.bytes, store.record.size_bytes);
    if (status != 0) {
        return status;
    }
    fl_sha256_of(store.bytes, store.record.size_bytes, digest);
    *image = store.bytes;
    if (!fl_sha256_equal(digest, store.record.sha256)) {
        store.record.magic = 0; /* so that it is fetched anew */
        return -EBADMSG;
    }
    return 0;
}
