#include "fl_topic.h"

#include "fl_sha256.h"
#include "fl_text.h"

#include <stdint.h>
#include <string.h>

/*
 * One template a kind; building and matching walk the same table. A level is taken literally but
 * for {r}, {p}, {n} (an id into round_id, proplet_id, name), {s} (a digest into name) and '+',
 * which is only built. The first template that matches counts.
 */
static const struct {
    enum fl_topic_kind kind;
    const char *text;
} templates[] = {
    {FL_TOPIC_PROPLET_CREATE, "control/proplet/create"},
    {FL_TOPIC_PROPLET_ALIVE, "control/proplet/alive"},
    {FL_TOPIC_PROPLET_RESULTS, "control/proplet/results"},
    {FL_TOPIC_PROPLET_CREATE_OF, "control/proplet/create/{p}"},
    {FL_TOPIC_PROPLET_ALIVE_OF, "control/proplet/alive/{p}"},
    {FL_TOPIC_PROPLET_RESULTS_OF, "control/proplet/results/{p}"},
    {FL_TOPIC_TASK_START, "control/manager/start"},
    {FL_TOPIC_TASK_START_OF, "control/manager/start/{p}"},
    {FL_TOPIC_TASK_STOP, "control/manager/stop"},
    {FL_TOPIC_TASK_STOP_OF, "control/manager/stop/{p}"},
    {FL_TOPIC_UPDATE, "fl/rounds/{r}/updates/{p}"},
    {FL_TOPIC_ACK, "fl/rounds/{r}/acks/{p}"},
    {FL_TOPIC_ACKS_OF, "fl/rounds/+/acks/{p}"},
    {FL_TOPIC_ROUND_COMPLETE, "fl/rounds/{r}/complete"},
    {FL_TOPIC_IMAGE, "fl/images/{s}"},
    {FL_TOPIC_MODEL, "fl/models/{n}"},
    {FL_TOPIC_REGISTRY_REQUEST, "registry/proplet"},
    {FL_TOPIC_REGISTRY_CHUNK, "registry/server"},
};

#define TEMPLATE_COUNT (sizeof(templates) / sizeof(templates[0]))
#define PLACEHOLDER_SIZE 3 /* "{r}" */

bool fl_id_character(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

bool fl_id_valid(const char *id, size_t size)
{
    bool only_dots = true;

    if (size < 1 || size > FL_ID_MAX) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (!fl_id_character(id[i])) {
            return false;
        }
        only_dots = only_dots && id[i] == '.';
    }
    return !only_dots;
}

bool fl_topic_prefix_valid(const char *prefix)
{
    const char *level = prefix;

    if (prefix[0] == '\0') {
        return true;
    }
    if (strlen(prefix) > FL_TOPIC_PREFIX_MAX) {
        return false;
    }
    for (;;) {
        const char *slash = strchr(level, '/');

        if (!fl_id_valid(level, slash == NULL ? strlen(level) : (size_t)(slash - level))) {
            return false;
        }
        if (slash == NULL) {
            return true;
        }
        level = slash + 1;
    }
}

/* Whether `size` characters may stand where the placeholder `letter` stands. */
static bool placeholder_valid(char letter, const char *value, size_t size)
{
    uint8_t digest[FL_SHA256_SIZE];

    return letter == 's' ? fl_sha256_from_hex(value, size, digest) : fl_id_valid(value, size);
}

size_t fl_topic_build(char *out, size_t capacity, const char *prefix, const struct fl_topic *parts)
{
    struct fl_text text;
    const char *at = NULL;

    fl_text_begin(&text, out, capacity);
    for (size_t i = 0; i < TEMPLATE_COUNT; i++) {
        if (templates[i].kind == parts->kind) {
            at = templates[i].text;
        }
    }
    if (at == NULL) {
        return 0;
    }
    if (prefix != NULL && prefix[0] != '\0') {
        fl_text_put(&text, prefix);
        fl_text_put(&text, "/");
    }
    while (*at != '\0') {
        const char *value;

        if (*at != '{') {
            fl_text_put_n(&text, at++, 1);
            continue;
        }
        value = at[1] == 'r' ? parts->round_id : at[1] == 'p' ? parts->proplet_id : parts->name;
        if (!placeholder_valid(at[1], value, strlen(value))) {
            out[0] = '\0';
            return 0;
        }
        fl_text_put(&text, value);
        at += PLACEHOLDER_SIZE;
    }
    if (!fl_text_ok(&text) || text.size > FL_TOPIC_MAX) {
        out[0] = '\0';
        return 0;
    }
    return text.size;
}

/* The level at `topic`, up to its slash or the end. */
static size_t level_size(const char *topic, size_t size)
{
    const char *slash = memchr(topic, '/', size);

    return slash == NULL ? size : (size_t)(slash - topic);
}

static bool match_template(const char *at, const char *topic, size_t size, struct fl_topic *parts)
{
    size_t i = 0;

    while (*at != '\0') {
        char *value;
        size_t value_size;

        if (*at == '+') {
            return false;
        }
        if (*at != '{') {
            if (i == size || topic[i] != *at) {
                return false;
            }
            at++;
            i++;
            continue;
        }
        value = at[1] == 'r' ? parts->round_id : at[1] == 'p' ? parts->proplet_id : parts->name;
        value_size = level_size(topic + i, size - i);
        if (!placeholder_valid(at[1], topic + i, value_size)) {
            return false;
        }
        memcpy(value, topic + i, value_size);
        value[value_size] = '\0';
        at += PLACEHOLDER_SIZE;
        i += value_size;
    }
    return i == size;
}

enum fl_topic_kind fl_topic_match(const char *prefix, const char *topic, size_t size,
                                  struct fl_topic *parts)
{
    size_t prefix_size = prefix == NULL ? 0 : strlen(prefix);

    memset(parts, 0, sizeof(*parts));
    if (prefix_size > 0) {
        if (size <= prefix_size || memcmp(topic, prefix, prefix_size) != 0 ||
            topic[prefix_size] != '/') {
            return FL_TOPIC_NONE;
        }
        topic += prefix_size + 1;
        size -= prefix_size + 1;
    }
    for (size_t i = 0; i < TEMPLATE_COUNT; i++) {
        if (match_template(templates[i].text, topic, size, parts)) {
            parts->kind = templates[i].kind;
            return parts->kind;
        }
        memset(parts, 0, sizeof(*parts)); /* what a failed match left */
    }
    return FL_TOPIC_NONE;
}
