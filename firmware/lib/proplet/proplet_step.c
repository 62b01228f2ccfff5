#include "proplet_private.h"

#include "fl_text.h"

#include <string.h>

const char *fl_run_end_word(enum fl_run_end end)
{
    static const char *const words[] = {
        [FL_RUN_OK] = "ok",
        [FL_RUN_EXIT] = "exit",
        [FL_RUN_TRAP] = "trap",
        [FL_RUN_CONTRACT] = "contract",
        [FL_RUN_INSTRUCTIONS] = "instructions",
        [FL_RUN_MEMORY] = "memory",
        [FL_RUN_OUTPUT] = "output",
        [FL_RUN_STOPPED] = "stopped",
        [FL_RUN_UNSIGNED] = "unsigned_image",
        [FL_RUN_UNTRUSTED] = "untrusted_signature",
        [FL_RUN_FAILED] = "internal",
    };

    return (size_t)end < sizeof(words) / sizeof(words[0]) ? words[end] : "unknown";
}

/* "head: detail", or "head" alone without one. */
void step_join(char out[FL_PROPLET_ERROR_MAX + 1], const char *head, const char *detail)
{
    struct fl_text text;

    fl_text_begin(&text, out, FL_PROPLET_ERROR_MAX + 1);
    fl_text_put(&text, head); /* heads are words of ours: there is always room for more */
    if (detail != NULL && detail[0] != '\0') {
        fl_text_put(&text, ": ");
        fl_text_excerpt(out + text.size, text.capacity - text.size, detail);
    }
}

/* "head: did not ... within N ms" */
void step_join_limit(char out[FL_PROPLET_ERROR_MAX + 1], const char *head, const char *what,
                     uint32_t limit_ms)
{
    struct fl_text text;

    fl_text_begin(&text, out, FL_PROPLET_ERROR_MAX + 1);
    fl_text_put(&text, head);
    fl_text_put(&text, ": ");
    fl_text_put(&text, what);
    fl_text_put(&text, " within ");
    fl_text_put_u64(&text, limit_ms);
    fl_text_put(&text, " ms");
}

void step_join_mismatch(char out[FL_PROPLET_ERROR_MAX + 1], const uint8_t found[FL_SHA256_SIZE],
                        const uint8_t wanted[FL_SHA256_SIZE])
{
    struct fl_text text;
    char hex[FL_SHA256_HEX_SIZE + 1];

    fl_text_begin(&text, out, FL_PROPLET_ERROR_MAX + 1); /* it fits */
    fl_text_put(&text, "model: mismatch: ");
    fl_sha256_to_hex(found, hex);
    fl_text_put(&text, hex);
    fl_text_put(&text, ", not ");
    fl_sha256_to_hex(wanted, hex);
    fl_text_put(&text, hex);
}

/* FL_PROPLET_ACTIONS_MAX is the most that any event asks for; a test walks through them all. */
struct fl_action *step_act(const struct step *step, enum fl_action_kind kind)
{
    struct fl_action *action = &step->actions->list[step->actions->count++];

    memset(action, 0, sizeof(*action));
    action->kind = kind;
    return action;
}

/* The id is copied: the note may be about a task that this very event ends. */
static void speak(const struct step *step, enum fl_action_kind kind, const char *task_id,
                  const char *head, const char *detail)
{
    struct fl_proplet *proplet = step->proplet;
    struct fl_action *action = step_act(step, kind);

    step_join(proplet->note, head, detail);
    action->text = proplet->note;
    if (task_id != NULL) {
        (void)fl_text_copy(proplet->note_task_id, sizeof(proplet->note_task_id), task_id);
        action->task_id = proplet->note_task_id;
    }
}

void step_note(const struct step *step, const char *task_id, const char *head, const char *detail)
{
    speak(step, FL_DO_NOTE, task_id, head, detail);
}

void step_refuse(const struct step *step, const char *task_id, const char *head, const char *detail)
{
    speak(step, FL_DO_PUBLISH_REFUSAL, task_id, head, detail);
}

