#include "fetch.h"

#include "image_store.h"
#include "mqtt_session.h"

#include "fl_manifest.h"
#include "fl_text.h"

#include <string.h>
#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>
#include <zephyr/sys/printk.h>
#include <zephyr/sys/util.h>

LOG_MODULE_REGISTER(fl_fetch, CONFIG_FL_LOG_LEVEL);

#define ASK_AGAIN_FIRST_MS 1000U
#define ASK_AGAIN_LAST_MS 32000U
#define FETCH_DETAIL_MAX 80

enum what {
    FETCH_NOTHING,
    FETCH_IMAGE,    /* from its own topic */
    FETCH_REGISTRY, /* an image in chunks */
    FETCH_MODEL,
};

static struct {
    const char *prefix;
    enum what what;
    bool receiving; /* the message under way is for this fetch, not for one cancelled before */
    uint32_t ticket;
    int64_t ask_again_ms; /* uptime */
    uint32_t ask_wait_ms; /* between the last two times */
    char detail[FETCH_DETAIL_MAX];
    struct fl_topic topic;
    struct fl_stream stream;
    struct fl_stream_sink image_sink; /* the store's */
    struct fl_image_chunks chunks;
    char app_name[FL_IMAGE_URL_MAX + 1];
    bool has_expected;
    uint8_t expected[FL_SHA256_SIZE];
    uint32_t model_size_bytes;
    uint8_t model[CONFIG_FL_MODEL_BYTES_MAX];
} fetch;

static struct fl_stream_memory model_memory = {fetch.model, sizeof(fetch.model)};

void fetch_begin(const char *prefix)
{
    memset(&fetch, 0, sizeof(fetch));
    fetch.prefix = prefix;
}

const uint8_t *fetch_model_bytes(uint32_t *size_bytes)
{
    *size_bytes = fetch.model_size_bytes;
    return fetch.model;
}

/* topics */

static bool build_topic(char topic[FL_TOPIC_MAX + 1], const struct fl_topic *parts)
{
    return fl_topic_build(topic, FL_TOPIC_MAX + 1, fetch.prefix, parts) > 0;
}

static void subscribe(void)
{
    char topic[FL_TOPIC_MAX + 1];

    if (build_topic(topic, &fetch.topic)) {
        (void)session_subscribe(topic); /* if it fails, the session ends and the fetch with it */
    }
}

static void ask_first_time(void)
{
    subscribe();
    fetch.ask_wait_ms = ASK_AGAIN_FIRST_MS;
    fetch.ask_again_ms = k_uptime_get() + ASK_AGAIN_FIRST_MS;
}

int64_t fetch_ask_again(int64_t now_ms)
{
    if ((fetch.what != FETCH_IMAGE && fetch.what != FETCH_MODEL) || fetch.receiving) {
        return INT64_MAX;
    }
    if (now_ms >= fetch.ask_again_ms && session_state() == SESSION_OPEN) {
        subscribe();
        fetch.ask_wait_ms = MIN(2U * fetch.ask_wait_ms, ASK_AGAIN_LAST_MS);
        fetch.ask_again_ms = now_ms + fetch.ask_wait_ms;
    }
    return fetch.ask_again_ms;
}

static void unsubscribe(void)
{
    char topic[FL_TOPIC_MAX + 1];

    if (session_state() == SESSION_OPEN && build_topic(topic, &fetch.topic)) {
        (void)session_unsubscribe(topic);
    }
}

void fetch_cancel(void)
{
    if (fetch.what != FETCH_NOTHING) {
        unsubscribe();
        fetch.what = FETCH_NOTHING;
    }
    fetch.receiving = false;
}

/* outcomes */

static bool over(struct fl_event *event, enum fl_event_kind kind, const char *detail)
{
    fetch_cancel();
    event->kind = kind;
    event->ticket = fetch.ticket;
    event->detail = detail;
    return true;
}

