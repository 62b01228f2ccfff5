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

/* argv: the name, the strings of cli_args, the words of inputs. Of `inputs` the blanks go. */
static uint32_t count_args(const struct fl_command *command)
{
    uint32_t words = command->inputs[0] != '\0' ? 1 : 0;

    for (const char *at = command->inputs; *at != '\0'; at++) {
        words += *at == ' ' ? 1 : 0;
    }
    return 1u + command->args_count + words;
}

static uint32_t size_args(const struct fl_command *command)
{
    size_t inputs = strlen(command->inputs);

    return (uint32_t)(strlen(command->name) + 1 + command->args_size + inputs +
                      (inputs > 0 ? 1 : 0));
}

uint32_t fl_wasi_args_sizes_get(struct fl_wasi *wasi, struct fl_wasi_memory memory,
                                uint32_t count_out, uint32_t size_out)
{
    const struct fl_command *command = FL_ARGS_SUPPORTED ? wasi->config.command : NULL;

    if (command == NULL) {
        return store_sizes(memory, count_out, 0, size_out, 0);
    }
    return store_sizes(memory, count_out, count_args(command), size_out, size_args(command));
}

/* Where the next argument goes. */
struct argv {
    uint8_t *list;
    uint8_t *buffer;
    uint32_t address; /* of `buffer`, in the module's memory */
};

static void put_arg(struct argv *argv, const char *text, size_t size)
{
    memcpy(argv->buffer, text, size);
    argv->buffer[size] = '\0';
    wasi_store_u32(argv->list, argv->address);
    argv->list += 4;
    argv->buffer += size + 1;
    argv->address += (uint32_t)size + 1u;
}

uint32_t fl_wasi_args_get(struct fl_wasi *wasi, struct fl_wasi_memory memory, uint32_t argv,
                          uint32_t argv_buf)
{
    const struct fl_command *command = FL_ARGS_SUPPORTED ? wasi->config.command : NULL;
    uint32_t count = command == NULL ? 0 : count_args(command);
    struct argv out = {.list = wasi_array_at(memory, argv, count, 4),
                       .buffer = wasi_at(memory, argv_buf, count == 0 ? 0 : size_args(command)),
                       .address = argv_buf};
    const char *at;

    if (out.list == NULL || out.buffer == NULL) {
        return FL_WASI_FAULT;
    }
    if (count == 0) {
        return FL_WASI_SUCCESS;
    }
    put_arg(&out, command->name, strlen(command->name));
    at = command->args;
    for (uint32_t i = 0; i < command->args_count; i++) {
        put_arg(&out, at, strlen(at));
        at += strlen(at) + 1;
    }
    for (at = command->inputs; *at != '\0'; at += *at == ' ' ? 1 : 0) {
        size_t size = strcspn(at, " ");

        put_arg(&out, at, size);
        at += size;
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
