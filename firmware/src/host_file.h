/*
 * Files of the host, for native_sim. Implemented in host_file.c, which is compiled with the host's
 * headers, not Zephyr's: so only plain types cross this line.
 */
#ifndef HOST_FILE_H
#define HOST_FILE_H

#include <stddef.h>
#include <stdint.h>

/*
 * Opens `path` for reading and sets `size_bytes`. Returns a descriptor, or -1 when there is no such
 * file, it cannot be read, or it is larger than 4 GiB - 1. It is never closed: it serves until the
 * program ends.
 */
int host_file_open(const char *path, uint32_t *size_bytes);

/* Reads exactly `size` bytes at `offset`. Returns 0, or -1 when that is not possible. */
int host_file_read(int descriptor, uint32_t offset, void *out, size_t size);

#endif
