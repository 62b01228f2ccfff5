/* Local data in the flash partition fl_data_partition. */
#include "blob.h"
#include "local_data.h"

#include <errno.h>
#include <zephyr/logging/log.h>
#include <zephyr/storage/flash_map.h>

LOG_MODULE_REGISTER(fl_data, CONFIG_FL_LOG_LEVEL);

static bool read_partition(void *user, uint32_t offset, uint8_t *out, size_t size)
{
    return flash_area_read(user, (off_t)offset, out, size) == 0;
}

static bool read_payload(void *user, uint32_t offset, uint8_t *out, size_t size)
{
    return read_partition(user, BLOB_HEADER_SIZE + offset, out, size);
}

int local_data_open(struct fl_wasi_file *file)
{
    const struct flash_area *area;
    int status = flash_area_open(FIXED_PARTITION_ID(fl_data_partition), &area);

    if (status == 0) {
        status = blob_find(read_partition, (void *)area, (uint32_t)area->fa_size, BLOB_KIND_DATA,
                           &file->size_bytes);
    }
    if (status == 0) {
        file->name = "data";
        file->read = read_payload;
        file->user = (void *)area;
    } else if (status != -ENOENT) {
        LOG_ERR("local data: the partition cannot be used (%d)", status);
    }
    return status;
}
