/*
 * Every topic the proplet uses, built and taken apart in one place.
 *
 * A prefix is whole levels put before each topic ("m/tenant/c/channel"); NULL or "" is none.
 */
#ifndef FL_TOPIC_H
#define FL_TOPIC_H

#include <stdbool.h>
#include <stddef.h>

/* Characters, without a NUL. */
#define FL_ID_MAX 64
#define FL_TOPIC_PREFIX_MAX 127
#define FL_TOPIC_MAX 275 /* the longest prefix, and an update's topic with the longest ids */

enum fl_topic_kind {
    FL_TOPIC_NONE,               /* none of those below */
    FL_TOPIC_PROPLET_CREATE,     /* control/proplet/create */
    FL_TOPIC_PROPLET_ALIVE,      /* control/proplet/alive */
    FL_TOPIC_PROPLET_RESULTS,    /* control/proplet/results */
    FL_TOPIC_PROPLET_CREATE_OF,  /* control/proplet/create/{proplet_id} */
    FL_TOPIC_PROPLET_ALIVE_OF,   /* control/proplet/alive/{proplet_id} */
    FL_TOPIC_PROPLET_RESULTS_OF, /* control/proplet/results/{proplet_id} */
    FL_TOPIC_TASK_START,         /* control/manager/start */
    FL_TOPIC_TASK_START_OF,      /* control/manager/start/{proplet_id} */
    FL_TOPIC_TASK_STOP,          /* control/manager/stop */
    FL_TOPIC_TASK_STOP_OF,       /* control/manager/stop/{proplet_id} */
    FL_TOPIC_UPDATE,             /* fl/rounds/{round_id}/updates/{proplet_id} */
    FL_TOPIC_ACK,                /* fl/rounds/{round_id}/acks/{proplet_id} */
    FL_TOPIC_ACKS_OF,            /* fl/rounds/+/acks/{proplet_id}: a filter, only built */
    FL_TOPIC_ROUND_COMPLETE,     /* fl/rounds/{round_id}/complete */
    FL_TOPIC_IMAGE,              /* fl/images/{sha256} */
    FL_TOPIC_MODEL,              /* fl/models/{name} */
    FL_TOPIC_REGISTRY_REQUEST,   /* registry/proplet */
    FL_TOPIC_REGISTRY_CHUNK,     /* registry/server */
};

/* What a topic says. Members that its kind does not have are empty. */
struct fl_topic {
    enum fl_topic_kind kind;
    char round_id[FL_ID_MAX + 1];
    char proplet_id[FL_ID_MAX + 1];
    char name[FL_ID_MAX + 1]; /* an image's sha256 in hexadecimal, or a model's name */
};

/* Whether `c` may stand in an id. */
bool fl_id_character(char c);

/*
 * Whether `size` characters at `id` are an id: 1 to 64 of A-Z a-z 0-9 . _ - and not dots alone
 * (it becomes a topic level and a file name).
 */
bool fl_id_valid(const char *id, size_t size);

/* Whether `prefix` is usable: empty, or ids separated by single slashes. */
bool fl_topic_prefix_valid(const char *prefix);

/*
 * Writes the topic of `parts->kind` with its NUL into `out`, which holds `capacity` bytes.
 * Members that the kind does not use are not read. Returns the topic's size, or 0, with `out` the
 * empty string, when the kind is NONE, an id is not an id, an image's name is not 64 lower-case
 * hexadecimal characters, or the topic does not fit.
 */
size_t fl_topic_build(char *out, size_t capacity, const char *prefix, const struct fl_topic *parts);

/*
 * Takes the `size` characters at `topic` (not terminated) apart. Returns the kind, which is also
 * in `parts`; FL_TOPIC_NONE when it does not lie under the prefix, is of no kind, or carries
 * something that is no id.
 */
enum fl_topic_kind fl_topic_match(const char *prefix, const char *topic, size_t size,
                                  struct fl_topic *parts);

#endif
