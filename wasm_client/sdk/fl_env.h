/* The environment, and what it says about the task. */
#ifndef FL_ENV_H
#define FL_ENV_H

#include "fl_memory.h"

#include <stdbool.h>
#include <stdint.h>

/* Copies the environment into the arena. To be called once, before all else. */
void fl_env_load(struct fl_arena *arena);

/* The value of a variable; NULL when it is not set, or empty. */
const char *fl_env(const char *name);

/* What the update is written in, see fl_update.h. */
enum fl_update_format { FL_JSON, FL_CBOR, FL_FLOAT16, FL_INT8_DELTA };

/* The strings live in the arena. */
struct fl_task {
    const char *round_id;    /* ROUND_ID */
    const char *proplet_id;  /* PROPLET_ID, or NULL */
    const char *model_uri;   /* MODEL_URI */
    const char *hyperparams; /* HYPERPARAMS, or NULL */
    bool train;              /* FL_MODE: "train", the default, or "evaluate" */
    /* FL_UPDATE_FORMAT: "json", the default, "cbor", "float16" or "int8-delta" */
    enum fl_update_format format;
    uint32_t seed; /* FL_SEED; else a hash of the round's and the proplet's id */
};

/* Fails (fl_fail) when a variable is missing or wrong, and names it. */
void fl_task_read(struct fl_task *task);

#endif
