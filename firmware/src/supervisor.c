#include "supervisor.h"

#include "fetch.h"
#include "image_store.h"
#include "inbox.h"
#include "local_data.h"
#include "mqtt_session.h"
#include "outbox.h"
#include "task_receipts.h"
#include "worker.h"

#include "fl_backoff.h"
#include "fl_proplet.h"

#include <errno.h>
#include <string.h>
#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>
#include <zephyr/logging/log_ctrl.h>
#include <zephyr/random/random.h>
#include <zephyr/sys/reboot.h>

LOG_MODULE_REGISTER(fl_proplet, CONFIG_FL_LOG_LEVEL);

#define IDLE_WAIT_MAX_MS 60000
#define RUN_WAIT_MAX_MS 20 /* how late the end of a run may be noticed */
#define QUEUE_MAX 4        /* events that carrying out actions may bring */

static struct {
    const struct config *config;
    struct fl_proplet proplet;
    struct fl_backoff backoff;
    int64_t connect_at_ms;
    int64_t ask_again_ms; /* when a fetch wants to ask again */
    struct fl_wasi_file data;
    bool has_data;
    uint16_t result_message_id; /* 0: no receipt for a result is awaited */
    uint32_t result_ticket;
    struct wasm_outcome outcome;
    struct fl_event queue[QUEUE_MAX]; /* their pointers are to constants or to `outcome` */
    size_t queued;
} supervisor;

static void enqueue(const struct fl_event *event)
{
    __ASSERT(supervisor.queued < QUEUE_MAX, "one action brings at most one event");
    supervisor.queue[supervisor.queued++] = *event;
}

/* carrying out actions */

static void subscribe(void)
{
    static const struct {
        enum fl_topic_kind kind;
        bool shared; /* by all proplets */
    } topics[] = {
        {FL_TOPIC_TASK_START, true},    {FL_TOPIC_TASK_START_OF, false}, {FL_TOPIC_TASK_STOP, true},
        {FL_TOPIC_TASK_STOP_OF, false}, {FL_TOPIC_ACKS_OF, false},
    };
    struct fl_topic parts = {0};
    char topic[FL_TOPIC_MAX + 1];

    memcpy(parts.proplet_id, supervisor.config->proplet_id, sizeof(parts.proplet_id));
    for (size_t i = 0; i < ARRAY_SIZE(topics); i++) {
        if (topics[i].shared && supervisor.config->own_topics) {
            continue;
        }
        parts.kind = topics[i].kind;
        if (fl_topic_build(topic, sizeof(topic), supervisor.config->topic_prefix, &parts) > 0) {
            (void)session_subscribe(topic); /* if it fails, the session ends */
        }
    }
}

static void watch_round(const char *round_id, bool watch)
{
    struct fl_topic parts = {.kind = FL_TOPIC_ROUND_COMPLETE};
    char topic[FL_TOPIC_MAX + 1];

    strncpy(parts.round_id, round_id, sizeof(parts.round_id) - 1); /* an id: it fits */
    if (fl_topic_build(topic, sizeof(topic), supervisor.config->topic_prefix, &parts) > 0) {
        (void)(watch ? session_subscribe(topic) : session_unsubscribe(topic));
    }
}

static void start_run(const struct fl_action *action)
{
    struct wasm_job job = {.env = &action->task->env,
                           .command = action->command,
                           .signatures = &action->task->image_signatures};
    uint32_t model_bytes;
    const uint8_t *model = fetch_model_bytes(&model_bytes);

    if (action->with_model) {
        job.files[job.file_count++] = (struct fl_wasi_file){
            .name = "model",
            .size_bytes = model_bytes,
            .read = fl_wasi_read_memory,
            .user = (void *)model,
        };
    }
    if (supervisor.has_data) {
        job.files[job.file_count++] = supervisor.data;
    }
    LOG_INF("task %s: running", action->task_id);
    worker_start(&job);
}

