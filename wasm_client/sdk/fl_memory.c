#include "fl_memory.h"

#include "fl_report.h"

#ifdef __wasm__ /* elsewhere the C library has them */

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    uint8_t *out = to;
    const uint8_t *in = from;

    for (; size >= 4; size -= 4) {
        __builtin_memcpy(out, in, 4);
        out += 4;
        in += 4;
    }
    for (; size > 0; size--) {
        *out++ = *in++;
    }
    return to;
}

void *memset(void *to, int byte, size_t size)
{
    uint8_t *out = to;

    for (size_t i = 0; i < size; i++) {
        out[i] = (uint8_t)byte;
    }
    return to;
}

#endif

uint32_t fl_length(const char *string)
{
    uint32_t length = 0;

    while (string[length] != '\0') {
        length++;
    }
    return length;
}

bool fl_equal(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

static void *take(struct fl_arena *arena, uint32_t count, uint32_t unit, const char *what)
{
    uint32_t left = arena->size - arena->used;
    uint8_t *bytes = arena->bytes + arena->used;

    if (count > left / unit) {
        fl_fail("%s: no room for %u x %u bytes, %u of %u are left", what, count, unit, left,
                arena->size);
    }
    arena->used = (arena->used + count * unit + 7u) & ~7u;
    return bytes;
}

void *fl_arena_bytes(struct fl_arena *arena, uint32_t size, const char *what)
{
    return take(arena, size, 1, what);
}

float *fl_arena_floats(struct fl_arena *arena, uint32_t count, const char *what)
{
    return take(arena, count, sizeof(float), what);
}
