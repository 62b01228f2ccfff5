#include "fl_check.h"
#include "fl_proplet.h"
#include "fl_text.h"

FL_SUITE(proplet)

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define HEARTBEAT_MS 10000
#define IMAGE_MS 30000
#define MODEL_MS 60000
#define RUN_MS 20000
#define GRACE_MS 5000
#define RESEND_MS 1000

static struct fl_proplet proplet;
static struct fl_actions actions;
static struct fl_event event; /* of the next step; time runs on in it */
static struct fl_task_start task;
static struct fl_update_ack ack;
static const uint8_t digest[FL_SHA256_SIZE] = {7};
static char trace[512];

static const char *action_name(enum fl_action_kind kind)
{
    static const char *const names[] = {
        [FL_DO_SUBSCRIBE] = "subscribe",
        [FL_DO_PUBLISH_DISCOVERY] = "discovery",
        [FL_DO_PUBLISH_ALIVE] = "alive",
        [FL_DO_WATCH_ROUND] = "watch",
        [FL_DO_UNWATCH_ROUND] = "unwatch",
        [FL_DO_FETCH_IMAGE] = "image",
        [FL_DO_FETCH_MODEL] = "model",
        [FL_DO_CANCEL_FETCH] = "cancel",
        [FL_DO_START_RUN] = "run",
        [FL_DO_STOP_RUN] = "stop",
        [FL_DO_PUBLISH_UPDATE] = "update",
        [FL_DO_PUBLISH_RESULT] = "result",
        [FL_DO_PUBLISH_REFUSAL] = "refusal",
        [FL_DO_NOTE] = "note",
        [FL_DO_RESET] = "reset",
    };

    return names[kind];
}

/* Sends `event` as `kind` and checks what is asked for: "action action(text) ...", in order. */
static void step(enum fl_event_kind kind, const char *expected)
{
    struct fl_text text;

    event.kind = kind;
    event.ticket = event.ticket == 0 ? proplet.ticket : event.ticket;
    fl_proplet_handle(&proplet, &event, &actions);
    FL_CHECK(actions.count <= FL_PROPLET_ACTIONS_MAX);
    fl_text_begin(&text, trace, sizeof(trace));
    for (size_t i = 0; i < actions.count; i++) {
        fl_text_put(&text, i == 0 ? "" : " ");
        fl_text_put(&text, action_name(actions.list[i].kind));
        if (actions.list[i].text != NULL) {
            fl_text_put(&text, "(");
            fl_text_put(&text, actions.list[i].text);
            fl_text_put(&text, ")");
        }
    }
    FL_CHECK(fl_text_ok(&text));
    FL_CHECK_STRING(trace, expected);
    event = (struct fl_event){.now_ms = event.now_ms, .random = event.random};
}

static void wait_ms(int64_t time_ms)
{
    event.now_ms += time_ms;
}

/* A fresh proplet "p-1", online. */
static void begin(void)
{
    static const struct fl_proplet_config config = {
        .proplet_id = "p-1",
        .heartbeat_ms = HEARTBEAT_MS,
        .image_limit_ms = IMAGE_MS,
        .model_limit_ms = MODEL_MS,
        .run_limit_ms = RUN_MS,
        .stop_grace_ms = GRACE_MS,
        .update = {.resend_min_ms = RESEND_MS, .resend_max_ms = RESEND_MS, .max_sends = 3},
    };

    event = (struct fl_event){.now_ms = 1000};
    fl_proplet_begin(&proplet, &config);
    FL_CHECK(fl_proplet_next_ms(&proplet) == INT64_MAX);
    step(FL_EVENT_CONNECTED, "subscribe discovery alive");
}

static void put_env(const char *name, const char *value)
{
    FL_CHECK_INT(fl_env_put(&task.env, name, value), FL_ENV_OK);
}

/* A task of a round that trains a model, in `task`. */
static void make_task(const char *task_id, const char *round_id)
{
    memset(&task, 0, sizeof(task));
    strcpy(task.id, task_id);
    strcpy(task.proplet_id, "p-1");
    strcpy(task.image_url, "fl/images/" HEX64);
    task.has_image_sha256 = true;
    if (round_id != NULL) {
        put_env("ROUND_ID", round_id);
        put_env("MODEL_URI", "fl/models/global_model_v0");
    }
}

static void step_task(const char *expected)
{
    event.task = &task;
    step(FL_EVENT_TASK, expected);
}

static void step_run_ended(enum fl_run_end end, uint32_t size_bytes, const char *detail,
                           const char *expected)
{
    event.run_end = end;
    event.output_size_bytes = size_bytes;
    event.output_sha256 = digest;
    event.detail = detail;
    step(FL_EVENT_RUN_ENDED, expected);
}

#define MISMATCH                                                                                   \
    "model: mismatch: 0700000000000000000000000000000000000000000000000000000000000000, not "      \
    "0900000000000000000000000000000000000000000000000000000000000000"

