/*
 * What the SDK needs from the world, and all it needs. fl_wasi.c answers with the imports of a
 * WASI module; the tests answer with POSIX, to run the same code under sanitizers.
 */
#ifndef FL_PLATFORM_H
#define FL_PLATFORM_H

#include <stdint.h>

enum { FL_STDOUT = 1, FL_STDERR = 2 };

/* Opening a file that is not there gives this instead of 0 or an errno. */
#define FL_ABSENT UINT32_MAX

/* Ends the program. */
_Noreturn void fl_platform_exit(uint32_t status);

/* Writes all of `size` bytes. Returns 0 or an errno. */
uint32_t fl_platform_write(uint32_t fd, const void *bytes, uint32_t size);

/* Opens a file for reading. `path` is absolute. Returns 0, FL_ABSENT or an errno. */
uint32_t fl_platform_open(const char *path, uint32_t *fd);

/*
 * Reads at `offset` until `size` bytes or the end of the file, and says in `count` how many came.
 * Returns 0 or an errno.
 */
uint32_t fl_platform_read_at(uint32_t fd, uint64_t offset, void *bytes, uint32_t size,
                             uint32_t *count);

/* How many variables there are, and the bytes of all NAME=value strings with their NULs. */
uint32_t fl_platform_environ_sizes(uint32_t *count, uint32_t *size);

/*
 * Fills `list` with pointers to the NAME=value strings, which are put into `bytes`. Both are as
 * large as fl_platform_environ_sizes() said. Returns 0 or an errno.
 */
uint32_t fl_platform_environ(char **list, char *bytes);

/* What a client is: this function. It returns when the update has been written. */
void fl_main(void);

#endif
