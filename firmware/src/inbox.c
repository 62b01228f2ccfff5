#include "inbox.h"

#include "fetch.h"

#include "fl_message.h"
#include "fl_text.h"
#include "fl_topic.h"

#include <string.h>
#include <zephyr/logging/log.h>

LOG_MODULE_REGISTER(fl_inbox, CONFIG_FL_LOG_LEVEL);

enum route {
    ROUTE_NOWHERE,
    ROUTE_DECODER,
    ROUTE_FETCH,
};

static struct {
    const char *prefix;
    const struct fl_proplet *proplet;
    enum route route;
    struct fl_topic topic;
    struct fl_message_decoder decoder;
    /* What is decoded. A task is by far the largest of them, and has a place of its own. */
    struct fl_task_start task;
    union {
        struct fl_task_stop stop;
        struct fl_update_ack ack;
        struct fl_round_complete round;
    } message;
    char detail[FL_DETAIL_MAX + 1];
} inbox;

void inbox_begin(const char *prefix, const struct fl_proplet *proplet)
{
    memset(&inbox, 0, sizeof(inbox));
    inbox.prefix = prefix;
    inbox.proplet = proplet;
}

/* arriving */

static void begin_task(void)
{
    struct fl_stream *file = NULL;

    /* A task may bring its image along: where the image's place is in use, it is only measured. */
    if (fl_proplet_takes_file(inbox.proplet)) {
        file = fetch_file_stream();
    }
    fl_decode_task_start(&inbox.decoder, &inbox.task, file);
}

void inbox_message(const char *topic, size_t topic_size, uint32_t payload_bytes)
{
    struct fl_image_chunks *chunks = fetch_chunks();

    inbox.route = ROUTE_DECODER;
    switch (fl_topic_match(inbox.prefix, topic, topic_size, &inbox.topic)) {
    case FL_TOPIC_TASK_START:
    case FL_TOPIC_TASK_START_OF:
        begin_task();
        break;
    case FL_TOPIC_TASK_STOP:
    case FL_TOPIC_TASK_STOP_OF:
        fl_decode_task_stop(&inbox.decoder, &inbox.message.stop);
        break;
    case FL_TOPIC_ACK:
        fl_decode_update_ack(&inbox.decoder, &inbox.message.ack);
        break;
    case FL_TOPIC_ROUND_COMPLETE:
        fl_decode_round_complete(&inbox.decoder, &inbox.message.round);
        break;
    case FL_TOPIC_REGISTRY_CHUNK:
        if (chunks == NULL) {
            inbox.route = ROUTE_NOWHERE;
        } else {
            fl_decode_image_chunk(&inbox.decoder, chunks);
        }
        break;
    default:
        inbox.route = fetch_wants(&inbox.topic, payload_bytes) ? ROUTE_FETCH : ROUTE_NOWHERE;
        break;
    }
}

void inbox_bytes(const uint8_t *bytes, size_t size)
{
    if (inbox.route == ROUTE_DECODER) {
        /* A refusal stays, and fl_message_end() returns it. */
        (void)fl_message_feed(&inbox.decoder, (const char *)bytes, size);
    } else if (inbox.route == ROUTE_FETCH) {
        fetch_bytes(bytes, size);
    }
}

/* complete */

static void describe_refusal(enum fl_message_status status)
{
    const char *field = fl_message_field(&inbox.decoder);
    struct fl_text text;

    fl_text_begin(&text, inbox.detail, sizeof(inbox.detail));
    fl_text_put(&text, fl_message_word(status));
    if (field[0] != '\0') {
        fl_text_put(&text, ": ");
        fl_text_put(&text, field);
    }
}

static bool task_event(struct fl_event *event, enum fl_message_status status)
{
    event->task = &inbox.task;
    event->addressed = inbox.topic.kind == FL_TOPIC_TASK_START_OF;
    event->kind = FL_EVENT_TASK;
    if (status != FL_MESSAGE_OK) {
        event->kind = FL_EVENT_TASK_UNUSABLE;
        event->detail = inbox.detail;
    }
    return true;
}

/* A stop names its proplet, or means whoever runs the task; the topic's proplet is this one. */
static bool stop_event(struct fl_event *event)
{
    const struct fl_task_stop *stop = &inbox.message.stop;

    if (stop->proplet_id[0] != '\0' &&
        strcmp(stop->proplet_id, inbox.proplet->config.proplet_id) != 0) {
        return false;
    }
    event->kind = FL_EVENT_TASK_STOP;
    event->text = stop->id;
    return true;
}

static bool decoded_event(struct fl_event *event)
{
    enum fl_message_status status = fl_message_end(&inbox.decoder);
    enum fl_topic_kind kind = inbox.topic.kind;

    if (status != FL_MESSAGE_OK) {
        describe_refusal(status);
        LOG_WRN("a message cannot be used: %s", inbox.detail);
        if (kind != FL_TOPIC_TASK_START && kind != FL_TOPIC_TASK_START_OF) {
            return false;
        }
    }
    switch (kind) {
    case FL_TOPIC_TASK_START:
    case FL_TOPIC_TASK_START_OF:
        return task_event(event, status);
    case FL_TOPIC_TASK_STOP:
    case FL_TOPIC_TASK_STOP_OF:
        return stop_event(event);
    case FL_TOPIC_ACK:
        event->kind = FL_EVENT_ACK;
        event->ack = &inbox.message.ack;
        return true;
    case FL_TOPIC_ROUND_COMPLETE:
        event->kind = FL_EVENT_ROUND_CLOSED;
        event->text = inbox.message.round.round_id;
        event->detail = inbox.message.round.status;
        return true;
    case FL_TOPIC_REGISTRY_CHUNK:
        return fetch_chunk_end(event);
    default:
        return false;
    }
}

bool inbox_end(struct fl_event *event)
{
    enum route route = inbox.route;

    inbox.route = ROUTE_NOWHERE;
    memset(event, 0, sizeof(*event));
    switch (route) {
    case ROUTE_DECODER:
        return decoded_event(event);
    case ROUTE_FETCH:
        return fetch_end(event);
    default:
        return false;
    }
}