/* A model of another digest than the task's comes. */
static void step_mismatch(const char *expected)
{
    event.found_sha256 = digest;
    step(FL_EVENT_MODEL_MISMATCH, expected);
}

static void step_ack(const char *round_id, const char *proplet_id, bool accepted,
                     const char *expected)
{
    memset(&ack, 0, sizeof(ack));
    strcpy(ack.round_id, round_id);
    strcpy(ack.proplet_id, proplet_id);
    memcpy(ack.sha256, digest, sizeof(digest));
    ack.accepted = accepted;
    if (!accepted) {
        strcpy(ack.reason, "wrong_shape");
    }
    event.ack = &ack;
    step(FL_EVENT_ACK, expected);
}

static void step_closed(const char *round_id, const char *how, const char *expected)
{
    event.text = round_id;
    event.detail = how;
    step(FL_EVENT_ROUND_CLOSED, expected);
}

/* Brings a fresh proplet to a phase of task t-1 in round r-1. */
static void begin_at(enum fl_phase phase)
{
    begin();
    make_task("t-1", "r-1");
    step_task("watch(r-1) image");
    if (phase >= FL_PHASE_MODEL) {
        step(FL_EVENT_IMAGE_READY, "model(fl/models/global_model_v0)");
    }
    if (phase >= FL_PHASE_RUN) {
        step(FL_EVENT_MODEL_READY, "run");
    }
    if (phase == FL_PHASE_STOP) {
        wait_ms(RUN_MS);
        step(FL_EVENT_TICK, "alive stop");
    }
    if (phase == FL_PHASE_REPORT) {
        step_run_ended(FL_RUN_OK, 500, NULL, "result update(r-1)");
    }
    FL_CHECK_INT(proplet.phase, phase);
}

FL_TEST(proplet, a_round_from_task_to_acknowledgement)
{
    begin();
    make_task("t-1", "r-1");
    step_task("watch(r-1) image");
    FL_CHECK_INT(actions.list[1].source, FL_IMAGE_TOPIC);
    FL_CHECK_STRING(actions.list[1].task->id, "t-1");
    FL_CHECK(!fl_proplet_takes_file(&proplet));
    step(FL_EVENT_IMAGE_READY, "model(fl/models/global_model_v0)");
    step(FL_EVENT_MODEL_READY, "run");
    FL_CHECK_STRING(fl_env_get(&actions.list[0].task->env, "PROPLET_ID"), "p-1");
    step_run_ended(FL_RUN_OK, 500, NULL, "result update(r-1)");
    FL_CHECK(!actions.list[0].with_output);
    FL_CHECK_STRING(actions.list[0].task_id, "t-1");
    FL_CHECK_INT(proplet.update.size_bytes, 500);
    step(FL_EVENT_RESULT_DELIVERED, "");
    step_ack("r-1", "p-1", true, "note(update accepted) unwatch(r-1)");
    FL_CHECK_INT(proplet.phase, FL_PHASE_IDLE);
    FL_CHECK(fl_proplet_takes_file(&proplet));
    FL_CHECK(fl_proplet_next_ms(&proplet) == 1000 + HEARTBEAT_MS);
}

FL_TEST(proplet, acknowledgement_and_delivery_may_come_in_either_order)
{
    begin_at(FL_PHASE_REPORT);
    step_ack("r-1", "p-1", true, "note(update accepted)");
    FL_CHECK_INT(proplet.phase, FL_PHASE_REPORT);
    step(FL_EVENT_RESULT_DELIVERED, "unwatch(r-1)");
    FL_CHECK_INT(proplet.phase, FL_PHASE_IDLE);
}

FL_TEST(proplet, a_task_of_no_round_reports_its_output)
{
    begin();
    make_task("t-1", NULL);
    put_env("PROPLET_ID", "someone"); /* what the task says of it stands */
    step_task("image");
    step(FL_EVENT_IMAGE_READY, "run");
    FL_CHECK_STRING(fl_env_get(&actions.list[0].task->env, "PROPLET_ID"), "someone");
    step_run_ended(FL_RUN_OK, 0, NULL, "result");
    FL_CHECK(actions.list[0].with_output);
    step(FL_EVENT_RESULT_DELIVERED, "");
    FL_CHECK_INT(proplet.phase, FL_PHASE_IDLE);
}

FL_TEST(proplet, an_image_comes_from_a_topic_a_registry_or_the_task)
{
    begin();
    make_task("t-1", NULL);
    strcpy(task.image_url, "oci://example/fl-client-wasm:latest");
    step_task("image");
    FL_CHECK_INT(actions.list[0].source, FL_IMAGE_REGISTRY);

    begin();
    make_task("t-1", NULL);
    task.has_file = true;
    step_task("image");
    FL_CHECK_INT(actions.list[0].source, FL_IMAGE_FILE);
}

FL_TEST(proplet, a_refused_update_ends_the_task)
{
    begin_at(FL_PHASE_REPORT);
    step(FL_EVENT_RESULT_DELIVERED, "");
    step_ack("r-1", "p-1", false, "note(update refused: wrong_shape) unwatch(r-1)");
    FL_CHECK_INT(proplet.phase, FL_PHASE_IDLE);
}

