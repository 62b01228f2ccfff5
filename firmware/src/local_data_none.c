#include "local_data.h"

#include <errno.h>

int local_data_open(struct fl_wasi_file *file)
{
    (void)file;
    return -ENOENT;
}
