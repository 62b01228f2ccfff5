/* Local data in a file of the host: native_sim's option --fl-data=FILE. */
#include "host_file.h"
#include "local_data.h"

#include <cmdline.h>
#include <errno.h>
#include <posix_native_task.h>
#include <zephyr/logging/log.h>

LOG_MODULE_REGISTER(fl_data, CONFIG_FL_LOG_LEVEL);

static char *data_path;

static void add_options(void)
{
    static struct args_struct_t options[] = {
        {.option = "fl-data",
         .name = "FILE",
         .type = 's',
         .dest = &data_path,
         .descript = "This proplet's own data; the module reads it as /fl/data"},
        ARG_TABLE_ENDMARKER,
    };

    native_add_command_line_opts(options);
}

NATIVE_TASK(add_options, PRE_BOOT_1, 11);

static bool read_file(void *user, uint32_t offset, uint8_t *out, size_t size)
{
    return host_file_read(*(const int *)user, offset, out, size) == 0;
}

int local_data_open(struct fl_wasi_file *file)
{
    static int descriptor;

    if (data_path == NULL) {
        return -ENOENT;
    }
    descriptor = host_file_open(data_path, &file->size_bytes);
    if (descriptor < 0) {
        LOG_ERR("--fl-data: %s cannot be read", data_path);
        return -EIO;
    }
    file->name = "data";
    file->read = read_file;
    file->user = &descriptor;
    return 0;
}