FL_TEST(proplet, an_acknowledgement_of_something_else_is_none)
{
    begin_at(FL_PHASE_REPORT);
    step_ack("r-2", "p-1", true, "");
    step_ack("r-1", "p-2", true, "");
    begin_at(FL_PHASE_RUN);
    step_ack("r-1", "p-1", true, "");
}

FL_TEST(proplet, the_update_is_sent_again_until_it_is_given_up)
{
    begin_at(FL_PHASE_REPORT);
    step(FL_EVENT_RESULT_DELIVERED, "");
    for (int i = 0; i < 2; i++) {
        FL_CHECK_INT(fl_proplet_next_ms(&proplet) - event.now_ms, RESEND_MS / 2);
        wait_ms(RESEND_MS / 2 - 1);
        step(FL_EVENT_TICK, "");
        wait_ms(1);
        step(FL_EVENT_TICK, "update(r-1)");
    }
    wait_ms(RESEND_MS / 2);
    step(FL_EVENT_TICK, "note(update given up: no answer from the coordinator) unwatch(r-1)");
    FL_CHECK_STRING(actions.list[0].task_id, "t-1");
    FL_CHECK_INT(proplet.phase, FL_PHASE_IDLE);
    /* The same task may be tried again. */
    make_task("t-1", "r-1");
    step_task("watch(r-1) image");
}