/* What is wrong with the stream, and, where it was too large, how large may be. */
static const char *stream_detail(enum fl_stream_status status, uint32_t limit_bytes,
                                 const char *option)
{
    if (status != FL_STREAM_TOO_LARGE || fetch.stream.total_bytes == FL_STREAM_TOTAL_UNKNOWN) {
        return fl_stream_word(status);
    }
    snprintk(fetch.detail, sizeof(fetch.detail), "%s: %u bytes, %s is %u", fl_stream_word(status),
             fetch.stream.total_bytes, option, limit_bytes);
    return fetch.detail;
}

static bool image_over(struct fl_event *event, enum fl_stream_status status)
{
    if (status != FL_STREAM_OK) {
        return over(event, FL_EVENT_IMAGE_FAILED,
                    stream_detail(status, CONFIG_FL_IMAGE_BYTES_MAX, "CONFIG_FL_IMAGE_BYTES_MAX"));
    }
    if (image_store_commit(fetch.stream.offset_bytes, fetch.stream.digest) != 0) {
        return over(event, FL_EVENT_IMAGE_FAILED, fl_stream_word(FL_STREAM_SINK_FAILED));
    }
    return over(event, FL_EVENT_IMAGE_READY, NULL);
}

/* The digest that what is fetched must have, if it is known. */
static void expect(bool known, const uint8_t sha256[FL_SHA256_SIZE])
{
    fetch.has_expected = known;
    memcpy(fetch.expected, sha256, sizeof(fetch.expected));
}

/* images */

/* The place is prepared only when the first bytes come: until then it keeps the image it has. */
static bool write_image(void *user, uint32_t offset, const uint8_t *data, size_t size)
{
    (void)user;
    if (offset == 0) {
        int status = image_store_write(&fetch.image_sink);

        if (status != 0) {
            LOG_ERR("the image's place cannot be prepared (%d)", status);
            return false;
        }
    }
    return fetch.image_sink.write(fetch.image_sink.user, offset, data, size);
}

static void begin_image_stream(uint32_t total_bytes)
{
    const struct fl_stream_sink sink = {write_image, NULL};

    (void)fl_stream_begin(&fetch.stream, sink, total_bytes, CONFIG_FL_IMAGE_BYTES_MAX,
                          fetch.has_expected ? fetch.expected : NULL); /* a refusal stays */
}

/* The image came with the task; only now is it known which digest it must have. */
static bool finish_file(struct fl_event *event)
{
    if (fetch.has_expected && !fl_sha256_equal(fetch.stream.digest, fetch.expected)) {
        return image_over(event, FL_STREAM_MISMATCH);
    }
    return image_over(event, fl_stream_end(&fetch.stream));
}

static bool ask_registry(struct fl_event *event, const char *app_name)
{
    char topic[FL_TOPIC_MAX + 1];
    char request[FL_IMAGE_URL_MAX * 2 + 32];
    size_t size;

    fetch.topic.kind = FL_TOPIC_REGISTRY_CHUNK;
    (void)fl_text_copy(fetch.app_name, sizeof(fetch.app_name), app_name); /* of the same size */
    begin_image_stream(FL_STREAM_TOTAL_UNKNOWN);
    fetch.chunks = (struct fl_image_chunks){.app_name = fetch.app_name, .stream = &fetch.stream};
    size = fl_encode_image_request(request, sizeof(request), app_name);
    if (size >= sizeof(request)) {
        return over(event, FL_EVENT_IMAGE_FAILED, "image_url has too many special characters");
    }
    fetch.what = FETCH_REGISTRY;
    subscribe();
    if (build_topic(topic, &(struct fl_topic){.kind = FL_TOPIC_REGISTRY_REQUEST})) {
        (void)session_publish(topic, request, size, NULL);
    }
    return false;
}

