/* The SDK's platform in memory: files are buffers, and a client that fails comes back. */
#ifndef PLATFORM_MEMORY_H
#define PLATFORM_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct memory_file {
    const char *path; /* "/fl/model" */
    const uint8_t *bytes;
    size_t size;
};

extern struct memory_file memory_files[2];

/* What was written to stderr in the last memory_run(), NUL-terminated; what does not fit is lost.
 */
extern char memory_stderr[1024];

/* Runs `code`. Returns whether it came to its end; false: it called fl_fail(). */
bool memory_run(void (*code)(void));

#endif
