#include "wasi_private.h"

#define IOVEC_SIZE 8u

uint8_t *wasi_at(struct fl_wasi_memory memory, uint32_t address, uint32_t size)
{
    if (memory.base == NULL || address > memory.size_bytes || size > memory.size_bytes - address) {
        return NULL;
    }
    return memory.base + address;
}

uint8_t *wasi_array_at(struct fl_wasi_memory memory, uint32_t address, uint32_t count,
                       uint32_t item_size)
{
    if (count > UINT32_MAX / item_size) {
        return NULL;
    }
    return wasi_at(memory, address, count * item_size);
}

uint32_t wasi_load_u32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

void wasi_store_u32(uint8_t *at, uint32_t value)
{
    for (unsigned int i = 0; i < 4; i++) {
        at[i] = (uint8_t)(value >> (8u * i));
    }
}

void wasi_store_u64(uint8_t *at, uint64_t value)
{
    wasi_store_u32(at, (uint32_t)value);
    wasi_store_u32(at + 4, (uint32_t)(value >> 32));
}

uint32_t wasi_iovs_check(struct wasi_iovs *iovs, struct fl_wasi_memory memory, uint32_t address,
                         uint32_t count)
{
    if (count > FL_WASI_IOVS_MAX) {
        return FL_WASI_INVAL;
    }
    iovs->memory = memory;
    iovs->list = wasi_array_at(memory, address, count, IOVEC_SIZE);
    iovs->count = count;
    iovs->total_bytes = 0;
    if (iovs->list == NULL) {
        return FL_WASI_FAULT;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t size;

        if (wasi_iovs_buffer(iovs, i, &size) == NULL) {
            return FL_WASI_FAULT;
        }
        if (size > UINT32_MAX - iovs->total_bytes) {
            return FL_WASI_INVAL;
        }
        iovs->total_bytes += size;
    }
    return FL_WASI_SUCCESS;
}

uint8_t *wasi_iovs_buffer(const struct wasi_iovs *iovs, uint32_t index, uint32_t *size)
{
    const uint8_t *iovec = iovs->list + (size_t)index * IOVEC_SIZE;

    *size = wasi_load_u32(iovec + 4);
    return wasi_at(iovs->memory, wasi_load_u32(iovec), *size);
}
