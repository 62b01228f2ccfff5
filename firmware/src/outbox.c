#include "outbox.h"

#include "board_info.h"
#include "mqtt_session.h"

#include "fl_message.h"
#include "fl_proplet.h"
#include "fl_text.h"
#include "fl_topic.h"

#include <errno.h>
#include <string.h>
#include <zephyr/logging/log.h>
#include <zephyr/sys/util.h>

LOG_MODULE_REGISTER(fl_outbox, CONFIG_FL_LOG_LEVEL);

#define MESSAGE_BYTES_MAX 768

static struct {
    const struct config *config;
    char alive_topic[FL_TOPIC_MAX + 1];
    char will[MESSAGE_BYTES_MAX];
    char message[MESSAGE_BYTES_MAX];
} outbox;

/* An error's text may double when it is escaped, and all else in a result has a bound. */
BUILD_ASSERT(FL_TASK_ID_MAX + FL_ID_MAX + 2 * FL_PROPLET_ERROR_MAX + 64 < MESSAGE_BYTES_MAX);

static bool topic_of(char topic[FL_TOPIC_MAX + 1], const struct fl_topic *parts)
{
    if (fl_topic_build(topic, FL_TOPIC_MAX + 1, outbox.config->topic_prefix, parts) == 0) {
        LOG_ERR("a topic cannot be built from this task's ids");
        return false;
    }
    return true;
}

/* The topic on which this proplet says such things. */
static struct fl_topic topic_for(enum fl_topic_kind kind)
{
    struct fl_topic parts = {.kind = kind};

    if (outbox.config->own_topics) {
        parts.kind = kind == FL_TOPIC_PROPLET_CREATE  ? FL_TOPIC_PROPLET_CREATE_OF
                     : kind == FL_TOPIC_PROPLET_ALIVE ? FL_TOPIC_PROPLET_ALIVE_OF
                                                      : FL_TOPIC_PROPLET_RESULTS_OF;
        /* An id, and so it fits. */
        (void)fl_text_copy(parts.proplet_id, sizeof(parts.proplet_id), outbox.config->proplet_id);
    }
    return parts;
}

int outbox_begin(const struct config *config)
{
    struct fl_topic parts;
    size_t size;

    outbox.config = config;
    parts = topic_for(FL_TOPIC_PROPLET_ALIVE);
    if (!topic_of(outbox.alive_topic, &parts)) {
        return -ENOSPC;
    }
    size = fl_encode_alive(outbox.will, sizeof(outbox.will), config->proplet_id, config->name_space,
                           false);
    if (size >= sizeof(outbox.will)) {
        return -ENOSPC;
    }
    outbox.will[size] = '\0';
    return 0;
}

const char *outbox_will_topic(void)
{
    return outbox.alive_topic;
}

const char *outbox_will_payload(void)
{
    return outbox.will;
}

/* `size` is what an encoder returned for `capacity` bytes at `message`. */
static int publish(enum fl_topic_kind kind, const char *message, size_t size, size_t capacity,
                   uint16_t *message_id)
{
    struct fl_topic parts = topic_for(kind);
    char topic[FL_TOPIC_MAX + 1];

    if (size >= capacity) {
        return -ENOSPC;
    }
    if (!topic_of(topic, &parts)) {
        return -EINVAL;
    }
    return session_publish(topic, message, size, message_id);
}

static void publish_message(enum fl_topic_kind kind, size_t size, uint16_t *message_id)
{
    if (publish(kind, outbox.message, size, sizeof(outbox.message), message_id) == -ENOSPC) {
        LOG_ERR("a message has more than %u bytes", (unsigned int)sizeof(outbox.message));
    }
}

void outbox_discovery(void)
{
    struct fl_discovery discovery = {.proplet_id = outbox.config->proplet_id,
                                     .name_space = outbox.config->name_space};

    board_info_describe(&discovery);
    publish_message(FL_TOPIC_PROPLET_CREATE,
                    fl_encode_discovery(outbox.message, sizeof(outbox.message), &discovery), NULL);
}

void outbox_alive(void)
{
    publish_message(FL_TOPIC_PROPLET_ALIVE,
                    fl_encode_alive(outbox.message, sizeof(outbox.message),
                                    outbox.config->proplet_id, outbox.config->name_space, true),
                    NULL);
}

void outbox_update(const char *round_id, const uint8_t *bytes, size_t size)
{
    struct fl_topic parts = {.kind = FL_TOPIC_UPDATE};
    char topic[FL_TOPIC_MAX + 1];

    /* Both are ids, and so they fit. */
    (void)fl_text_copy(parts.round_id, sizeof(parts.round_id), round_id);
    (void)fl_text_copy(parts.proplet_id, sizeof(parts.proplet_id), outbox.config->proplet_id);
    if (topic_of(topic, &parts)) {
        (void)session_publish(topic, bytes, size, NULL);
    }
}

void outbox_result(const char *task_id, const char *error, const uint8_t *output, size_t size,
                   char *scratch, size_t scratch_bytes, uint16_t *message_id)
{
    struct fl_result result = {.task_id = task_id,
                               .proplet_id = outbox.config->proplet_id,
                               .results = (const char *)output,
                               .results_size = size,
                               .error = error};

    if (output != NULL && error == NULL) {
        size_t message_size = fl_encode_result(scratch, scratch_bytes, &result);

        if (publish(FL_TOPIC_PROPLET_RESULTS, scratch, message_size, scratch_bytes, message_id) !=
            -ENOSPC) {
            return;
        }
        result.error = "output: too large to be sent as a result";
    }
    result.results = NULL;
    publish_message(FL_TOPIC_PROPLET_RESULTS,
                    fl_encode_result(outbox.message, sizeof(outbox.message), &result), message_id);
}
