#include "fl_env.h"

#include <string.h>

/*
 * A variable under way lies behind env->size, out of sight until fl_env_close(). `size` is 16 bits
 * wide, which bounds the capacity.
 */
_Static_assert(FL_ENV_CAPACITY <= UINT16_MAX, "fl_env.size holds 16 bits");

void fl_env_clear(struct fl_env *env)
{
    env->count = 0;
    env->size = 0;
}

/* Bytes of the variable with the first `name_size` characters as its name; 0: there is none. */
static size_t find(const struct fl_env *env, const char *name, size_t name_size, size_t *at)
{
    for (*at = 0; *at < env->size;) {
        const char *variable = env->text + *at;
        size_t size = strlen(variable) + 1;

        if (strncmp(variable, name, name_size) == 0 && variable[name_size] == '=') {
            return size;
        }
        *at += size;
    }
    return 0;
}

const char *fl_env_get(const struct fl_env *env, const char *name)
{
    size_t name_size = strlen(name);
    size_t at;

    return find(env, name, name_size, &at) == 0 ? NULL : env->text + at + name_size + 1;
}

enum fl_env_status fl_env_open(struct fl_env *env, const char *name, size_t *cursor)
{
    enum fl_env_status status;

    if (name[0] == '\0' || strchr(name, '=') != NULL) {
        return FL_ENV_BAD_NAME;
    }
    if (fl_env_get(env, name) != NULL) {
        return FL_ENV_TAKEN;
    }
    *cursor = env->size;
    status = fl_env_append(env, cursor, name, strlen(name));
    return status == FL_ENV_OK ? fl_env_append(env, cursor, "=", 1) : status;
}

enum fl_env_status fl_env_append(struct fl_env *env, size_t *cursor, const char *bytes, size_t size)
{
    /* One byte stays free for the NUL of fl_env_close(). */
    if (size >= sizeof(env->text) - *cursor) {
        return FL_ENV_FULL;
    }
    memcpy(env->text + *cursor, bytes, size);
    *cursor += size;
    return FL_ENV_OK;
}

void fl_env_close(struct fl_env *env, size_t cursor)
{
    env->text[cursor] = '\0';
    env->size = (uint16_t)(cursor + 1);
    env->count++;
}

enum fl_env_status fl_env_set(struct fl_env *env, const char *variable)
{
    size_t name_size = strcspn(variable, "=");
    size_t size = strlen(variable) + (variable[name_size] == '=' ? 1u : 2u);
    size_t at;
    size_t old_size;
    size_t end;

    if (name_size == 0) {
        return FL_ENV_BAD_NAME;
    }
    old_size = find(env, variable, name_size, &at);
    end = env->size - old_size;
    if (size > sizeof(env->text) - end) {
        return FL_ENV_FULL;
    }
    memmove(env->text + at, env->text + at + old_size, end - at);
    memcpy(env->text + end, variable, strlen(variable));
    env->text[end + name_size] = '=';
    env->text[end + size - 1] = '\0';
    env->size = (uint16_t)(end + size);
    env->count = (uint16_t)(env->count + (old_size == 0 ? 1 : 0));
    return FL_ENV_OK;
}

enum fl_env_status fl_env_put(struct fl_env *env, const char *name, const char *value)
{
    size_t cursor;
    enum fl_env_status status = fl_env_open(env, name, &cursor);

    if (status == FL_ENV_OK) {
        status = fl_env_append(env, &cursor, value, strlen(value));
    }
    if (status == FL_ENV_OK) {
        fl_env_close(env, cursor);
    }
    return status;
}
