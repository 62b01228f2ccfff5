#include "fl_env.h"

#include "fl_platform.h"
#include "fl_report.h"

#include <stddef.h>

enum { ID_MAX = 64 };

static char **variables;
static uint32_t variable_count;

void fl_env_load(struct fl_arena *arena)
{
    uint32_t size = 0;
    uint32_t status = fl_platform_environ_sizes(&variable_count, &size);

    if (status == 0) {
        variables =
            fl_arena_bytes(arena, variable_count * (uint32_t)sizeof *variables, "environment");
        status = fl_platform_environ(variables, fl_arena_bytes(arena, size, "environment"));
    }
    if (status != 0) {
        fl_fail("environment: WASI error %u", status);
    }
}

const char *fl_env(const char *name)
{
    for (uint32_t i = 0; i < variable_count; i++) {
        const char *value = variables[i];
        const char *c = name;

        while (*c != '\0' && *c == *value) {
            c++;
            value++;
        }
        if (*c == '\0' && *value == '=') {
            return value[1] != '\0' ? value + 1 : NULL;
        }
    }
    return NULL;
}

static const char *required(const char *name)
{
    const char *value = fl_env(name);

    if (value == NULL) {
        fl_fail("%s is not set", name);
    }
    return value;
}

static bool is_id(const char *text)
{
    uint32_t size = 0;

    for (; text[size] != '\0'; size++) {
        char c = text[size];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '_' || c == '-')) {
            return false;
        }
    }
    return size <= ID_MAX;
}

static const char *checked_id(const char *name, const char *value)
{
    if (value != NULL && !is_id(value)) {
        fl_fail("%s is \"%s\", not 1 to 64 letters, digits, '.', '_' or '-'", name, value);
    }
    return value;
}

/* Which of the choices the variable is; the first when it is not set. `all` lists them in words. */
static uint32_t choice(const char *name, const char *const *choices, uint32_t count,
                       const char *all)
{
    const char *value = fl_env(name);

    if (value == NULL) {
        return 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (fl_equal(value, choices[i])) {
            return i;
        }
    }
    fl_fail("%s is \"%s\", not %s", name, value, all);
}

static uint32_t seed_of(const char *text)
{
    uint32_t seed = 0;

    for (const char *c = text; *c != '\0'; c++) {
        uint32_t digit = (uint32_t)(uint8_t)*c - '0';

        if (digit > 9 || seed > (UINT32_MAX - digit) / 10) {
            fl_fail("FL_SEED is \"%s\", not an integer from 0 to %u", text, UINT32_MAX);
        }
        seed = seed * 10 + digit;
    }
    return seed;
}

/* FNV-1a, going on from `hash`. */
static uint32_t hash_on(uint32_t hash, const char *text)
{
    for (; *text != '\0'; text++) {
        hash = (hash ^ (uint8_t)*text) * 0x01000193;
    }
    return hash;
}

void fl_task_read(struct fl_task *task)
{
    static const char *const modes[] = {"train", "evaluate"};
    static const char *const formats[] = {
        [FL_JSON] = "json",
        [FL_CBOR] = "cbor",
        [FL_FLOAT16] = "float16",
        [FL_INT8_DELTA] = "int8-delta",
    };
    const char *seed = fl_env("FL_SEED");

    task->round_id = checked_id("ROUND_ID", required("ROUND_ID"));
    task->proplet_id = checked_id("PROPLET_ID", fl_env("PROPLET_ID"));
    task->model_uri = required("MODEL_URI");
    task->hyperparams = fl_env("HYPERPARAMS");
    task->train = choice("FL_MODE", modes, 2, "train or evaluate") == 0;
    task->format = (enum fl_update_format)choice("FL_UPDATE_FORMAT", formats, 4,
                                                 "json, cbor, float16 or int8-delta");
    if (seed != NULL) {
        task->seed = seed_of(seed);
    } else {
        const char *proplet_id = task->proplet_id != NULL ? task->proplet_id : "";

        task->seed = hash_on(hash_on(hash_on(0x811c9dc5, task->round_id), "/"), proplet_id);
    }
}