static void set_deadline(const struct step *step, uint32_t limit_ms)
{
    step->proplet->deadline_ms = step->event->now_ms + limit_ms;
}

/* reporting */

void step_publish_result(const struct step *step)
{
    struct fl_proplet *proplet = step->proplet;
    struct fl_action *action = step_act(step, FL_DO_PUBLISH_RESULT);

    action->ticket = proplet->ticket;
    action->task_id = proplet->task.id;
    action->text = proplet->failed ? proplet->error : NULL;
    action->with_output = proplet->result_with_output;
}

void step_publish_update_if_due(const struct step *step)
{
    struct fl_proplet *proplet = step->proplet;
    const struct fl_event *event = step->event;

    if (fl_update_state(&proplet->update, event->now_ms) == FL_UPDATE_DUE) {
        step_act(step, FL_DO_PUBLISH_UPDATE)->text = proplet->round_id;
        fl_update_sent(&proplet->update, event->now_ms, event->random);
    }
}

void step_enter_report(const struct step *step)
{
    struct fl_proplet *proplet = step->proplet;

    proplet->phase = FL_PHASE_REPORT;
    proplet->deadline_ms = INT64_MAX;
    proplet->ticket++;
    proplet->result_open = true;
    if (proplet->online) {
        step_publish_result(step);
        step_publish_update_if_due(step);
    }
}

/* The task under way has failed, for the reason in proplet->error. */
void step_fail(const struct step *step)
{
    step->proplet->failed = true;
    step_enter_report(step);
}

/* fetching and running */

void step_fetch_image(const struct step *step)
{
    struct fl_proplet *proplet = step->proplet;
    struct fl_action *action = step_act(step, FL_DO_FETCH_IMAGE);
    struct fl_topic topic;
    const char *url = proplet->task.image_url;

    set_deadline(step, proplet->config.image_limit_ms);
    action->ticket = ++proplet->ticket;
    action->task_id = proplet->task.id;
    action->task = &proplet->task;
    if (proplet->task.has_file) {
        action->source = FL_IMAGE_FILE;
    } else if (fl_topic_match(NULL, url, strlen(url), &topic) == FL_TOPIC_IMAGE) {
        action->source = FL_IMAGE_TOPIC;
    } else {
        action->source = FL_IMAGE_REGISTRY;
    }
}

void step_fetch_model(const struct step *step)
{
    struct fl_proplet *proplet = step->proplet;
    struct fl_action *action = step_act(step, FL_DO_FETCH_MODEL);

    set_deadline(step, proplet->config.model_limit_ms);
    action->ticket = ++proplet->ticket;
    action->task_id = proplet->task.id;
    action->task = &proplet->task;
    action->text = fl_env_get(&proplet->task.env, ENV_MODEL_URI);
}

void step_watch_round(const struct step *step)
{
    if (step->proplet->round_id[0] != '\0') {
        step_act(step, FL_DO_WATCH_ROUND)->text = step->proplet->round_id;
    }
}

bool step_is_daemon(const struct fl_proplet *proplet)
{
    return FL_ARGS_SUPPORTED && proplet->task.daemon && proplet->round_id[0] == '\0';
}

/*
 * What a task of no round wants run. Only now are the variables of cli_args put into its
 * environment, since no model is looked for there any more. Returns false with the error in place.
 */
static bool read_command(struct fl_proplet *proplet)
{
    struct fl_task_start *task = &proplet->task;
    const char *fault = "";
    enum fl_args_status status;

    proplet->command = (struct fl_command){.name = task->name[0] != '\0' ? task->name : "module",
                                           .function = task->name,
                                           .inputs = task->inputs,
                                           .daemon = task->daemon,
                                           .plain = task->cli_args.count == 0 &&
                                                    task->inputs[0] == '\0' && !task->daemon};
    if (!FL_ARGS_SUPPORTED) {
        return true;
    }
    status = fl_args_options(&task->cli_args, &task->env, &proplet->command, &fault);
    if (status != FL_ARGS_OK) {
        step_join(proplet->error,
                  status == FL_ARGS_OPTION ? "cli_args: unknown option"
                  : status == FL_ARGS_ENV  ? "cli_args: no name of a variable"
                                           : "cli_args: too_large: no room in the environment",
                  fault);
    }
    return status == FL_ARGS_OK;
}