FL_TEST(proplet, every_failure_has_its_own_error)
{
    static const struct {
        enum fl_run_end end;
        const char *detail;
        const char *expected;
    } cases[] = {
        {FL_RUN_EXIT, "model: w is missing", "result(exit: model: w is missing)"},
        {FL_RUN_TRAP, "unreachable", "result(trap: unreachable)"},
        {FL_RUN_CONTRACT, "import env.abort", "result(contract: import env.abort)"},
        {FL_RUN_INSTRUCTIONS, "more than 100", "result(instructions: more than 100)"},
        {FL_RUN_MEMORY, NULL, "result(memory)"},
        {FL_RUN_OUTPUT, "", "result(output)"},
        {FL_RUN_STOPPED, NULL, "result(stopped)"},
        {FL_RUN_FAILED, "flash", "result(internal: flash)"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        begin_at(FL_PHASE_RUN);
        step_run_ended(cases[i].end, 500, cases[i].detail, cases[i].expected);
        step(FL_EVENT_RESULT_DELIVERED, "unwatch(r-1)");
        FL_CHECK_INT(proplet.phase, FL_PHASE_IDLE);
    }
    begin_at(FL_PHASE_RUN);
    step_run_ended(FL_RUN_OK, 0, NULL, "result(output: the module wrote no update)");
    begin_at(FL_PHASE_IMAGE);
    event.detail = "mismatch";
    step(FL_EVENT_IMAGE_FAILED, "result(image: mismatch)");
    begin_at(FL_PHASE_MODEL);
    event.detail = "too_large";
    step(FL_EVENT_MODEL_FAILED, "result(model: too_large)");
}

/* The task is about the model of digest 09…; that of 07… comes. */
static void begin_with_wrong_model(void)
{
    begin_at(FL_PHASE_MODEL);
    proplet.task.has_model_sha256 = true;
    proplet.task.model_sha256[0] = 9;
    step_mismatch("note(" MISMATCH ")");
    FL_CHECK_INT(proplet.phase, FL_PHASE_MODEL);
}

FL_TEST(proplet, a_model_that_the_task_is_not_about)
{
    begin_with_wrong_model(); /* the right one comes after all, and nothing is left of the other */
    step(FL_EVENT_MODEL_READY, "run");
    step_run_ended(FL_RUN_TRAP, 0, NULL, "result(trap)");

    begin_with_wrong_model();
    wait_ms(MODEL_MS);
    step(FL_EVENT_TICK, "alive cancel result(" MISMATCH ")");

    begin_with_wrong_model();
    event.text = "r-1";
    event.detail = "failed";
    step(FL_EVENT_ROUND_CLOSED, "cancel result(" MISMATCH ")");

    begin_with_wrong_model();
    event.text = "t-1";
    step(FL_EVENT_TASK_STOP, "cancel result(stopped: by the manager)");

    begin_at(FL_PHASE_MODEL); /* of a fetch that was given up */
    event.ticket = proplet.ticket + 1u;
    step_mismatch("");
    begin_at(FL_PHASE_RUN);
    step_mismatch("");
}

FL_TEST(proplet, a_long_error_is_kept_in_part)
{
    char detail[400];

    memset(detail, 'd', sizeof(detail));
    detail[sizeof(detail) - 1] = '\0';
    begin_at(FL_PHASE_RUN);
    event.detail = detail;
    event.run_end = FL_RUN_TRAP;
    event.kind = FL_EVENT_RUN_ENDED;
    event.ticket = proplet.ticket;
    fl_proplet_handle(&proplet, &event, &actions);
    FL_CHECK_INT(strlen(proplet.error), FL_PROPLET_ERROR_MAX);
    FL_CHECK_STRING(proplet.error + FL_PROPLET_ERROR_MAX - 4, "d...");
}

FL_TEST(proplet, what_takes_too_long)
{
    begin_at(FL_PHASE_IMAGE);
    wait_ms(IMAGE_MS - 1);
    step(FL_EVENT_TICK, "alive");
    wait_ms(1);
    step(FL_EVENT_TICK, "cancel result(image: it did not arrive within 30000 ms)");

    begin_at(FL_PHASE_MODEL);
    wait_ms(MODEL_MS);
    step(FL_EVENT_TICK, "alive cancel result(model: it did not arrive within 60000 ms)");

    begin_at(FL_PHASE_RUN);
    wait_ms(HEARTBEAT_MS);
    step(FL_EVENT_TICK, "alive");
    FL_CHECK_INT(fl_proplet_next_ms(&proplet) - event.now_ms, RUN_MS - HEARTBEAT_MS);
    wait_ms(RUN_MS - HEARTBEAT_MS);
    step(FL_EVENT_TICK, "alive stop");
    step_run_ended(FL_RUN_STOPPED, 0, "terminated",
                   "result(wall_time: it did not end within 20000 ms)");
}

FL_TEST(proplet, a_worker_that_does_not_stop_is_beyond_help)
{
    begin_at(FL_PHASE_STOP);
    wait_ms(GRACE_MS);
    step(FL_EVENT_TICK, "reset(worker: it did not stop within 5000 ms)");
    step(FL_EVENT_TICK, "");
}

FL_TEST(proplet, a_run_that_ends_well_after_all_was_stopped_all_the_same)
{
    begin_at(FL_PHASE_STOP);
    step_run_ended(FL_RUN_OK, 500, NULL, "result(wall_time: it did not end within 20000 ms)");
    FL_CHECK(!proplet.update.open);
}

FL_TEST(proplet, the_manager_stops_a_task)
{
    static const enum fl_phase phases[] = {FL_PHASE_IMAGE, FL_PHASE_MODEL};

    for (size_t i = 0; i < 2; i++) {
        begin_at(phases[i]);
        event.text = "t-2";
        step(FL_EVENT_TASK_STOP, "");
        event.text = "t-1";
        step(FL_EVENT_TASK_STOP, "cancel result(stopped: by the manager)");
    }
    begin_at(FL_PHASE_RUN);
    event.text = "t-1";
    step(FL_EVENT_TASK_STOP, "stop");
    event.text = "t-1";
    step(FL_EVENT_TASK_STOP, "");
    step_run_ended(FL_RUN_STOPPED, 0, NULL, "result(stopped: by the manager)");
    event.text = "t-1";
    step(FL_EVENT_TASK_STOP, "");
}

FL_TEST(proplet, a_closed_round_ends_its_task_in_every_phase)
{
    begin_at(FL_PHASE_IMAGE);
    step_closed("r-2", "complete", "");
    step_closed("r-1", "complete", "cancel result(round_closed: complete)");
    begin_at(FL_PHASE_MODEL);
    step_closed("r-1", NULL, "cancel result(round_closed)");
    begin_at(FL_PHASE_RUN);
    step_closed("r-1", "timeout", "stop");
    step_run_ended(FL_RUN_STOPPED, 0, NULL, "result(round_closed: timeout)");
    begin_at(FL_PHASE_STOP);
    step_closed("r-1", "timeout", "");
    begin_at(FL_PHASE_REPORT);
    step(FL_EVENT_RESULT_DELIVERED, "");
    step_closed("r-1", "complete", "unwatch(r-1)");
    FL_CHECK_INT(proplet.phase, FL_PHASE_IDLE);
    FL_CHECK(!proplet.update.open);
    begin_at(FL_PHASE_REPORT);
    step_closed("r-1", "complete", "");
    step(FL_EVENT_RESULT_DELIVERED, "unwatch(r-1)");
    begin();
    step_closed("", "complete", "");
}

FL_TEST(proplet, one_task_waits_and_then_runs)
{
    begin_at(FL_PHASE_RUN);
    make_task("t-2", "r-2");
    step_task("note(task waits for: t-1)");
    make_task("t-3", "r-3");
    step_task("refusal(busy: other tasks are under way)");
    FL_CHECK_STRING(actions.list[0].task_id, "t-3");
    step_run_ended(FL_RUN_OK, 500, NULL, "result update(r-1)");
    step(FL_EVENT_RESULT_DELIVERED, "");
    step_ack("r-1", "p-1", true, "note(update accepted) unwatch(r-1) watch(r-2) image");
    FL_CHECK_STRING(actions.list[0].task_id, "t-1");
    FL_CHECK_STRING(actions.list[3].task_id, "t-2");
    FL_CHECK_STRING(proplet.task.id, "t-2");
    FL_CHECK_STRING(fl_env_get(&proplet.task.env, "PROPLET_ID"), "p-1");
    FL_CHECK(!proplet.has_next);
    /* Nothing of the first is left in the second. */
    step(FL_EVENT_IMAGE_READY, "model(fl/models/global_model_v0)");
    step(FL_EVENT_MODEL_READY, "run");
    step_run_ended(FL_RUN_OK, 500, NULL, "result update(r-2)");
}

FL_TEST(proplet, a_waiting_task_can_be_stopped_or_lose_its_round)
{
    begin_at(FL_PHASE_RUN);
    make_task("t-2", "r-2");
    step_task("note(task waits for: t-1)");
    event.text = "t-2";
    step(FL_EVENT_TASK_STOP, "refusal(stopped: by the manager)");
    FL_CHECK_STRING(actions.list[0].task_id, "t-2");
    make_task("t-3", "r-3");
    step_task("note(task waits for: t-1)");
    step_closed("r-3", "timeout", "refusal(round_closed: timeout)");
    FL_CHECK_INT(proplet.phase, FL_PHASE_RUN);
    FL_CHECK(!proplet.has_next);
    /* Both tasks of one round: both are over. */
    make_task("t-4", "r-1");
    step_task("note(task waits for: t-1)");
    step_closed("r-1", "failed", "refusal(round_closed: failed) stop");
}

FL_TEST(proplet, a_task_with_a_file_cannot_wait)
{
    begin_at(FL_PHASE_RUN);
    make_task("t-2", NULL);
    task.has_file = true;
    step_task("refusal(busy: other tasks are under way)");
}

FL_TEST(proplet, a_replayed_task_is_harmless)
{
    begin_at(FL_PHASE_IMAGE);
    step_task("note(task seen before: under way)");
    begin_at(FL_PHASE_RUN);
    make_task("t-2", "r-2");
    step_task("note(task waits for: t-1)");
    step_task("note(task seen before: waiting)");
    begin_at(FL_PHASE_REPORT);
    step_task("note(task seen before: under way) update(r-1)"); /* someone misses it */
    step(FL_EVENT_RESULT_DELIVERED, "");
    step_ack("r-1", "p-1", true, "note(update accepted) unwatch(r-1)");
    step_task("note(task seen before: done)");
    FL_CHECK_INT(proplet.phase, FL_PHASE_IDLE);
}

FL_TEST(proplet, the_last_done_tasks_are_remembered)
{
    char task_id[8] = "done-0";

    begin();
    for (int i = 0; i <= FL_PROPLET_DONE_MAX; i++) {
        task_id[5] = (char)('0' + i);
        make_task(task_id, NULL);
        step_task("image");
        step(FL_EVENT_IMAGE_READY, "run");
        step_run_ended(FL_RUN_OK, 1, NULL, "result");
        step(FL_EVENT_RESULT_DELIVERED, "");
    }
    for (int i = FL_PROPLET_DONE_MAX; i > 0; i--) {
        task_id[5] = (char)('0' + i);
        make_task(task_id, NULL);
        step_task("note(task seen before: done)");
    }
    make_task("done-0", NULL); /* the oldest is forgotten */
    step_task("image");
}

FL_TEST(proplet, tasks_of_others_are_none_of_its_business)
{
    begin();
    make_task("t-1", "r-1");
    strcpy(task.proplet_id, "p-2");
    step_task("");
    strcpy(task.proplet_id, "");
    step_task("watch(r-1) image");
}

FL_TEST(proplet, tasks_that_cannot_be_taken)
{
    begin();
    make_task("t-1", "r-1");
    task.unsupported = "inputs";
    step_task("refusal(unsupported: inputs)");
    FL_CHECK_STRING(actions.list[0].task_id, "t-1");
    make_task("t-1", NULL);
    task.has_file = true;
    task.file_status = FL_STREAM_TOO_LARGE;
    step_task("refusal(file: too_large)");
    make_task("t-1", "../etc");
    step_task("refusal(bad_id: ROUND_ID in env)");
    make_task("t-1", NULL);
    put_env("MODEL_URI", "fl/models/#");
    step_task("refusal(bad_field: MODEL_URI in env is not fl/models/{name})");
    make_task("t-1", NULL);
    put_env("MODEL_URI", "control/manager/start");
    step_task("refusal(bad_field: MODEL_URI in env is not fl/models/{name})");
    FL_CHECK_INT(proplet.phase, FL_PHASE_IDLE);
    make_task("t-1", "r-1"); /* mended, it is taken */
    step_task("watch(r-1) image");
}

FL_TEST(proplet, an_environment_with_no_room_for_the_proplets_own_id)
{
    static char value[FL_ENV_CAPACITY];

    begin();
    make_task("t-1", NULL);
    memset(value, 'v', sizeof(value));
    value[FL_ENV_CAPACITY - sizeof("A=")] = '\0';
    put_env("A", value);
    step_task("result(env: too_large: no room for PROPLET_ID)");
    step(FL_EVENT_RESULT_DELIVERED, "");
    FL_CHECK_INT(proplet.phase, FL_PHASE_IDLE);
}

FL_TEST(proplet, an_undecodable_task_is_answered_only_by_its_proplet)
{
    begin();
    make_task("t-1", NULL);
    event.task = &task;
    event.detail = "bad_field: env";
    step(FL_EVENT_TASK_UNUSABLE, "refusal(task: bad_field: env)");
    task.proplet_id[0] = '\0';
    event.task = &task;
    event.detail = "bad_field: env";
    event.addressed = true;
    step(FL_EVENT_TASK_UNUSABLE, "refusal(task: bad_field: env)");
    event.task = &task;
    event.detail = "bad_field: env";
    step(FL_EVENT_TASK_UNUSABLE, "note(task refused: bad_field: env)");
    task.id[0] = '\0';
    event.task = &task;
    event.detail = "undecodable";
    event.addressed = true;
    step(FL_EVENT_TASK_UNUSABLE, "note(task refused: undecodable)");
}

FL_TEST(proplet, heartbeats_only_while_connected)
{
    begin();
    wait_ms(HEARTBEAT_MS - 1);
    step(FL_EVENT_TICK, "");
    wait_ms(1);
    step(FL_EVENT_TICK, "alive");
    step(FL_EVENT_DISCONNECTED, "");
    FL_CHECK(fl_proplet_next_ms(&proplet) == INT64_MAX);
    wait_ms(HEARTBEAT_MS);
    step(FL_EVENT_TICK, "");
    step(FL_EVENT_CONNECTED, "subscribe discovery alive");
}

FL_TEST(proplet, a_lost_connection_starts_a_fetch_over)
{
    uint32_t old_ticket;

    begin_at(FL_PHASE_IMAGE);
    old_ticket = proplet.ticket;
    wait_ms(IMAGE_MS - 1);
    step(FL_EVENT_DISCONNECTED, "");
    wait_ms(10 * IMAGE_MS);
    step(FL_EVENT_TICK, ""); /* that time does not count */
    event.ticket = old_ticket;
    step(FL_EVENT_IMAGE_READY, ""); /* void */
    step(FL_EVENT_CONNECTED, "subscribe discovery alive watch(r-1) image");
    event.ticket = old_ticket;
    step(FL_EVENT_IMAGE_FAILED, "");
    wait_ms(IMAGE_MS - 1);
    step(FL_EVENT_TICK, "alive");
    step(FL_EVENT_IMAGE_READY, "model(fl/models/global_model_v0)");
    step(FL_EVENT_DISCONNECTED, "");
    step(FL_EVENT_CONNECTED,
         "subscribe discovery alive watch(r-1) model(fl/models/global_model_v0)");
    step(FL_EVENT_MODEL_READY, "run");
}

FL_TEST(proplet, a_run_goes_on_without_a_connection)
{
    begin_at(FL_PHASE_RUN);
    step(FL_EVENT_DISCONNECTED, "");
    step_run_ended(FL_RUN_OK, 500, NULL, "");
    FL_CHECK_INT(proplet.phase, FL_PHASE_REPORT);
    wait_ms(100 * RESEND_MS);
    step(FL_EVENT_TICK, "");
    step(FL_EVENT_CONNECTED, "subscribe discovery alive watch(r-1) result update(r-1)");
    step(FL_EVENT_RESULT_DELIVERED, "");
    step(FL_EVENT_DISCONNECTED, "");
    step(FL_EVENT_CONNECTED, "subscribe discovery alive watch(r-1) update(r-1)");
    step_ack("r-1", "p-1", true, "note(update accepted) unwatch(r-1)");
}

FL_TEST(proplet, a_run_is_stopped_without_a_connection_too)
{
    begin_at(FL_PHASE_RUN);
    step(FL_EVENT_DISCONNECTED, "");
    wait_ms(RUN_MS);
    step(FL_EVENT_TICK, "stop");
    step_run_ended(FL_RUN_STOPPED, 0, NULL, "");
    step(FL_EVENT_CONNECTED, "subscribe discovery alive watch(r-1) "
                             "result(wall_time: it did not end within 20000 ms)");
}

FL_TEST(proplet, an_answer_that_comes_just_before_the_connection_breaks)
{
    begin_at(FL_PHASE_REPORT);
    make_task("t-2", "r-2");
    step_task("note(task waits for: t-1)");
    step_ack("r-1", "p-1", true, "note(update accepted)");
    step(FL_EVENT_DISCONNECTED, "");
    step(FL_EVENT_RESULT_DELIVERED, "");
    /* The next task begins with the next connection. */
    step(FL_EVENT_CONNECTED, "subscribe discovery alive unwatch(r-1) watch(r-2) image");
    FL_CHECK_STRING(proplet.task.id, "t-2");
}

FL_TEST(proplet, answers_to_what_is_over_are_void)
{
    uint32_t run_ticket;

    begin_at(FL_PHASE_RUN);
    run_ticket = proplet.ticket;
    step(FL_EVENT_IMAGE_READY, "");
    step(FL_EVENT_MODEL_READY, "");
    step(FL_EVENT_RESULT_DELIVERED, "");
    step_run_ended(FL_RUN_OK, 500, NULL, "result update(r-1)");
    event.ticket = run_ticket;
    step(FL_EVENT_RESULT_DELIVERED, "");
    event.ticket = run_ticket;
    step_run_ended(FL_RUN_TRAP, 0, NULL, "");
    step(FL_EVENT_RESULT_DELIVERED, "");
    step_ack("r-1", "p-1", true, "note(update accepted) unwatch(r-1)");
    step(FL_EVENT_RESULT_DELIVERED, "");
    FL_CHECK_INT(proplet.phase, FL_PHASE_IDLE);
}

FL_TEST(proplet, a_thousand_tasks_on_one_boot)
{
    char task_id[] = "t-000";

    begin();
    for (int i = 0; i < 1000; i++) {
        task_id[2] = (char)('0' + i / 100);
        task_id[3] = (char)('0' + i / 10 % 10);
        task_id[4] = (char)('0' + i % 10);
        make_task(task_id, "r-1");
        step_task("watch(r-1) image");
        step(FL_EVENT_IMAGE_READY, "model(fl/models/global_model_v0)");
        step(FL_EVENT_MODEL_READY, "run");
        step_run_ended(FL_RUN_OK, 500, NULL, "result update(r-1)");
        step(FL_EVENT_RESULT_DELIVERED, "");
        step_ack("r-1", "p-1", true, "note(update accepted) unwatch(r-1)");
    }
}

/*
 * Any events in any order: never more actions than there is room for, and never two tasks under
 * way. The generator's seed makes every run the same.
 */
FL_TEST(proplet, no_order_of_events_breaks_it)
{
    static const char *const rounds[] = {"r-1", "r-2", NULL};
    char task_id[] = "t-a";
    uint32_t random = 12345;
    unsigned int runs = 0;
    bool running = false;

    begin();
    for (int i = 0; i < 200000; i++) {
        random = random * 1664525u + 1013904223u;
        task_id[2] = (char)('a' + (random >> 8) % 26u);
        make_task(task_id, rounds[(random >> 12) % 3u]);
        task.has_file = (random >> 16 & 7u) == 0;
        memset(&ack, 0, sizeof(ack));
        strcpy(ack.proplet_id, "p-1");
        strcpy(ack.round_id, (random >> 15 & 1u) != 0 ? "r-1" : "r-2");
        memcpy(ack.sha256, digest, sizeof(digest));
        event = (struct fl_event){
            .kind = (enum fl_event_kind)((random >> 20) % (FL_EVENT_TICK + 1u)),
            .now_ms = event.now_ms + (random >> 10 & 0x3FF),
            .random = random,
            .ticket = proplet.ticket - (random >> 25 & 1u),
            .task = &task,
            .ack = &ack,
            .text = (random >> 14 & 1u) != 0 ? "r-1" : task_id,
            .detail = "why",
            .run_end = (enum fl_run_end)((random >> 17) % (FL_RUN_FAILED + 1u)),
            .output_size_bytes = 10,
            .output_sha256 = digest,
            .found_sha256 = digest,
        };
        if (event.kind == FL_EVENT_RUN_ENDED && event.ticket == proplet.ticket) {
            running = false;
        }
        fl_proplet_handle(&proplet, &event, &actions);
        FL_CHECK(actions.count <= FL_PROPLET_ACTIONS_MAX);
        for (size_t k = 0; k < actions.count; k++) {
            if (actions.list[k].kind == FL_DO_START_RUN) {
                FL_CHECK(!running);
                running = true;
                runs++;
            }
        }
        FL_CHECK(proplet.online || proplet.heartbeat_at_ms == INT64_MAX);
        FL_CHECK(proplet.phase == FL_PHASE_REPORT || !proplet.update.open);
        FL_CHECK(proplet.phase != FL_PHASE_IDLE || !proplet.has_next);
        FL_CHECK(proplet.phase != FL_PHASE_RUN || proplet.deadline_ms != INT64_MAX);
    }
    FL_CHECK(runs > 100);
}

/* commands and daemons */

static void add_arg(const char *text)
{
    size_t cursor = task.cli_args.size;

    FL_CHECK(fl_args_append(&task.cli_args, &cursor, text, strlen(text)));
    fl_args_close(&task.cli_args, cursor);
}

FL_TEST(proplet, a_command_is_run_with_its_arguments)
{
    const struct fl_command *command;

    begin();
    make_task("t-1", NULL);
    strcpy(task.name, "sum");
    strcpy(task.inputs, "3 5");
    add_arg("--invoke");
    add_arg("add");
    add_arg("--env=A=1");
    add_arg("file");
    step_task("image");
    step(FL_EVENT_IMAGE_READY, "run");
    command = actions.list[0].command;
    FL_CHECK(command != NULL);
    FL_CHECK_STRING(command->name, "sum");
    FL_CHECK_STRING(command->function, "add");
    FL_CHECK(command->nothing_else);
    FL_CHECK_INT(command->args_count, 1);
    FL_CHECK_STRING(command->args, "file");
    FL_CHECK_STRING(command->inputs, "3 5");
    FL_CHECK(!command->plain);
    FL_CHECK(!command->daemon);
    FL_CHECK(!actions.list[0].with_model);
    FL_CHECK_STRING(fl_env_get(&actions.list[0].task->env, "A"), "1");
    FL_CHECK(proplet.deadline_ms != INT64_MAX);
}

FL_TEST(proplet, a_task_without_a_name_has_one_for_its_module)
{
    begin();
    make_task("t-1", NULL);
    step_task("image");
    step(FL_EVENT_IMAGE_READY, "run");
    FL_CHECK_STRING(actions.list[0].command->name, "module");
    FL_CHECK(actions.list[0].command->plain);
}

FL_TEST(proplet, an_option_that_is_unknown_is_the_tasks_error)
{
    begin();
    make_task("t-1", NULL);
    add_arg("--dir=/");
    step_task("image");
    step(FL_EVENT_IMAGE_READY, "result(cli_args: unknown option: --dir=/)");
    FL_CHECK_INT(proplet.phase, FL_PHASE_REPORT);
    step(FL_EVENT_RESULT_DELIVERED, "");
    FL_CHECK_INT(proplet.phase, FL_PHASE_IDLE);
}

/* A variable that names a round or a model comes too late to make the task one of a round. */
FL_TEST(proplet, options_make_no_round_of_a_task)
{
    begin();
    make_task("t-1", NULL);
    add_arg("--env=ROUND_ID=r-1");
    add_arg("--env=MODEL_URI=fl/models/m");
    step_task("image");
    step(FL_EVENT_IMAGE_READY, "run");
    FL_CHECK(actions.list[0].command != NULL);
    FL_CHECK(!actions.list[0].with_model);
    step_run_ended(FL_RUN_OK, 5, NULL, "result");
    FL_CHECK(actions.list[0].with_output);
}

FL_TEST(proplet, a_rounds_task_is_run_as_ever)
{
    begin();
    make_task("t-1", "r-1");
    add_arg("--dir=/");
    task.daemon = true;
    step_task("watch(r-1) image");
    step(FL_EVENT_IMAGE_READY, "model(fl/models/global_model_v0)");
    step(FL_EVENT_MODEL_READY, "run");
    FL_CHECK(actions.list[0].command == NULL);
    FL_CHECK(actions.list[0].with_model);
    FL_CHECK(proplet.deadline_ms != INT64_MAX);
    event.text = "t-1";
    step(FL_EVENT_TASK_STOP, "stop");
    step_run_ended(FL_RUN_STOPPED, 5, NULL, "result(stopped: by the manager)");
}

static void begin_daemon(void)
{
    begin();
    make_task("t-1", NULL);
    task.daemon = true;
    step_task("image");
    step(FL_EVENT_IMAGE_READY, "run");
    FL_CHECK(actions.list[0].command->daemon);
}

static void step_stop(const char *task_id, const char *expected)
{
    event.text = task_id;
    step(FL_EVENT_TASK_STOP, expected);
}

FL_TEST(proplet, a_daemon_runs_until_it_is_stopped_and_that_is_a_good_end)
{
    begin_daemon();
    wait_ms(100 * (int64_t)RUN_MS);
    step(FL_EVENT_TICK, "alive");
    step_stop("t-2", "");
    step_stop("t-1", "stop");
    step_stop("t-1", ""); /* again */
    step_run_ended(FL_RUN_STOPPED, 5, "terminated", "result");
    FL_CHECK(actions.list[0].with_output);
    FL_CHECK(actions.list[0].text == NULL);
    step(FL_EVENT_RESULT_DELIVERED, "");
    FL_CHECK_INT(proplet.phase, FL_PHASE_IDLE);
}

FL_TEST(proplet, a_daemon_may_end_by_itself)
{
    begin_daemon();
    step_run_ended(FL_RUN_OK, 5, NULL, "result");
    FL_CHECK(actions.list[0].with_output);
    begin_daemon();
    step_run_ended(FL_RUN_TRAP, 0, "unreachable", "result(trap: unreachable)");
    begin_daemon();
    step_stop("t-1", "stop");
    step_run_ended(FL_RUN_EXIT, 0, "status 3", "result(exit: status 3)");
}

FL_TEST(proplet, a_daemon_that_does_not_stop_is_beyond_help)
{
    begin_daemon();
    step_stop("t-1", "stop");
    wait_ms(GRACE_MS);
    step(FL_EVENT_TICK, "reset(worker: it did not stop within 5000 ms)");
}

FL_TEST(proplet, a_daemon_that_has_not_begun_is_stopped_like_any_task)
{
    begin();
    make_task("t-1", NULL);
    task.daemon = true;
    step_task("image");
    step_stop("t-1", "cancel result(stopped: by the manager)");
}
