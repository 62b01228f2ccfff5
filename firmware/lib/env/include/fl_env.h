/*
 * A task's environment: "NAME=VALUE" strings, each with its NUL, packed one after another. It is a
 * plain value: copying the struct copies the environment.
 */
#ifndef FL_ENV_H
#define FL_ENV_H

#include <stddef.h>
#include <stdint.h>

/* Bytes for all names, '=' signs, values and NULs of one task. The build may set another size. */
#ifndef FL_ENV_CAPACITY
#define FL_ENV_CAPACITY 2048
#endif

struct fl_env {
    uint16_t count; /* variables */
    uint16_t size;  /* bytes used in `text` */
    char text[FL_ENV_CAPACITY];
};

enum fl_env_status {
    FL_ENV_OK,
    FL_ENV_BAD_NAME, /* empty, or with a '=' in it */
    FL_ENV_TAKEN,    /* there is a variable of that name already */
    FL_ENV_FULL,     /* it does not fit; the environment is as it was */
};

void fl_env_clear(struct fl_env *env);

/* Adds a variable. */
enum fl_env_status fl_env_put(struct fl_env *env, const char *name, const char *value);

/* Adds the variable "NAME=VALUE", in place of one of that name; without a '=' it is empty. */
enum fl_env_status fl_env_set(struct fl_env *env, const char *variable);

/* The value of `name`, or NULL. It points into `env`. */
const char *fl_env_get(const struct fl_env *env, const char *name);

/*
 * Adding a value that arrives in pieces: open, append any number of times, close.
 * Between open and close nothing else may touch `env`; fl_env_close() alone makes the variable
 * part of it, so giving up half-way is simply not to close.
 */
enum fl_env_status fl_env_open(struct fl_env *env, const char *name, size_t *cursor);
enum fl_env_status fl_env_append(struct fl_env *env, size_t *cursor, const char *bytes,
                                 size_t size);
void fl_env_close(struct fl_env *env, size_t cursor);

#endif
