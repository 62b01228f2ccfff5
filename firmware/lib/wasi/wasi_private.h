/*
 * What the parts of the WASI subset share: wasi.c (run, environment, exit), wasi_memory.c (the
 * module's memory), wasi_file.c (directory and files), wasi_stdio.c (standard streams), wasi_poll.c
 * (sleeping).
 */
#ifndef WASI_PRIVATE_H
#define WASI_PRIVATE_H

#include "fl_wasi.h"

/* `size` bytes of the module's memory at `address`, or NULL when they are not all inside it. */
uint8_t *wasi_at(struct fl_wasi_memory memory, uint32_t address, uint32_t size);

/* `count` items of `item_size` bytes each, likewise. */
uint8_t *wasi_array_at(struct fl_wasi_memory memory, uint32_t address, uint32_t count,
                       uint32_t item_size);

/* Little-endian loads and stores; no alignment is asked of the module. */
uint32_t wasi_load_u32(const uint8_t *at);
void wasi_store_u32(uint8_t *at, uint32_t value);
void wasi_store_u64(uint8_t *at, uint64_t value);

/* A module's iovec array: buffers to read into or to write from. */
struct wasi_iovs {
    struct fl_wasi_memory memory;
    const uint8_t *list;
    uint32_t count;
    uint32_t total_bytes; /* of all buffers */
};

/*
 * Checks a whole array, every buffer included, before anything is done with it.
 * FAULT: something is outside the memory. INVAL: more than FL_WASI_IOVS_MAX buffers, or they add up
 * to more than 32 bits hold.
 */
uint32_t wasi_iovs_check(struct wasi_iovs *iovs, struct fl_wasi_memory memory, uint32_t address,
                         uint32_t count);

/*
 * Buffer `index` of a checked array, or NULL: reading into one buffer may have written over the
 * array itself, so that each is checked again when its turn comes.
 */
uint8_t *wasi_iovs_buffer(const struct wasi_iovs *iovs, uint32_t index, uint32_t *size);

enum wasi_fd {
    WASI_FD_STDIN = 0,
    WASI_FD_STDOUT = 1,
    WASI_FD_STDERR = 2,
    WASI_FD_DIR = 3,
};

enum wasi_fd_kind {
    WASI_KIND_NONE, /* not open */
    WASI_KIND_STREAM,
    WASI_KIND_DIR,
    WASI_KIND_FILE, /* `*file` is set */
};

/* What `fd` is. */
enum wasi_fd_kind wasi_kind(struct fl_wasi *wasi, uint32_t fd, struct fl_wasi_open_file **file);

#endif
