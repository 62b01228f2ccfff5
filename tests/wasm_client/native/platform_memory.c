#include "platform_memory.h"

#include "fl_platform.h"

#include <setjmp.h>
#include <string.h>

struct memory_file memory_files[2];
char memory_stderr[1024];

static jmp_buf failure;
static size_t written;

bool memory_run(void (*code)(void))
{
    written = 0;
    memory_stderr[0] = '\0';
    if (setjmp(failure) != 0) {
        return false;
    }
    code();
    return true;
}

_Noreturn void fl_platform_exit(uint32_t status)
{
    longjmp(failure, (int)status);
}

uint32_t fl_platform_write(uint32_t fd, const void *bytes, uint32_t size)
{
    if (fd == FL_STDERR && written + size < sizeof memory_stderr) {
        memcpy(memory_stderr + written, bytes, size);
        written += size;
        memory_stderr[written] = '\0';
    }
    return 0;
}

uint32_t fl_platform_open(const char *path, uint32_t *fd)
{
    for (uint32_t i = 0; i < 2; i++) {
        if (memory_files[i].path != NULL && strcmp(memory_files[i].path, path) == 0) {
            *fd = i;
            return 0;
        }
    }
    return FL_ABSENT;
}

uint32_t fl_platform_read_at(uint32_t fd, uint64_t offset, void *bytes, uint32_t size,
                             uint32_t *count)
{
    const struct memory_file *file = &memory_files[fd];
    size_t left = offset < file->size ? file->size - (size_t)offset : 0;

    *count = size < left ? size : (uint32_t)left;
    if (*count > 0) {
        memcpy(bytes, file->bytes + offset, *count);
    }
    return 0;
}

uint32_t fl_platform_environ_sizes(uint32_t *count, uint32_t *size)
{
    *count = 0;
    *size = 0;
    return 0;
}

uint32_t fl_platform_environ(char **list, char *bytes)
{
    (void)list;
    (void)bytes;
    return 0;
}
