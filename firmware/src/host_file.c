#include "host_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

int host_file_open(const char *path, uint32_t *size_bytes)
{
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);

    if (descriptor < 0) {
        return -1;
    }
    if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode) ||
        status.st_size > (off_t)UINT32_MAX) {
        (void)close(descriptor);
        return -1;
    }
    *size_bytes = (uint32_t)status.st_size;
    return descriptor;
}

int host_file_read(int descriptor, uint32_t offset, void *out, size_t size)
{
    char *to = out;
    off_t from = (off_t)offset;

    while (size > 0) {
        ssize_t count = pread(descriptor, to, size, from);

        if (count <= 0) {
            return -1;
        }
        to += count;
        from += count;
        size -= (size_t)count;
    }
    return 0;
}
