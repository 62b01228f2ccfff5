/* The platform of a WASI preview 1 command: _start, and the few imports behind fl_platform.h. */
#include "fl_platform.h"

#include <stdbool.h>
#include <stddef.h>

#define FL_IMPORT(name, signature, result, parameters)                                             \
    __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name)))                   \
    result wasi_##name parameters;
#include "fl_imports.h"

enum {
    ERRNO_BADF = 8,
    ERRNO_IO = 29,
    ERRNO_NOENT = 44,
    FIRST_PREOPEN_FD = 3,
    PREOPEN_DIRECTORY = 0,
    PREOPEN_NAME_MAX = 64,
    RIGHT_FD_READ = 1 << 1,
    RIGHT_FD_SEEK = 1 << 2, /* fd_pread needs both */
};

struct iovec {
    uint32_t address;
    uint32_t size;
};

struct prestat {
    uint8_t kind;
    uint32_t name_size;
};

static uint32_t address_of(const void *pointer)
{
    return (uint32_t)(uintptr_t)pointer;
}

__attribute__((export_name("_start"))) void _start(void)
{
    fl_main();
}

_Noreturn void fl_platform_exit(uint32_t status)
{
    wasi_proc_exit(status);
    __builtin_unreachable();
}

uint32_t fl_platform_write(uint32_t fd, const void *bytes, uint32_t size)
{
    const uint8_t *next = bytes;

    while (size > 0) {
        struct iovec iov = {address_of(next), size};
        uint32_t written = 0;
        uint32_t status = wasi_fd_write(fd, address_of(&iov), 1, address_of(&written));

        if (status != 0) {
            return status;
        }
        if (written == 0 || written > size) {
            return ERRNO_IO;
        }
        next += written;
        size -= written;
    }
    return 0;
}

/* The part of `path` below the directory `name`, or NULL if it is not below it. */
static const char *path_below(const char *path, const char *name, uint32_t name_size)
{
    uint32_t i = 0;

    while (name_size > 0 && name[name_size - 1] == '/') {
        name_size--; /* "/" and "/fl/" */
    }
    while (i < name_size && path[i] != '\0' && path[i] == name[i]) {
        i++;
    }
    return i == name_size && path[i] == '/' ? path + i + 1 : NULL;
}

/* Finds the preopened directory that holds `path`. Returns 0, FL_ABSENT or an errno. */
static uint32_t find_directory(const char *path, uint32_t *dir_fd, const char **below)
{
    for (uint32_t fd = FIRST_PREOPEN_FD;; fd++) {
        struct prestat prestat = {0};
        char name[PREOPEN_NAME_MAX];
        uint32_t status = wasi_fd_prestat_get(fd, address_of(&prestat));

        if (status == ERRNO_BADF) {
            return FL_ABSENT;
        }
        if (status != 0) {
            return status;
        }
        if (prestat.kind != PREOPEN_DIRECTORY || prestat.name_size > sizeof name) {
            continue;
        }
        status = wasi_fd_prestat_dir_name(fd, address_of(name), prestat.name_size);
        if (status != 0) {
            return status;
        }
        *below = path_below(path, name, prestat.name_size);
        if (*below != NULL) {
            *dir_fd = fd;
            return 0;
        }
    }
}

uint32_t fl_platform_open(const char *path, uint32_t *fd)
{
    const char *below = NULL;
    uint32_t dir_fd = 0;
    uint32_t size = 0;
    uint32_t status = find_directory(path, &dir_fd, &below);

    if (status != 0) {
        return status;
    }
    while (below[size] != '\0') {
        size++;
    }
    status = wasi_path_open(dir_fd, 0, address_of(below), size, 0, RIGHT_FD_READ | RIGHT_FD_SEEK, 0,
                            0, address_of(fd));
    return status == ERRNO_NOENT ? FL_ABSENT : status;
}

uint32_t fl_platform_read_at(uint32_t fd, uint64_t offset, void *bytes, uint32_t size,
                             uint32_t *count)
{
    uint8_t *next = bytes;

    *count = 0;
    while (*count < size) {
        struct iovec iov = {address_of(next + *count), size - *count};
        uint32_t read = 0;
        uint32_t status =
            wasi_fd_pread(fd, address_of(&iov), 1, offset + *count, address_of(&read));

        if (status != 0) {
            return status;
        }
        if (read > size - *count) {
            return ERRNO_IO;
        }
        if (read == 0) {
            break;
        }
        *count += read;
    }
    return 0;
}

uint32_t fl_platform_environ_sizes(uint32_t *count, uint32_t *size)
{
    return wasi_environ_sizes_get(address_of(count), address_of(size));
}

uint32_t fl_platform_environ(char **list, char *bytes)
{
    return wasi_environ_get(address_of(list), address_of(bytes));
}
