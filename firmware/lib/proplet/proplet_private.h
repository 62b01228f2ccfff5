/*
 * The two halves of the state machine: proplet.c decides what an event means, proplet_step.c moves
 * the task on and asks for the actions.
 */
#ifndef PROPLET_PRIVATE_H
#define PROPLET_PRIVATE_H

#include "fl_proplet.h"

#define ENV_ROUND_ID "ROUND_ID"
#define ENV_MODEL_URI "MODEL_URI"
#define ENV_PROPLET_ID "PROPLET_ID"

/* One event on its way through the machine. */
struct step {
    struct fl_proplet *proplet;
    const struct fl_event *event;
    struct fl_actions *actions;
};

/* Writes "head: detail", or "head" alone without a detail. */
void step_join(char out[FL_PROPLET_ERROR_MAX + 1], const char *head, const char *detail);

/* Writes "head: what within N ms". */
void step_join_limit(char out[FL_PROPLET_ERROR_MAX + 1], const char *head, const char *what,
                     uint32_t limit_ms);

/* Writes "model: mismatch: FOUND, not WANTED", the digests in hexadecimal. */
void step_join_mismatch(char out[FL_PROPLET_ERROR_MAX + 1], const uint8_t found[FL_SHA256_SIZE],
                        const uint8_t wanted[FL_SHA256_SIZE]);

/* Adds an action. */
struct fl_action *step_act(const struct step *step, enum fl_action_kind kind);

/* One line for the log, or one refusal, an event: they share a buffer. */
void step_note(const struct step *step, const char *task_id, const char *head, const char *detail);
void step_refuse(const struct step *step, const char *task_id, const char *head,
                 const char *detail);

/* Makes proplet->task the task under way. Its environment was checked. */
void step_begin_task(const struct step *step);

void step_watch_round(const struct step *step);
void step_fetch_image(const struct step *step);
void step_fetch_model(const struct step *step);
void step_start_run(const struct step *step);

/* Whether the task under way runs until it is stopped. */
bool step_is_daemon(const struct fl_proplet *proplet);

/* The run is over: the result is published, and the update if there is one. */
void step_enter_report(const struct step *step);
void step_publish_result(const struct step *step);
void step_publish_update_if_due(const struct step *step);

/* The task has failed, for the reason in proplet->error. */
void step_fail(const struct step *step);

/* Gives up fetching or running, for the reason in proplet->error. */
void step_give_up(const struct step *step);

/* Ends the task once nothing of it waits any more, and begins the next. */
void step_settle(const struct step *step);

#endif
