/* The SDK's platform in memory: files are buffers, and a client that fails comes back. */
#ifndef PLATFORM_MEMORY_H
#define PLATFORM_MEMORY_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct memory_file {
    const char *path; /* "/fl/model" */
    const uint8_t *bytes;
    size_t size;
};

extern struct memory_file memory_files[2];

/* What was written to stderr since the last clear, NUL-terminated; what does not fit is lost. */
extern char memory_stderr[1024];
void memory_clear(void);

/* Runs `code`; `failed` tells afterwards whether it called fl_fail(). */
extern jmp_buf memory_exit;
#define RUN(failed, code)                                                                          \
    do {                                                                                           \
        memory_clear();                                                                            \
        if (setjmp(memory_exit) == 0) {                                                            \
            code;                                                                                  \
            (failed) = false;                                                                      \
        } else {                                                                                   \
            (failed) = true;                                                                       \
        }                                                                                          \
    } while (0)

#endif
