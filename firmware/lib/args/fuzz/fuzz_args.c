/* Whatever the arguments are, what is left lies inside them and the environment stays whole. */
#include "fl_args.h"

#include <stdlib.h>
#include <string.h>

static void check(const struct fl_args *args, const struct fl_env *env,
                  const struct fl_command *command)
{
    const char *at = command->args;
    size_t env_at = 0;

    if (command->args + command->args_size != args->text + args->size) {
        abort();
    }
    for (uint32_t i = 0; i < command->args_count; i++) {
        at += strlen(at) + 1;
    }
    for (uint32_t i = 0; i < env->count; i++) {
        if (strchr(env->text + env_at, '=') == NULL) {
            abort();
        }
        env_at += strlen(env->text + env_at) + 1;
    }
    if (at != args->text + args->size || env_at != env->size || env->size > FL_ENV_CAPACITY) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fl_args args;
    static struct fl_env env;
    struct fl_command command = {.function = "task"};
    const char *fault = "";
    size_t cursor = 0;

    memset(&args, 0, sizeof(args));
    fl_env_clear(&env);
    for (size_t i = 0; i < size; i++) { /* a NUL ends an argument */
        if (data[i] != 0 && !fl_args_append(&args, &cursor, (const char *)data + i, 1)) {
            break;
        }
        if (data[i] == 0) {
            if (!fl_args_append(&args, &cursor, "", 0)) {
                break;
            }
            fl_args_close(&args, cursor);
            cursor = args.size;
        }
    }
    if (fl_args_options(&args, &env, &command, &fault) != FL_ARGS_OK && fault[0] != '-') {
        abort();
    }
    check(&args, &env, &command);
    return 0;
}
