#include "fl_args.h"

#include <string.h>

_Static_assert(FL_ARGS_CAPACITY <= UINT16_MAX, "fl_args.size holds 16 bits");

bool fl_args_append(struct fl_args *args, size_t *cursor, const char *bytes, size_t size)
{
    /* One byte stays free for the NUL of fl_args_close(). */
    if (size >= sizeof(args->text) - *cursor) {
        return false;
    }
    memcpy(args->text + *cursor, bytes, size);
    *cursor += size;
    return true;
}

void fl_args_close(struct fl_args *args, size_t cursor)
{
    args->text[cursor] = '\0';
    args->size = (uint16_t)(cursor + 1);
    args->count++;
}

/* Takes one string off what is left. */
static const char *take(struct fl_command *command)
{
    const char *taken = command->args;
    uint16_t size = (uint16_t)(strlen(taken) + 1);

    command->args += size;
    command->args_size = (uint16_t)(command->args_size - size);
    command->args_count--;
    return taken;
}

/* Whether an option of `size` characters is `name`. */
static bool is(const char *option, size_t size, const char *name)
{
    return size == strlen(name) && memcmp(option, name, size) == 0;
}

static enum fl_args_status set_variable(struct fl_env *env, const char *variable)
{
    switch (fl_env_set(env, variable)) {
    case FL_ENV_OK:
        return FL_ARGS_OK;
    case FL_ENV_FULL:
        return FL_ARGS_ENV_FULL;
    default:
        return FL_ARGS_ENV;
    }
}

enum fl_args_status fl_args_options(const struct fl_args *args, struct fl_env *env,
                                    struct fl_command *command, const char **fault)
{
    enum fl_args_status status = FL_ARGS_OK;

    command->args = args->text;
    command->args_size = args->size;
    command->args_count = args->count;
    while (status == FL_ARGS_OK && command->args_count > 0 && command->args[0] == '-') {
        const char *option = take(command);
        size_t size = strcspn(option, "=");
        const char *value = option + size + 1;

        *fault = option;
        if (is(option, size, "--")) {
            break;
        }
        if (!is(option, size, "--invoke") && !is(option, size, "--env")) {
            return FL_ARGS_OPTION;
        }
        if (option[size] == '\0') {
            value = command->args_count > 0 ? take(command) : "";
        }
        if (is(option, size, "--env")) {
            status = set_variable(env, value);
        } else if (value[0] != '\0') {
            command->function = value;
            command->nothing_else = true;
        }
    }
    return status;
}
