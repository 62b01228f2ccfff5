#include "wasi_private.h"

#include <string.h>

void fl_wasi_begin(struct fl_wasi *wasi, const struct fl_wasi_config *config)
{
    memset(wasi, 0, sizeof(*wasi));
    wasi->config = *config;
}

bool fl_wasi_ended(const struct fl_wasi *wasi)
{
    return wasi->end != FL_WASI_RUNNING;
}

void fl_wasi_proc_exit(struct fl_wasi *wasi, uint32_t status)
{
    if (wasi->end == FL_WASI_RUNNING) {
        wasi->end = FL_WASI_EXITED;
        wasi->exit_status = status;
    }
}

static uint32_t store_sizes(struct fl_wasi_memory memory, uint32_t count_out, uint32_t count,
                            uint32_t size_out, uint32_t size)
{
    uint8_t *count_at = wasi_at(memory, count_out, 4);
    uint8_t *size_at = wasi_at(memory, size_out, 4);

    if (count_at == NULL || size_at == NULL) {
        return FL_WASI_FAULT;
    }
    wasi_store_u32(count_at, count);
    wasi_store_u32(size_at, size);
    return FL_WASI_SUCCESS;
}

uint32_t fl_wasi_args_sizes_get(struct fl_wasi *wasi, struct fl_wasi_memory memory,
                                uint32_t count_out, uint32_t size_out)
{
    (void)wasi;
    return store_sizes(memory, count_out, 0, size_out, 0);
}

uint32_t fl_wasi_args_get(struct fl_wasi *wasi, struct fl_wasi_memory memory, uint32_t argv,
                          uint32_t argv_buf)
{
    (void)wasi;
    if (wasi_at(memory, argv, 0) == NULL || wasi_at(memory, argv_buf, 0) == NULL) {
        return FL_WASI_FAULT;
    }
    return FL_WASI_SUCCESS;
}

uint32_t fl_wasi_environ_sizes_get(struct fl_wasi *wasi, struct fl_wasi_memory memory,
                                   uint32_t count_out, uint32_t size_out)
{
    const struct fl_env *env = wasi->config.env;

    return store_sizes(memory, count_out, env->count, size_out, env->size);
}

uint32_t fl_wasi_environ_get(struct fl_wasi *wasi, struct fl_wasi_memory memory,
                             uint32_t environ_list, uint32_t environ_buf)
{
    const struct fl_env *env = wasi->config.env;
    uint8_t *list = wasi_array_at(memory, environ_list, env->count, 4);
    uint8_t *buffer = wasi_at(memory, environ_buf, env->size);
    uint32_t at = 0;

    if (list == NULL || buffer == NULL) {
        return FL_WASI_FAULT;
    }
    memcpy(buffer, env->text, env->size);
    for (uint32_t i = 0; i < env->count; i++) {
        wasi_store_u32(list + (size_t)i * 4u, environ_buf + at);
        at += (uint32_t)strlen(env->text + at) + 1u;
    }
    return FL_WASI_SUCCESS;
}