void step_start_run(const struct step *step)
{
    struct fl_proplet *proplet = step->proplet;
    bool with_model = fl_env_get(&proplet->task.env, ENV_MODEL_URI) != NULL;
    bool of_a_round = proplet->round_id[0] != '\0';
    struct fl_action *action;

    if (!of_a_round && !read_command(proplet)) {
        step_fail(step);
        return;
    }
    action = step_act(step, FL_DO_START_RUN);
    proplet->phase = FL_PHASE_RUN;
    proplet->error[0] = '\0'; /* a model that came first may have been a wrong one */
    set_deadline(step, proplet->config.run_limit_ms);
    if (step_is_daemon(proplet)) {
        proplet->deadline_ms = INT64_MAX;
    }
    action->ticket = ++proplet->ticket;
    action->task_id = proplet->task.id;
    action->task = &proplet->task;
    action->command = of_a_round ? NULL : &proplet->command;
    action->with_model = with_model;
}

/* The worker is to stop, for the reason in proplet->error. */
static void stop_run(const struct step *step)
{
    struct fl_proplet *proplet = step->proplet;
    struct fl_action *action = step_act(step, FL_DO_STOP_RUN);

    proplet->phase = FL_PHASE_STOP;
    set_deadline(step, proplet->config.stop_grace_ms);
    action->ticket = proplet->ticket;
    action->task_id = proplet->task.id;
}

/* Gives the task under way up, wherever it is, for the reason in proplet->error. */
void step_give_up(const struct step *step)
{
    switch (step->proplet->phase) {
    case FL_PHASE_IMAGE:
    case FL_PHASE_MODEL:
        step_act(step, FL_DO_CANCEL_FETCH);
        step_fail(step);
        break;
    case FL_PHASE_RUN:
        stop_run(step);
        break;
    default:
        break;
    }
}

void step_begin_task(const struct step *step)
{
    struct fl_proplet *proplet = step->proplet;
    const char *round_id = fl_env_get(&proplet->task.env, ENV_ROUND_ID);

    proplet->phase = FL_PHASE_IMAGE;
    proplet->failed = false;
    proplet->update_lost = false;
    proplet->result_with_output = false;
    proplet->error[0] = '\0';
    /* check_task() has seen that it is an id, and so it fits. */
    (void)fl_text_copy(proplet->round_id, sizeof(proplet->round_id),
                       round_id == NULL ? "" : round_id);
    if (fl_env_put(&proplet->task.env, ENV_PROPLET_ID, proplet->config.proplet_id) == FL_ENV_FULL) {
        step_join(proplet->error, "env", "too_large: no room for PROPLET_ID");
        step_fail(step);
        return;
    }
    step_watch_round(step);
    step_fetch_image(step);
}

/* Ends the task once nothing of it waits any more, and begins the next. */
void step_settle(const struct step *step)
{
    struct fl_proplet *proplet = step->proplet;

    if (proplet->phase != FL_PHASE_REPORT || !proplet->online || proplet->result_open ||
        proplet->update.open) {
        return;
    }
    if (proplet->round_id[0] != '\0') {
        /* The action outlives the task: the next one's round must not overwrite the name. */
        memcpy(proplet->left_round_id, proplet->round_id, sizeof(proplet->round_id));
        step_act(step, FL_DO_UNWATCH_ROUND)->text = proplet->left_round_id;
    }
    if (!proplet->update_lost) {
        memcpy(proplet->done[proplet->done_next], proplet->task.id, sizeof(proplet->task.id));
        proplet->done_next = (proplet->done_next + 1u) % FL_PROPLET_DONE_MAX;
    }
    proplet->phase = FL_PHASE_IDLE;
    if (proplet->has_next) {
        proplet->has_next = false;
        proplet->task = proplet->next;
        step_begin_task(step);
    }
}
