/* Configuration in the memory of the devicetree node fl_config. */
#include "blob.h"
#include "config.h"

#include "fl_wasi.h"

#include <errno.h>
#include <zephyr/devicetree.h>
#include <zephyr/logging/log.h>

LOG_MODULE_DECLARE(fl_config, CONFIG_FL_LOG_LEVEL);

int config_from_loaded_memory(struct config *config)
{
    uint8_t *place = (uint8_t *)DT_REG_ADDR(DT_NODELABEL(fl_config));
    uint32_t size;
    int status = blob_find(fl_wasi_read_memory, place, DT_REG_SIZE(DT_NODELABEL(fl_config)),
                           BLOB_KIND_CONFIG, &size);

    if (status == -ENOENT) {
        return 0;
    }
    if (status != 0) {
        LOG_ERR("configuration: what was loaded into memory is broken (%d)", status);
        return status;
    }
    return config_apply_text(config, (const char *)place + BLOB_HEADER_SIZE, size);
}
