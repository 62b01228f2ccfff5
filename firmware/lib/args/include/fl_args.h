/*
 * A task's "cli_args": strings, each with its NUL, packed one after another, and what they ask for.
 * The struct is a plain value: copying it copies the strings.
 */
#ifndef FL_ARGS_H
#define FL_ARGS_H

#include "fl_env.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Bytes for all of them with their NULs. The build may set another size; with 0 there is no code
 * for cli_args and daemons, and a task that asks for one is refused.
 */
#ifndef FL_ARGS_CAPACITY
#define FL_ARGS_CAPACITY 256
#endif
#define FL_ARGS_SUPPORTED (FL_ARGS_CAPACITY > 0)

struct fl_args {
    uint16_t count;
    uint16_t size; /* bytes used in `text` */
    char text[FL_ARGS_SUPPORTED ? FL_ARGS_CAPACITY : 1];
};

/*
 * Adding a string that arrives in pieces: `*cursor` begins as `size`, append any number of times,
 * close. Only the close makes it part of the struct. Append returns false when it does not fit.
 */
bool fl_args_append(struct fl_args *args, size_t *cursor, const char *bytes, size_t size);
void fl_args_close(struct fl_args *args, size_t cursor);

/* What a task of no round wants run. Its pointers are into the task. */
struct fl_command {
    const char *name;     /* the task's, argv[0] */
    const char *function; /* to be called */
    bool nothing_else;    /* where that is missing, nothing is called in its place */
    const char *args;     /* for the module: strings like those above */
    uint16_t args_size;
    uint16_t args_count;
    const char *inputs; /* one blank between two */
    bool daemon;        /* it runs until it is stopped */
    bool plain;         /* the task had neither cli_args nor inputs, and is no daemon */
};

enum fl_args_status {
    FL_ARGS_OK,
    FL_ARGS_OPTION,   /* an option that is none of the known: `*fault` */
    FL_ARGS_ENV,      /* --env without a name: `*fault` */
    FL_ARGS_ENV_FULL, /* --env with more than the environment holds: `*fault` */
};

/*
 * Takes the options in front, which are the proplet's: "--invoke NAME" sets command->function and
 * nothing_else, "--env NAME=VALUE" a variable of `env`; "=" may stand in place of the first blank.
 * "--" ends them. What is left are the module's arguments, and `command` says where. After a
 * refusal `env` may have some of the variables.
 */
enum fl_args_status fl_args_options(const struct fl_args *args, struct fl_env *env,
                                    struct fl_command *command, const char **fault);

#endif
