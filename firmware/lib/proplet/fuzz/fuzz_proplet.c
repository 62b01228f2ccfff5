/*
 * Any events in any order: the proplet asks for no more than it may, never for two things at once
 * that exclude each other, and everything it says ends with a NUL.
 */
#include "fl_proplet.h"

#include <stdlib.h>
#include <string.h>

/* The input, read as numbers. */
struct input {
    const uint8_t *data;
    size_t left;
};

static uint8_t next(struct input *input)
{
    if (input->left == 0) {
        return 0;
    }
    input->left--;
    return *input->data++;
}

static const char *pick_id(struct input *input)
{
    static const char *const ids[] = {"r-1", "r-2", "t-1", "t-2", "p-1", "a", "..", ""};

    return ids[next(input) % (sizeof(ids) / sizeof(ids[0]))];
}

static void make_task(struct input *input, struct fl_task_start *task)
{
    static const char *const uris[] = {"fl/models/global_model_v0", "fl/models/x", "fl/x", ""};
    uint8_t flags = next(input);

    memset(task, 0, sizeof(*task));
    strcpy(task->id, flags & 1u ? "t-1" : "t-2"); /* the decoder leaves none without */
    strcpy(task->proplet_id, next(input) % 2u == 0 ? "p-1" : "");
    strcpy(task->image_url, flags & 2u ? "app" : "fl/images/x");
    task->has_image_sha256 = (flags & 4u) != 0;
    task->image_sha256[0] = flags;
    task->has_file = (flags & 8u) != 0;
    task->file_status = flags & 16u ? FL_STREAM_OK : FL_STREAM_TOO_LARGE;
    task->unsupported = (flags & 0xE0u) == 0xE0u ? "inputs" : NULL;
    fl_env_clear(&task->env);
    if ((flags & 32u) != 0) {
        (void)fl_env_put(&task->env, "ROUND_ID", pick_id(input));
    }
    if ((flags & 64u) != 0) {
        (void)fl_env_put(&task->env, "MODEL_URI", uris[next(input) % 4u]);
    }
    task->daemon = (next(input) & 1u) != 0;
    for (uint8_t left = next(input) % 4u; left > 0; left--) {
        static const char *const args[] = {"--invoke", "--env=MODEL_URI=fl/x", "--env", "--",
                                           "-x",       "ROUND_ID=r-1"};
        const char *arg = args[next(input) % 6u];
        size_t cursor = task->cli_args.size;

        if (fl_args_append(&task->cli_args, &cursor, arg, strlen(arg))) {
            fl_args_close(&task->cli_args, cursor);
        }
    }
}

static void check(const struct fl_proplet *proplet, const struct fl_actions *actions)
{
    bool runs = false;

    if (actions->count > FL_PROPLET_ACTIONS_MAX || proplet->phase > FL_PHASE_REPORT) {
        abort();
    }
    for (size_t i = 0; i < actions->count; i++) {
        const struct fl_action *action = &actions->list[i];

        if ((action->text != NULL && strlen(action->text) > FL_IMAGE_URL_MAX) ||
            (action->task_id != NULL && strlen(action->task_id) > FL_TASK_ID_MAX)) {
            abort();
        }
        if (action->kind == FL_DO_START_RUN) {
            if (runs || proplet->phase != FL_PHASE_RUN || action->task == NULL) {
                abort();
            }
            runs = true;
        }
        if (action->kind == FL_DO_PUBLISH_UPDATE && !proplet->update.open) {
            abort();
        }
    }
    if (fl_proplet_takes_file(proplet) != (proplet->phase == FL_PHASE_IDLE)) {
        abort();
    }
}

static void make_event(struct input *input, const struct fl_proplet *proplet,
                       struct fl_event *event)
{
    static struct fl_task_start task;
    static struct fl_update_ack ack;
    static uint8_t digest[FL_SHA256_SIZE];
    uint8_t kind = next(input);
    uint8_t argument = next(input);

    event->kind = (enum fl_event_kind)(kind % (FL_EVENT_TICK + 1u));
    event->now_ms += (int64_t)argument * argument;
    event->random = (uint32_t)argument << 24;
    event->ticket = argument % 4u == 0 ? argument : proplet->ticket;
    event->addressed = (argument & 64u) != 0;
    event->text = pick_id(input);
    event->detail = argument & 1u ? "a detail" : NULL;
    event->run_end = (enum fl_run_end)(argument % (FL_RUN_FAILED + 1u));
    event->output_size_bytes = argument;
    digest[0] = argument & 3u;
    event->output_sha256 = digest;
    event->found_sha256 = digest;
    if (!proplet->online && event->kind != FL_EVENT_RUN_ENDED) {
        event->kind = kind < 128 ? FL_EVENT_CONNECTED : FL_EVENT_TICK; /* nothing arrives */
    }
    if (event->kind == FL_EVENT_TASK || event->kind == FL_EVENT_TASK_UNUSABLE) {
        make_task(input, &task);
        event->task = &task;
    }
    if (event->kind == FL_EVENT_ACK) {
        memset(&ack, 0, sizeof(ack));
        strcpy(ack.round_id, pick_id(input));
        strcpy(ack.proplet_id, "p-1");
        ack.accepted = (argument & 4u) != 0;
        ack.sha256[0] = argument & 3u;
        event->ack = &ack;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct fl_proplet_config config = {
        .proplet_id = "p-1",
        .heartbeat_ms = 1000,
        .image_limit_ms = 3000,
        .model_limit_ms = 6000,
        .run_limit_ms = 2000,
        .stop_grace_ms = 500,
        .update = {.resend_min_ms = 100, .resend_max_ms = 1000, .max_sends = 3},
    };
    static struct fl_proplet proplet;
    static struct fl_actions actions;
    struct fl_event event = {.now_ms = 1000};
    struct input input = {data, size};

    fl_proplet_begin(&proplet, &config);
    while (input.left > 0) {
        make_event(&input, &proplet, &event);
        fl_proplet_handle(&proplet, &event, &actions);
        check(&proplet, &actions);
    }
    return 0;
}
