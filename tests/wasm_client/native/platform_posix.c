/*
 * The SDK's platform on POSIX: a client as an ordinary program, under sanitizers.
 *
 *     program DIRECTORY        the client's /fl is DIRECTORY; its environment is the program's
 */
#define _POSIX_C_SOURCE 200809L /* pread */

#include "fl_platform.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static const char *directory;

int main(int argc, char **argv)
{
    if (argc != 2) {
        return 2;
    }
    directory = argv[1];
    fl_main();
    return 0;
}

_Noreturn void fl_platform_exit(uint32_t status)
{
    exit((int)status);
}

uint32_t fl_platform_write(uint32_t fd, const void *bytes, uint32_t size)
{
    const char *next = bytes;

    while (size > 0) {
        ssize_t written = write((int)fd, next, size);

        if (written <= 0) {
            return (uint32_t)errno;
        }
        next += written;
        size -= (uint32_t)written;
    }
    return 0;
}

uint32_t fl_platform_open(const char *path, uint32_t *fd)
{
    char real[4096];

    if (strncmp(path, "/fl/", 4) != 0 ||
        snprintf(real, sizeof real, "%s/%s", directory, path + 4) >= (int)sizeof real) {
        return FL_ABSENT;
    }
    int opened = open(real, O_RDONLY);
    if (opened < 0) {
        return errno == ENOENT ? FL_ABSENT : (uint32_t)errno;
    }
    *fd = (uint32_t)opened;
    return 0;
}

uint32_t fl_platform_read_at(uint32_t fd, uint64_t offset, void *bytes, uint32_t size,
                             uint32_t *count)
{
    *count = 0;
    while (*count < size) {
        ssize_t got =
            pread((int)fd, (char *)bytes + *count, size - *count, (off_t)(offset + *count));

        if (got < 0) {
            return (uint32_t)errno;
        }
        if (got == 0) {
            break;
        }
        *count += (uint32_t)got;
    }
    return 0;
}

uint32_t fl_platform_environ_sizes(uint32_t *count, uint32_t *size)
{
    *count = 0;
    *size = 0;
    for (char **variable = environ; *variable != NULL; variable++) {
        *count += 1;
        *size += (uint32_t)strlen(*variable) + 1;
    }
    return 0;
}

uint32_t fl_platform_environ(char **list, char *bytes)
{
    for (char **variable = environ; *variable != NULL; variable++) {
        size_t size = strlen(*variable) + 1;

        *list++ = memcpy(bytes, *variable, size);
        bytes += size;
    }
    return 0;
}
