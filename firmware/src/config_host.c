/*
 * The command line of native_sim:
 *
 *   --fl-config=FILE       a text of configuration keys
 *   --fl-id=ID             as the key proplet_id
 *   --fl-broker=HOST:PORT  as the keys broker_host and broker_port
 */
#include "config.h"
#include "host_file.h"

#include <cmdline.h>
#include <errno.h>
#include <posix_native_task.h>
#include <string.h>
#include <zephyr/logging/log.h>
#include <zephyr/sys/util.h>

LOG_MODULE_DECLARE(fl_config, CONFIG_FL_LOG_LEVEL);

#define FILE_BYTES_MAX 8192

static char *config_path;
static char *proplet_id;
static char *broker;

static void add_options(void)
{
    static struct args_struct_t options[] = {
        {.option = "fl-config",
         .name = "FILE",
         .type = 's',
         .dest = &config_path,
         .descript = "Text of configuration keys, a line key=value each"},
        {.option = "fl-id",
         .name = "ID",
         .type = 's',
         .dest = &proplet_id,
         .descript = "This proplet's id"},
        {.option = "fl-broker",
         .name = "HOST:PORT",
         .type = 's',
         .dest = &broker,
         .descript = "The MQTT broker"},
        ARG_TABLE_ENDMARKER,
    };

    native_add_command_line_opts(options);
}

NATIVE_TASK(add_options, PRE_BOOT_1, 10);

static int apply_file(struct config *config, const char *path)
{
    static char text[FILE_BYTES_MAX];
    uint32_t size;
    int file = host_file_open(path, &size);

    if (file < 0) {
        LOG_ERR("--fl-config: %s cannot be read", path);
        return -ENOENT;
    }
    if (size > sizeof(text)) {
        LOG_ERR("--fl-config: %s has more than %u bytes", path, (unsigned int)sizeof(text));
        return -ENOSPC;
    }
    if (host_file_read(file, 0, text, size) != 0) {
        LOG_ERR("--fl-config: %s cannot be read", path);
        return -EIO;
    }
    return config_apply_text(config, text, size);
}

static int apply_broker(struct config *config)
{
    const char *colon = strrchr(broker, ':');
    size_t host_size = colon == NULL ? strlen(broker) : (size_t)(colon - broker);
    int status = config_apply(config, "broker_host", broker, host_size);

    if (status == 0 && colon != NULL) {
        status = config_apply(config, "broker_port", colon + 1, strlen(colon + 1));
    }
    if (status != 0) {
        LOG_ERR("--fl-broker: %s is not HOST:PORT", broker);
    }
    return status;
}

int config_from_command_line(struct config *config)
{
    int status = config_path == NULL ? 0 : apply_file(config, config_path);

    if (status == 0 && proplet_id != NULL) {
        status = config_apply(config, "proplet_id", proplet_id, strlen(proplet_id));
        if (status != 0) {
            LOG_ERR("--fl-id: %s is not an id", proplet_id);
        }
    }
    if (status == 0 && broker != NULL) {
        status = apply_broker(config);
    }
    return status;
}
