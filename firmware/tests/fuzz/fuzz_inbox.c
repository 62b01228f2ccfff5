/*
 * Everything that the broker may send: topics and payloads in pieces, decoded or fetched, and the
 * events that come of them handled. A message is the size of its topic, the size of its payload in
 * 16s, the size of a piece, the topic and the payload.
 */
#define CONFIG_FL_IMAGE_BYTES_MAX 512
#define CONFIG_FL_MODEL_BYTES_MAX 256

#include "fetch.c"
#include "image_store_ram.c"
#undef LOG_MODULE_REGISTER
#define LOG_MODULE_REGISTER(...) _Static_assert(1, "")
#include "inbox.c"

#include <stdlib.h>

static int64_t now_ms;
static struct fl_proplet proplet;

int64_t k_uptime_get(void)
{
    return now_ms;
}

/* The session's side: it takes everything. */

enum session_state session_state(void)
{
    return SESSION_OPEN;
}

int session_publish(const char *topic, const void *payload, size_t size, uint16_t *message_id)
{
    (void)payload;
    if (strlen(topic) > FL_TOPIC_MAX || size > CONFIG_FL_IMAGE_BYTES_MAX * 2 ||
        message_id != NULL) {
        abort();
    }
    return 0;
}

int session_subscribe(const char *topic)
{
    if (topic[0] == '\0' || strlen(topic) > FL_TOPIC_MAX) {
        abort();
    }
    return 0;
}

int session_unsubscribe(const char *topic)
{
    return session_subscribe(topic);
}

/* Events that follow from actions, as the supervisor queues them. */
static struct fl_event queue[2 * FL_PROPLET_ACTIONS_MAX];
static size_t queued;

static void enqueue(const struct fl_event *event)
{
    if (queued == ARRAY_SIZE(queue)) {
        abort(); /* one leads to the next without end */
    }
    queue[queued++] = *event;
}

static void carry_out(const struct fl_action *action)
{
    static const uint8_t digest[FL_SHA256_SIZE];
    struct fl_event event = {0};
    uint32_t size;

    switch (action->kind) {
    case FL_DO_FETCH_IMAGE:
        if (fetch_image(action, &event)) {
            enqueue(&event);
        }
        break;
    case FL_DO_FETCH_MODEL:
        if (fetch_model(action, &event)) {
            enqueue(&event);
        }
        break;
    case FL_DO_CANCEL_FETCH:
        fetch_cancel();
        break;
    case FL_DO_START_RUN:
        (void)fetch_model_bytes(&size);
        if (size > CONFIG_FL_MODEL_BYTES_MAX || image_store_size() > CONFIG_FL_IMAGE_BYTES_MAX) {
            abort();
        }
        event = (struct fl_event){.kind = FL_EVENT_RUN_ENDED,
                                  .ticket = action->ticket,
                                  .run_end = FL_RUN_OK,
                                  .output_sha256 = digest};
        enqueue(&event);
        break;
    case FL_DO_PUBLISH_RESULT:
        event = (struct fl_event){.kind = FL_EVENT_RESULT_DELIVERED, .ticket = action->ticket};
        enqueue(&event);
        break;
    default:
        break;
    }
}

static void handle(const struct fl_event *first)
{
    struct fl_actions actions;

    queued = 0;
    enqueue(first);
    for (size_t at = 0; at < queued; at++) {
        struct fl_event event = queue[at];

        event.now_ms = now_ms;
        fl_proplet_handle(&proplet, &event, &actions);
        for (size_t i = 0; i < actions.count; i++) {
            carry_out(&actions.list[i]);
        }
    }
}

/* One message; returns how much of the input it was. */
static size_t receive(const uint8_t *data, size_t size)
{
    size_t topic_size = data[0];
    size_t payload_size = (size_t)data[1] * 16u;
    size_t piece = data[2] % 48u + 1u;
    size_t used = 3;
    struct fl_event event;
    char *topic;

    topic_size = topic_size < size - used ? topic_size : size - used;
    topic = malloc(topic_size + 1); /* of its exact size, for the sanitizer */
    memcpy(topic, data + used, topic_size);
    used += topic_size;
    payload_size = payload_size < size - used ? payload_size : size - used;
    inbox_message(topic, topic_size, (uint32_t)payload_size);
    free(topic);
    for (size_t at = 0; at < payload_size; at += piece) {
        inbox_bytes(data + used + at, payload_size - at < piece ? payload_size - at : piece);
    }
    if (inbox_end(&event)) {
        handle(&event);
    }
    return used + payload_size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct fl_proplet_config config = {
        .proplet_id = "mcu-1",
        .heartbeat_ms = 1000,
        .image_limit_ms = 3000,
        .model_limit_ms = 6000,
        .run_limit_ms = 2000,
        .stop_grace_ms = 500,
        .update = {.resend_min_ms = 100, .resend_max_ms = 1000, .max_sends = 3},
    };
    struct fl_event event = {.kind = FL_EVENT_CONNECTED};

    now_ms = 1000;
    fl_proplet_begin(&proplet, &config);
    fetch_begin("");
    inbox_begin("", &proplet);
    (void)image_store_begin();
    handle(&event);
    while (size > 3) {
        size_t used = receive(data, size);

        data += used;
        size -= used;
        now_ms += 100;
        (void)fetch_ask_again(now_ms);
        event = (struct fl_event){.kind = FL_EVENT_TICK};
        handle(&event);
    }
    return 0;
}
