#include "wasm_wasi.h"

#include "fl_wasi.h"

#include <zephyr/sys/util.h>

/* A call from a module: who it is from, and its memory as it is now. */
struct call {
    wasm_module_inst_t instance;
    struct fl_wasi *wasi;
    struct fl_wasi_memory memory;
};

static struct call enter(wasm_exec_env_t env)
{
    struct call call = {.instance = wasm_runtime_get_module_inst(env),
                        .wasi = wasm_runtime_get_user_data(env)};
    wasm_memory_inst_t memory = wasm_runtime_get_default_memory(call.instance);

    if (memory != NULL) {
        call.memory.base = wasm_memory_get_base_address(memory);
        call.memory.size_bytes = (uint32_t)MIN(wasm_memory_get_cur_page_count(memory) *
                                                   wasm_memory_get_bytes_per_page(memory),
                                               UINT32_MAX);
    }
    return call;
}

/* Goes back into the module, or no further when its run is over. */
static uint32_t leave(const struct call *call, uint32_t result)
{
    if (fl_wasi_ended(call->wasi)) {
        wasm_runtime_set_exception(call->instance, "the run is over");
    }
    return result;
}

#define CALL(function, ...)                                                                        \
    struct call call = enter(env);                                                                 \
    return leave(&call, fl_wasi_##function(call.wasi, call.memory, __VA_ARGS__))

static uint32_t args_sizes_get(wasm_exec_env_t env, uint32_t count_out, uint32_t size_out)
{
    CALL(args_sizes_get, count_out, size_out);
}

static uint32_t args_get(wasm_exec_env_t env, uint32_t list, uint32_t bytes)
{
    CALL(args_get, list, bytes);
}

static uint32_t environ_sizes_get(wasm_exec_env_t env, uint32_t count_out, uint32_t size_out)
{
    CALL(environ_sizes_get, count_out, size_out);
}

static uint32_t environ_get(wasm_exec_env_t env, uint32_t list, uint32_t bytes)
{
    CALL(environ_get, list, bytes);
}

static uint32_t fd_prestat_get(wasm_exec_env_t env, uint32_t fd, uint32_t prestat_out)
{
    CALL(fd_prestat_get, fd, prestat_out);
}

static uint32_t fd_prestat_dir_name(wasm_exec_env_t env, uint32_t fd, uint32_t path,
                                    uint32_t path_size)
{
    CALL(fd_prestat_dir_name, fd, path, path_size);
}

static uint32_t path_open(wasm_exec_env_t env, uint32_t dir_fd, uint32_t lookup_flags,
                          uint32_t path, uint32_t path_size, uint32_t open_flags, uint64_t rights,
                          uint64_t inherited_rights, uint32_t fd_flags, uint32_t fd_out)
{
    CALL(path_open, dir_fd, lookup_flags, path, path_size, open_flags, rights, inherited_rights,
         fd_flags, fd_out);
}

static uint32_t fd_close(wasm_exec_env_t env, uint32_t fd)
{
    CALL(fd_close, fd);
}

static uint32_t fd_read(wasm_exec_env_t env, uint32_t fd, uint32_t iovs, uint32_t iov_count,
                        uint32_t read_out)
{
    CALL(fd_read, fd, iovs, iov_count, read_out);
}

static uint32_t fd_pread(wasm_exec_env_t env, uint32_t fd, uint32_t iovs, uint32_t iov_count,
                         uint64_t offset, uint32_t read_out)
{
    CALL(fd_pread, fd, iovs, iov_count, offset, read_out);
}

static uint32_t fd_write(wasm_exec_env_t env, uint32_t fd, uint32_t iovs, uint32_t iov_count,
                         uint32_t written_out)
{
    CALL(fd_write, fd, iovs, iov_count, written_out);
}

static uint32_t fd_seek(wasm_exec_env_t env, uint32_t fd, uint64_t offset, uint32_t whence,
                        uint32_t position_out)
{
    CALL(fd_seek, fd, offset, whence, position_out);
}

static uint32_t fd_tell(wasm_exec_env_t env, uint32_t fd, uint32_t position_out)
{
    CALL(fd_tell, fd, position_out);
}

static uint32_t fd_fdstat_get(wasm_exec_env_t env, uint32_t fd, uint32_t fdstat_out)
{
    CALL(fd_fdstat_get, fd, fdstat_out);
}

static uint32_t fd_fdstat_set_flags(wasm_exec_env_t env, uint32_t fd, uint32_t flags)
{
    CALL(fd_fdstat_set_flags, fd, flags);
}

static uint32_t fd_filestat_get(wasm_exec_env_t env, uint32_t fd, uint32_t filestat_out)
{
    CALL(fd_filestat_get, fd, filestat_out);
}

#if IS_ENABLED(CONFIG_FL_COMMANDS)
static uint32_t poll_oneoff(wasm_exec_env_t env, uint32_t subscriptions, uint32_t events,
                            uint32_t count, uint32_t count_out)
{
    CALL(poll_oneoff, subscriptions, events, count, count_out);
}
#endif

static void proc_exit(wasm_exec_env_t env, uint32_t status)
{
    struct call call = enter(env);

    fl_wasi_proc_exit(call.wasi, status);
    (void)leave(&call, 0);
}

bool wasm_wasi_register(void)
{
    /* WAMR sorts the table in place, and keeps it. */
    static NativeSymbol symbols[] = {
#define FL_IMPORT(name, signature, result, parameters) {#name, name, signature, NULL},
#include "../../wasm_client/sdk/fl_imports.h"
#if IS_ENABLED(CONFIG_FL_COMMANDS)
        {WASM_WASI_SLEEP, poll_oneoff, "(iiii)i", NULL},
#endif
    };

    return wasm_runtime_register_natives(WASM_WASI_MODULE, symbols, ARRAY_SIZE(symbols));
}
