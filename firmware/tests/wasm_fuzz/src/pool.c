/*
 * WAMR's pool, for the fuzzed build: as much memory as the pool has, but each piece from the host's
 * heap, so that AddressSanitizer sees whatever reaches beyond its piece. Nothing touches the pool
 * itself.
 *
 * The functions take the place of WAMR's mem_allocator_... (shared/mem-alloc/mem_alloc.h).
 */
#include <sanitizer/asan_interface.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <wasm_export.h>

#define PIECES_MAX 4096
#define PIECE_OVERHEAD 16u /* what one costs besides its size, about as in WAMR's allocator */

static struct {
    void *memory; /* NULL: there is no pool */
    uint32_t size_bytes;
    uint32_t used_bytes;
    uint32_t highmark_bytes;
    size_t count;
    struct {
        void *at;
        uint32_t size_bytes;
    } pieces[PIECES_MAX];
} pool;

void *pool_create(void *memory, uint32_t size);
int pool_destroy(void *allocator);
void *pool_malloc(void *allocator, uint32_t size);
void *pool_realloc(void *allocator, void *at, uint32_t size);
void pool_free(void *allocator, void *at);
bool pool_info(void *allocator, void *info);

void *pool_create(void *memory, uint32_t size)
{
    pool.memory = memory;
    pool.size_bytes = size;
    pool.used_bytes = 0;
    pool.highmark_bytes = 0;
    pool.count = 0;
    ASAN_POISON_MEMORY_REGION(memory, size);
    return &pool;
}

int pool_destroy(void *allocator)
{
    (void)allocator;
    for (size_t i = 0; i < pool.count; i++) {
        free(pool.pieces[i].at);
    }
    ASAN_UNPOISON_MEMORY_REGION(pool.memory, pool.size_bytes);
    pool.memory = NULL;
    return 0;
}

void *pool_malloc(void *allocator, uint32_t size)
{
    uint32_t cost = size + PIECE_OVERHEAD;
    void *at;

    (void)allocator;
    if (cost < size || cost > pool.size_bytes - pool.used_bytes || pool.count == PIECES_MAX) {
        return NULL;
    }
    at = malloc(size);
    if (at == NULL) {
        return NULL;
    }
    pool.pieces[pool.count].at = at;
    pool.pieces[pool.count].size_bytes = size;
    pool.count++;
    pool.used_bytes += cost;
    if (pool.used_bytes > pool.highmark_bytes) {
        pool.highmark_bytes = pool.used_bytes;
    }
    return at;
}

/* The piece at `at`. Anything else is a fault of WAMR's. */
static size_t find_piece(const void *at)
{
    for (size_t i = pool.count; i > 0; i--) { /* what is freed is mostly young */
        if (pool.pieces[i - 1].at == at) {
            return i - 1;
        }
    }
    abort();
}

void *pool_realloc(void *allocator, void *at, uint32_t size)
{
    void *grown = pool_malloc(allocator, size);

    if (grown != NULL && at != NULL) {
        uint32_t old_size = pool.pieces[find_piece(at)].size_bytes;

        memcpy(grown, at, old_size < size ? old_size : size);
        pool_free(allocator, at);
    }
    return grown;
}

void pool_free(void *allocator, void *at)
{
    size_t piece;

    (void)allocator;
    if (at == NULL) {
        return;
    }
    piece = find_piece(at);
    free(at);
    pool.used_bytes -= pool.pieces[piece].size_bytes + PIECE_OVERHEAD;
    pool.count--;
    pool.pieces[piece] = pool.pieces[pool.count];
}

bool pool_info(void *allocator, void *info)
{
    mem_alloc_info_t *out = info;

    (void)allocator;
    out->total_size = pool.size_bytes;
    out->total_free_size = pool.size_bytes - pool.used_bytes;
    out->highmark_size = pool.highmark_bytes;
    return true;
}
