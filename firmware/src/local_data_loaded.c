/* Local data in the memory of the devicetree node fl_data, filled by a debugger or emulator. */
#include "blob.h"
#include "local_data.h"

#include <errno.h>
#include <zephyr/devicetree.h>
#include <zephyr/logging/log.h>

LOG_MODULE_REGISTER(fl_data, CONFIG_FL_LOG_LEVEL);

int local_data_open(struct fl_wasi_file *file)
{
    uint8_t *place = (uint8_t *)DT_REG_ADDR(DT_NODELABEL(fl_data));
    int status = blob_find(fl_wasi_read_memory, place, DT_REG_SIZE(DT_NODELABEL(fl_data)),
                           BLOB_KIND_DATA, &file->size_bytes);

    if (status == 0) {
        file->name = "data";
        file->read = fl_wasi_read_memory;
        file->user = place + BLOB_HEADER_SIZE;
    } else if (status != -ENOENT) {
        LOG_ERR("local data: what was loaded into memory is broken (%d)", status);
    }
    return status;
}
