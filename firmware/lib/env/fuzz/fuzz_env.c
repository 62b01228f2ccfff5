/* Variables come back as they were put, and one that does not fit changes nothing. */
#include "fl_env.h"

#include <stdlib.h>
#include <string.h>

static char name[300];
static char value[FL_ENV_CAPACITY + 1];

/* The next string: a size, and so many bytes without a NUL. Returns what is left of the input. */
static size_t take(const uint8_t *data, size_t size, char *out, size_t factor, size_t limit)
{
    size_t count = size > 0 ? data[0] : 0;
    size_t given = count < size ? count : (size > 0 ? size - 1 : 0);
    size_t used = 0;

    for (size_t i = 0; i < given * factor && used < limit; i++) {
        char c = (char)data[1 + i % given];

        out[used++] = c == '\0' ? '0' : c;
    }
    out[used] = '\0';
    return size > given ? size - given - 1 : 0;
}

static void check_whole(const struct fl_env *env)
{
    size_t at = 0;
    unsigned int count = 0;

    while (at < env->size) {
        at += strlen(env->text + at) + 1;
        count++;
    }
    if (at != env->size || count != env->count || env->size > FL_ENV_CAPACITY) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fl_env env;
    static struct fl_env before;

    fl_env_clear(&env);
    while (size > 1) {
        size_t factor = data[0] % 16u + 1u; /* long values out of few bytes */
        size_t left;
        enum fl_env_status status;

        data++;
        size--;
        left = take(data, size, name, 1, sizeof(name) - 1);
        data += size - left;
        size = left;
        left = take(data, size, value, factor, sizeof(value) - 1);
        data += size - left;
        size = left;
        before = env;
        status = fl_env_put(&env, name, value);
        if (status == FL_ENV_OK) {
            const char *found = fl_env_get(&env, name);

            if (found == NULL || strcmp(found, value) != 0) {
                abort();
            }
        } else if (env.count != before.count || env.size != before.size ||
                   memcmp(env.text, before.text, before.size) != 0) {
            abort();
        }
        check_whole(&env);
    }
    return 0;
}