static void publish_result(const struct fl_action *action)
{
    size_t scratch_bytes;
    char *scratch = worker_scratch(&scratch_bytes);
    const uint8_t *output = action->with_output ? worker_output() : NULL;

    LOG_INF("task %s: %s", action->task_id, action->text == NULL ? "done" : action->text);
    supervisor.result_ticket = action->ticket;
    outbox_result(action->task_id, action->text, output, supervisor.outcome.output_size_bytes,
                  scratch, scratch_bytes, &supervisor.result_message_id);
}

_Noreturn static void reset(const char *why)
{
    LOG_ERR("restarting: %s", why);
    LOG_PANIC();
    sys_reboot(SYS_REBOOT_COLD);
}

static void carry_out(const struct fl_action *action)
{
    struct fl_event event = {0};

    switch (action->kind) {
    case FL_DO_SUBSCRIBE:
        subscribe();
        break;
    case FL_DO_PUBLISH_DISCOVERY:
        outbox_discovery();
        break;
    case FL_DO_PUBLISH_ALIVE:
        outbox_alive();
        break;
    case FL_DO_WATCH_ROUND:
    case FL_DO_UNWATCH_ROUND:
        watch_round(action->text, action->kind == FL_DO_WATCH_ROUND);
        break;
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
        start_run(action);
        break;
    case FL_DO_STOP_RUN:
        worker_stop();
        break;
    case FL_DO_PUBLISH_UPDATE:
        LOG_INF("round %s: sending the update, %u bytes", action->text,
                supervisor.outcome.output_size_bytes);
        outbox_update(action->text, worker_output(), supervisor.outcome.output_size_bytes);
        break;
    case FL_DO_PUBLISH_RESULT:
        publish_result(action);
        break;
    case FL_DO_PUBLISH_REFUSAL:
        LOG_WRN("task %s: refused: %s", action->task_id, action->text);
        outbox_result(action->task_id, action->text, NULL, 0, NULL, 0, NULL);
        break;
    case FL_DO_NOTE:
        LOG_INF("task %s: %s", action->task_id == NULL ? "?" : action->task_id, action->text);
        break;
    case FL_DO_RESET:
        reset(action->text);
    }
}

/* One event and all that follow from it at once. */
static void handle(struct fl_event *first)
{
    struct fl_actions actions;

    enqueue(first);
    while (supervisor.queued > 0) {
        struct fl_event event = supervisor.queue[0];

        supervisor.queued--;
        memmove(supervisor.queue, supervisor.queue + 1, supervisor.queued * sizeof(event));
        event.now_ms = k_uptime_get();
        event.random = sys_rand32_get();
        fl_proplet_handle(&supervisor.proplet, &event, &actions);
        for (size_t i = 0; i < actions.count; i++) {
            carry_out(&actions.list[i]);
        }
    }
    task_receipts_send(&supervisor.proplet);
}

/* what the session reports */

static void on_opened(void)
{
    fl_backoff_reset(&supervisor.backoff);
    handle(&(struct fl_event){.kind = FL_EVENT_CONNECTED});
}

static void on_closed(void)
{
    fetch_cancel();
    task_receipts_clear();
    supervisor.result_message_id = 0;
    supervisor.connect_at_ms =
        k_uptime_get() + fl_backoff_next(&supervisor.backoff, sys_rand32_get());
    handle(&(struct fl_event){.kind = FL_EVENT_DISCONNECTED});
}

static void on_delivered(uint16_t message_id)
{
    if (message_id != 0 && message_id == supervisor.result_message_id) {
        supervisor.result_message_id = 0;
        handle(&(struct fl_event){.kind = FL_EVENT_RESULT_DELIVERED,
                                  .ticket = supervisor.result_ticket});
    }
}

static void on_message_end(uint16_t message_id)
{
    struct fl_event event;
    bool has_event = inbox_end(&event);

    if (has_event && event.kind == FL_EVENT_TASK && message_id != 0) {
        task_receipts_keep(event.task->id, message_id);
    } else if (message_id != 0) {
        (void)session_acknowledge(message_id); /* if it fails, the session ends */
    }
    if (has_event) {
        handle(&event);
    }
}

/* the loop */

static void connect_if_due(void)
{
    if (session_state() != SESSION_CLOSED || k_uptime_get() < supervisor.connect_at_ms) {
        return;
    }
    if (session_connect() != 0) {
        uint32_t delay_ms = fl_backoff_next(&supervisor.backoff, sys_rand32_get());

        LOG_INF("next attempt in %u ms", delay_ms);
        supervisor.connect_at_ms = k_uptime_get() + delay_ms;
    }
}