bool fetch_image(const struct fl_action *action, struct fl_event *event)
{
    const struct fl_task_start *task = action->task;

    fetch_cancel();
    fetch.ticket = action->ticket;
    expect(task->has_image_sha256, task->image_sha256);
    memset(&fetch.topic, 0, sizeof(fetch.topic));
    if (action->source == FL_IMAGE_FILE) {
        return finish_file(event);
    }
    if (fetch.has_expected && image_store_has(fetch.expected)) {
        return over(event, FL_EVENT_IMAGE_READY, NULL);
    }
    if (action->source == FL_IMAGE_REGISTRY) {
        return ask_registry(event, task->image_url);
    }
    fetch.topic.kind = FL_TOPIC_IMAGE;
    fl_sha256_to_hex(fetch.expected, fetch.topic.name);
    fetch.what = FETCH_IMAGE;
    ask_first_time();
    return false;
}

struct fl_stream *fetch_file_stream(void)
{
    fetch.has_expected = false;
    begin_image_stream(FL_STREAM_TOTAL_UNKNOWN);
    return &fetch.stream;
}

struct fl_image_chunks *fetch_chunks(void)
{
    return fetch.what == FETCH_REGISTRY ? &fetch.chunks : NULL;
}

bool fetch_chunk_end(struct fl_event *event)
{
    if (fetch.what != FETCH_REGISTRY) {
        return false;
    }
    if (fetch.chunks.failed) {
        return over(event, FL_EVENT_IMAGE_FAILED, "the registry's chunks do not fit together");
    }
    return fetch.chunks.complete && image_over(event, fl_stream_end(&fetch.stream));
}

/* models */

bool fetch_model(const struct fl_action *action, struct fl_event *event)
{
    fetch_cancel();
    fetch.ticket = action->ticket;
    fetch.model_size_bytes = 0;
    expect(action->task->has_model_sha256, action->task->model_sha256);
    if (fl_topic_match(NULL, action->text, strlen(action->text), &fetch.topic) != FL_TOPIC_MODEL) {
        return over(event, FL_EVENT_MODEL_FAILED, "MODEL_URI is not fl/models/{name}");
    }
    fetch.what = FETCH_MODEL;
    ask_first_time();
    return false;
}

/* what arrives */

bool fetch_wants(const struct fl_topic *topic, uint32_t payload_bytes)
{
    const struct fl_stream_sink model_sink = {fl_stream_to_memory, &model_memory};

    if ((fetch.what != FETCH_IMAGE && fetch.what != FETCH_MODEL) || payload_bytes == 0 ||
        topic->kind != fetch.topic.kind || strcmp(topic->name, fetch.topic.name) != 0) {
        return false;
    }
    fetch.receiving = true;
    if (fetch.what == FETCH_MODEL) {
        (void)fl_stream_begin(&fetch.stream, model_sink, payload_bytes, sizeof(fetch.model),
                              fetch.has_expected ? fetch.expected : NULL); /* a refusal stays */
    } else {
        begin_image_stream(payload_bytes);
    }
    return true;
}

void fetch_bytes(const uint8_t *bytes, size_t size)
{
    if (fetch.receiving) {
        (void)fl_stream_write(&fetch.stream, bytes, size); /* a refusal stays */
    }
}

bool fetch_end(struct fl_event *event)
{
    enum fl_stream_status status;

    if (!fetch.receiving) {
        return false;
    }
    status = fl_stream_end(&fetch.stream);
    if (fetch.what == FETCH_IMAGE) {
        return image_over(event, status);
    }
    if (status == FL_STREAM_MISMATCH) { /* the fetch goes on: it may be put right */
        fetch.receiving = false;
        event->kind = FL_EVENT_MODEL_MISMATCH;
        event->ticket = fetch.ticket;
        event->found_sha256 = fetch.stream.digest;
        return true;
    }
    if (status != FL_STREAM_OK) {
        return over(event, FL_EVENT_MODEL_FAILED,
                    stream_detail(status, sizeof(fetch.model), "CONFIG_FL_MODEL_BYTES_MAX"));
    }
    fetch.model_size_bytes = fetch.stream.offset_bytes;
    if (fl_manifest_is(fetch.model, fetch.model_size_bytes)) {
        return over(event, FL_EVENT_MODEL_FAILED, FL_MANIFEST_DETAIL);
    }
    return over(event, FL_EVENT_MODEL_READY, NULL);
}
