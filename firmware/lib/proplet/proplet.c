#include "proplet_private.h"

#include "fl_text.h"

#include <string.h>

void fl_proplet_begin(struct fl_proplet *proplet, const struct fl_proplet_config *config)
{
    memset(proplet, 0, sizeof(*proplet));
    proplet->config = *config;
    proplet->phase = FL_PHASE_IDLE;
    proplet->deadline_ms = INT64_MAX;
    proplet->heartbeat_at_ms = INT64_MAX;
}

bool fl_proplet_takes_file(const struct fl_proplet *proplet)
{
    return proplet->phase == FL_PHASE_IDLE;
}

int64_t fl_proplet_next_ms(const struct fl_proplet *proplet)
{
    int64_t next_ms = proplet->deadline_ms;

    if (proplet->online) {
        int64_t resend_ms = fl_update_next_ms(&proplet->update);

        next_ms = proplet->heartbeat_at_ms < next_ms ? proplet->heartbeat_at_ms : next_ms;
        next_ms = resend_ms < next_ms ? resend_ms : next_ms;
    }
    return next_ms;
}

/* connection */

static void publish_alive(const struct step *step)
{
    (void)step_act(step, FL_DO_PUBLISH_ALIVE);
    step->proplet->heartbeat_at_ms = step->event->now_ms + step->proplet->config.heartbeat_ms;
}

static void on_connected(const struct step *step)
{
    struct fl_proplet *proplet = step->proplet;

    proplet->online = true;
    (void)step_act(step, FL_DO_SUBSCRIBE);
    (void)step_act(step, FL_DO_PUBLISH_DISCOVERY);
    publish_alive(step);
    if (proplet->phase == FL_PHASE_IDLE) {
        return;
    }
    if (proplet->phase == FL_PHASE_REPORT && !proplet->result_open && !proplet->update.open) {
        step_settle(step); /* what was missing came just as the connection broke */
        return;
    }
    step_watch_round(step);
    switch (proplet->phase) {
    case FL_PHASE_IMAGE:
        step_fetch_image(step);
        break;
    case FL_PHASE_MODEL:
        step_fetch_model(step);
        break;
    case FL_PHASE_REPORT:
        if (proplet->result_open) {
            step_publish_result(step);
        }
        fl_update_hurry(&proplet->update, step->event->now_ms);
        step_publish_update_if_due(step);
        break;
    default:
        break;
    }
}

static void on_disconnected(const struct step *step)
{
    struct fl_proplet *proplet = step->proplet;

    proplet->online = false;
    proplet->heartbeat_at_ms = INT64_MAX;
    if (proplet->phase == FL_PHASE_IMAGE || proplet->phase == FL_PHASE_MODEL) {
        /* The fetch is void; it begins anew, and its time with it, once there is a connection. */
        proplet->ticket++;
        proplet->deadline_ms = INT64_MAX;
    }
}

/* tasks */

static bool is_for_us(const struct step *step)
{
    const char *wanted = step->event->task->proplet_id;

    return step->event->task->broadcast || wanted[0] == '\0' ||
           strcmp(wanted, step->proplet->config.proplet_id) == 0;
}

/* What keeps a task from being run: head and detail of the error; head NULL when nothing does. */
struct objection {
    const char *head;
    const char *detail;
};

static struct objection check_task(const struct fl_task_start *task)
{
    const char *round_id = fl_env_get(&task->env, ENV_ROUND_ID);
    const char *model_uri = fl_env_get(&task->env, ENV_MODEL_URI);
    struct fl_topic topic;

    if (task->unsupported != NULL) {
        return (struct objection){"unsupported", task->unsupported};
    }
    if (task->has_file && task->file_status != FL_STREAM_OK) {
        return (struct objection){"file", fl_stream_word(task->file_status)};
    }
    if (round_id != NULL && !fl_id_valid(round_id, strlen(round_id))) {
        return (struct objection){"bad_id", "ROUND_ID in env"};
    }
    if (model_uri != NULL &&
        fl_topic_match(NULL, model_uri, strlen(model_uri), &topic) != FL_TOPIC_MODEL) {
        return (struct objection){"bad_field", "MODEL_URI in env is not fl/models/{name}"};
    }
    return (struct objection){NULL, NULL};
}

static bool is_done(const struct fl_proplet *proplet, const char *task_id)
{
    for (size_t i = 0; i < FL_PROPLET_DONE_MAX; i++) {
        if (strcmp(proplet->done[i], task_id) == 0) {
            return true;
        }
    }
    return false;
}

/* A task seen before does nothing, but for hurrying an update that waits for its answer. */
static bool is_replay(const struct step *step)
{
    struct fl_proplet *proplet = step->proplet;
    const char *task_id = step->event->task->id;

    if (is_done(proplet, task_id)) {
        step_note(step, task_id, "task seen before", "done");
        return true;
    }
    if (proplet->has_next && strcmp(proplet->next.id, task_id) == 0) {
        step_note(step, task_id, "task seen before", "waiting");
        return true;
    }
    if (proplet->phase != FL_PHASE_IDLE && strcmp(proplet->task.id, task_id) == 0) {
        step_note(step, task_id, "task seen before", "under way");
        if (proplet->online && proplet->update.open) {
            fl_update_hurry(&proplet->update, step->event->now_ms);
            step_publish_update_if_due(step);
        }
        return true;
    }
    return false;
}