static void take_run_end(void)
{
    if (!worker_finished(&supervisor.outcome)) {
        if (supervisor.proplet.phase == FL_PHASE_STOP) {
            worker_stop();
        }
        return;
    }
    handle(&(struct fl_event){.kind = FL_EVENT_RUN_ENDED,
                              .ticket = supervisor.proplet.ticket,
                              .run_end = supervisor.outcome.end,
                              .detail = supervisor.outcome.detail,
                              .output_size_bytes = supervisor.outcome.output_size_bytes,
                              .output_sha256 = supervisor.outcome.output_sha256});
}

static uint32_t wait_ms(void)
{
    int64_t now_ms = k_uptime_get();
    int64_t until_ms = MIN(fl_proplet_next_ms(&supervisor.proplet), now_ms + IDLE_WAIT_MAX_MS);

    if (session_state() == SESSION_CLOSED) {
        until_ms = MIN(until_ms, supervisor.connect_at_ms);
    } else if (session_state() == SESSION_CONNECTING) {
        until_ms = MIN(until_ms, now_ms + MSEC_PER_SEC);
    }
    if (worker_busy()) {
        until_ms = MIN(until_ms, now_ms + RUN_WAIT_MAX_MS);
    }
    until_ms = MIN(until_ms, supervisor.ask_again_ms);
    return (uint32_t)MAX(until_ms - now_ms, 0);
}

_Noreturn void supervisor_run(void)
{
    for (;;) {
        connect_if_due();
        supervisor.ask_again_ms = fetch_ask_again(k_uptime_get());
        session_step(wait_ms());
        if (worker_busy()) {
            take_run_end();
        }
        if (k_uptime_get() >= fl_proplet_next_ms(&supervisor.proplet)) {
            handle(&(struct fl_event){.kind = FL_EVENT_TICK});
        }
    }
}

int supervisor_begin(const struct config *config)
{
    static const struct session_handlers handlers = {
        .opened = on_opened,
        .closed = on_closed,
        .delivered = on_delivered,
        .message_begin = inbox_message,
        .message_bytes = inbox_bytes,
        .message_end = on_message_end,
    };
    const struct fl_proplet_config proplet_config = {
        .proplet_id = config->proplet_id,
        .heartbeat_ms = CONFIG_FL_HEARTBEAT_S * MSEC_PER_SEC,
        .image_limit_ms = CONFIG_FL_FETCH_LIMIT_S * MSEC_PER_SEC,
        .model_limit_ms = CONFIG_FL_FETCH_LIMIT_S * MSEC_PER_SEC,
        .run_limit_ms = CONFIG_FL_RUN_LIMIT_S * MSEC_PER_SEC,
        .stop_grace_ms = CONFIG_FL_STOP_GRACE_MS,
        .update = {.resend_min_ms = CONFIG_FL_RESEND_MIN_MS,
                   .resend_max_ms = CONFIG_FL_RESEND_MAX_MS,
                   .max_sends = CONFIG_FL_UPDATE_SENDS_MAX},
    };
    int status;

    supervisor.config = config;
    fl_proplet_begin(&supervisor.proplet, &proplet_config);
    fl_backoff_begin(&supervisor.backoff, CONFIG_FL_RECONNECT_MIN_MS, CONFIG_FL_RECONNECT_MAX_MS);
    fetch_begin(config->topic_prefix);
    inbox_begin(config->topic_prefix, &supervisor.proplet);
    status = outbox_begin(config);
    if (status == 0) {
        status = image_store_begin();
    }
    if (status != 0) {
        LOG_ERR("the proplet cannot be prepared (%d)", status);
        return status;
    }
    supervisor.has_data = local_data_open(&supervisor.data) == 0;
    if (!supervisor.has_data) {
        LOG_WRN("there is no local data: modules must bring their own");
    }
    session_begin(config, &handlers, outbox_will_topic(), outbox_will_payload());
    worker_begin();
    return 0;
}
