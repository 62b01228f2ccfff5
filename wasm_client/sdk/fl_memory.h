/* Strings and bytes without a C library, and the one block of memory that a client shares out. */
#ifndef FL_MEMORY_H
#define FL_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The compiler calls these by name; they are the C library's. */
void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memset(void *to, int byte, size_t size);

uint32_t fl_length(const char *string);
bool fl_equal(const char *a, const char *b);

/*
 * A block that is handed out front to back and never taken back: sizes are known once the model
 * and the data have been read. `bytes` is the module's own static array, aligned to 8.
 */
struct fl_arena {
    uint8_t *bytes;
    uint32_t size;
    uint32_t used;
};

/* Declares the static block of `size_bytes` (a multiple of 8) and the arena `name` over it. */
#define FL_ARENA(name, size_bytes)                                                                 \
    static uint64_t name##_block[(size_bytes) / sizeof(uint64_t)];                                 \
    static struct fl_arena name = {(uint8_t *)name##_block, sizeof name##_block, 0}

/*
 * `size` bytes, aligned to 8, of which `what` says the use. Fails (fl_fail) with sizes in the
 * reason when they are not there. The bytes are zero: each is handed out once.
 */
void *fl_arena_bytes(struct fl_arena *arena, uint32_t size, const char *what);

/* The same for `count` floats. */
float *fl_arena_floats(struct fl_arena *arena, uint32_t count, const char *what);

#endif