static void on_task(const struct step *step)
{
    struct fl_proplet *proplet = step->proplet;
    const struct fl_task_start *task = step->event->task;
    struct objection objection;

    if (!is_for_us(step) || is_replay(step)) {
        return;
    }
    objection = check_task(task);
    if (objection.head != NULL) {
        step_refuse(step, task->id, objection.head, objection.detail);
    } else if (proplet->phase == FL_PHASE_IDLE) {
        proplet->task = *task;
        step_begin_task(step);
    } else if (!proplet->has_next && !task->has_file) {
        proplet->next = *task;
        proplet->has_next = true;
        step_note(step, task->id, "task waits for", proplet->task.id);
    } else {
        step_refuse(step, task->id, "busy", "other tasks are under way");
    }
}

static void on_task_unusable(const struct step *step)
{
    const struct fl_task_start *task = step->event->task;

    if (task->id[0] == '\0' || !is_for_us(step) ||
        (task->proplet_id[0] == '\0' && !step->event->addressed)) {
        /* Whose it is cannot be told, and every proplet may have read it: none answers. */
        step_note(step, NULL, "task refused", step->event->detail);
        return;
    }
    step_refuse(step, task->id, "task", step->event->detail);
}

static void on_task_stop(const struct step *step)
{
    struct fl_proplet *proplet = step->proplet;

    if (proplet->has_next && strcmp(proplet->next.id, step->event->text) == 0) {
        proplet->has_next = false;
        step_refuse(step, proplet->next.id, "stopped", "by the manager");
    } else if (proplet->phase == FL_PHASE_IMAGE || proplet->phase == FL_PHASE_MODEL ||
               proplet->phase == FL_PHASE_RUN) {
        if (strcmp(proplet->task.id, step->event->text) == 0) {
            if (proplet->phase != FL_PHASE_RUN || !step_is_daemon(proplet)) {
                step_join(proplet->error, "stopped", "by the manager");
            }
            step_give_up(step); /* without an error it is how a daemon ends */
        }
    }
}

/* fetches and runs */

static bool is_current(const struct step *step, enum fl_phase phase)
{
    return step->proplet->phase == phase && step->proplet->ticket == step->event->ticket;
}

static void on_image_ready(const struct step *step)
{
    struct fl_proplet *proplet = step->proplet;

    if (!is_current(step, FL_PHASE_IMAGE)) {
        return;
    }
    if (fl_env_get(&proplet->task.env, ENV_MODEL_URI) == NULL) {
        step_start_run(step);
    } else {
        proplet->phase = FL_PHASE_MODEL;
        step_fetch_model(step);
    }
}

/* Somebody may have put another model there for a moment: the right one is waited for. */
static void on_model_mismatch(const struct step *step)
{
    struct fl_proplet *proplet = step->proplet;

    if (is_current(step, FL_PHASE_MODEL)) {
        step_join_mismatch(proplet->error, step->event->found_sha256, proplet->task.model_sha256);
        step_note(step, proplet->task.id, proplet->error, NULL);
    }
}

/* A wrong model that came says more than how the wait for the right one has ended. */
static bool has_wrong_model(const struct fl_proplet *proplet)
{
    return proplet->phase == FL_PHASE_MODEL && proplet->error[0] != '\0';
}

static void on_fetch_failed(const struct step *step, enum fl_phase phase, const char *what)
{
    if (is_current(step, phase)) {
        step_join(step->proplet->error, what, step->event->detail);
        step_fail(step);
    }
}

static void on_run_ended(const struct step *step)
{
    struct fl_proplet *proplet = step->proplet;
    const struct fl_event *event = step->event;

    bool stopped = is_current(step, FL_PHASE_STOP);

    if (stopped && proplet->error[0] != '\0') {
        step_fail(step); /* why it was stopped is the error, however it then ended */
        return;
    }
    if (!stopped && !is_current(step, FL_PHASE_RUN)) {
        return;
    }
    if (event->run_end != FL_RUN_OK && !(stopped && event->run_end == FL_RUN_STOPPED)) {
        step_join(proplet->error, fl_run_end_word(event->run_end), event->detail);
        step_fail(step);
    } else if (proplet->round_id[0] == '\0') {
        proplet->result_with_output = true;
        step_enter_report(step);
    } else if (event->output_size_bytes == 0) {
        step_join(proplet->error, fl_run_end_word(FL_RUN_OUTPUT), "the module wrote no update");
        step_fail(step);
    } else {
        fl_update_begin(&proplet->update, &proplet->config.update, proplet->round_id,
                        event->output_size_bytes, event->output_sha256, event->now_ms);
        step_enter_report(step);
    }
}

/* reports */

static void on_result_delivered(const struct step *step)
{
    if (is_current(step, FL_PHASE_REPORT)) {
        step->proplet->result_open = false;
        step_settle(step);
    }
}

static void on_ack(const struct step *step)
{
    struct fl_proplet *proplet = step->proplet;
    const struct fl_update_ack *ack = step->event->ack;

    if (strcmp(ack->proplet_id, proplet->config.proplet_id) != 0) {
        return;
    }
    switch (fl_update_answered(&proplet->update, ack->round_id, ack->sha256, ack->accepted)) {
    case FL_UPDATE_ACCEPTED:
        step_note(step, proplet->task.id, "update accepted", NULL);
        break;
    case FL_UPDATE_REFUSED:
        step_note(step, proplet->task.id, "update refused",
                  ack->detail[0] != '\0' ? ack->detail : ack->reason);
        break;
    default:
        return;
    }
    step_settle(step);
}

static void on_round_closed(const struct step *step)
{
    struct fl_proplet *proplet = step->proplet;
    const char *round_id = step->event->text;

    if (proplet->has_next) {
        const char *next_round = fl_env_get(&proplet->next.env, ENV_ROUND_ID);

        if (next_round != NULL && strcmp(next_round, round_id) == 0) {
            proplet->has_next = false;
            step_refuse(step, proplet->next.id, "round_closed", step->event->detail);
        }
    }
    if (proplet->phase == FL_PHASE_IDLE || strcmp(proplet->round_id, round_id) != 0) {
        return;
    }
    if (proplet->phase == FL_PHASE_REPORT) {
        fl_update_clear(&proplet->update);
        step_settle(step);
    } else if (proplet->phase != FL_PHASE_STOP) {
        if (!has_wrong_model(proplet)) {
            step_join(proplet->error, "round_closed", step->event->detail);
        }
        step_give_up(step);
    }
}

/* time */

static void on_deadline(const struct step *step)
{
    struct fl_proplet *proplet = step->proplet;
    const struct fl_proplet_config *config = &proplet->config;

    switch (proplet->phase) {
    case FL_PHASE_IMAGE:
        step_join_limit(proplet->error, "image", "it did not arrive", config->image_limit_ms);
        step_give_up(step);
        break;
    case FL_PHASE_MODEL:
        if (!has_wrong_model(proplet)) {
            step_join_limit(proplet->error, "model", "it did not arrive", config->model_limit_ms);
        }
        step_give_up(step);
        break;
    case FL_PHASE_RUN:
        step_join_limit(proplet->error, "wall_time", "it did not end", config->run_limit_ms);
        step_give_up(step);
        break;
    case FL_PHASE_STOP:
        proplet->deadline_ms = INT64_MAX;
        step_join_limit(proplet->note, "worker", "it did not stop", config->stop_grace_ms);
        step_act(step, FL_DO_RESET)->text = proplet->note;
        break;
    default:
        break;
    }
}

static void on_tick(const struct step *step)
{
    struct fl_proplet *proplet = step->proplet;
    int64_t now_ms = step->event->now_ms;

    if (now_ms >= proplet->heartbeat_at_ms) {
        publish_alive(step);
    }
    if (now_ms >= proplet->deadline_ms) {
        on_deadline(step);
    }
    if (!proplet->online) {
        return;
    }
    step_publish_update_if_due(step);
    if (fl_update_state(&proplet->update, now_ms) == FL_UPDATE_LOST) {
        fl_update_clear(&proplet->update);
        proplet->update_lost = true;
        step_note(step, proplet->task.id, "update given up", "no answer from the coordinator");
        step_settle(step);
    }
}

void fl_proplet_handle(struct fl_proplet *proplet, const struct fl_event *event,
                       struct fl_actions *actions)
{
    const struct step step = {proplet, event, actions};

    actions->count = 0;
    switch (event->kind) {
    case FL_EVENT_CONNECTED:
        on_connected(&step);
        break;
    case FL_EVENT_DISCONNECTED:
        on_disconnected(&step);
        break;
    case FL_EVENT_TASK:
        on_task(&step);
        break;
    case FL_EVENT_TASK_UNUSABLE:
        on_task_unusable(&step);
        break;
    case FL_EVENT_TASK_STOP:
        on_task_stop(&step);
        break;
    case FL_EVENT_IMAGE_READY:
        on_image_ready(&step);
        break;
    case FL_EVENT_IMAGE_FAILED:
        on_fetch_failed(&step, FL_PHASE_IMAGE, "image");
        break;
    case FL_EVENT_MODEL_READY:
        if (is_current(&step, FL_PHASE_MODEL)) {
            step_start_run(&step);
        }
        break;
    case FL_EVENT_MODEL_FAILED:
        on_fetch_failed(&step, FL_PHASE_MODEL, "model");
        break;
    case FL_EVENT_MODEL_MISMATCH:
        on_model_mismatch(&step);
        break;
    case FL_EVENT_RUN_ENDED:
        on_run_ended(&step);
        break;
    case FL_EVENT_RESULT_DELIVERED:
        on_result_delivered(&step);
        break;
    case FL_EVENT_ACK:
        on_ack(&step);
        break;
    case FL_EVENT_ROUND_CLOSED:
        on_round_closed(&step);
        break;
    case FL_EVENT_TICK:
        on_tick(&step);
        break;
    }
}
