/*
 * The proplet as a pure state machine: an event goes in, actions come out. It owns no clock, no
 * socket, no thread and no memory but its own struct; time and randomness come with each event.
 *
 *   phase    what is going on                      leaves it
 *   -------  ------------------------------------  ------------------------------------------------
 *   IDLE     no task                               task -> IMAGE
 *   IMAGE    the image is fetched                  ready -> MODEL, or RUN when there is none
 *                                                  failed, too late, stop, round closed -> REPORT
 *   MODEL    the model is fetched, until it is     ready -> RUN
 *            the one that the task is about
 *                                                  failed, too late, stop, round closed -> REPORT
 *   RUN      the worker runs the module            ended -> REPORT
 *                                                  too long, stop, round closed -> STOP
 *            a daemon, as long as it likes         ended -> REPORT, stop -> STOP
 *   STOP     the worker was told to stop           ended -> REPORT
 *                                                  not within the grace -> reset of the machine
 *   REPORT   the result waits for the broker, the  both settled -> IDLE, or IMAGE with the next
 *            update for the coordinator            task when one waits
 *
 * Being connected is apart from the phase. Without a connection a run goes on; fetches, results
 * and the update are taken up again with the next CONNECTED.
 *
 * A task that comes during another waits in one place; a second one is refused as "busy". A task
 * seen before (waiting, under way, or one of the last FL_PROPLET_DONE_MAX done) is harmless: it is
 * noted, and if its update still waits for an answer, that is sent again at once. A task whose
 * update was given up unanswered does not count as done: the same task runs again.
 */
#ifndef FL_PROPLET_H
#define FL_PROPLET_H

#include "fl_message.h"
#include "fl_topic.h"
#include "fl_update.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FL_PROPLET_DONE_MAX 8    /* ids of done tasks remembered against replays */
#define FL_PROPLET_ACTIONS_MAX 8 /* most actions of one event */
#define FL_PROPLET_ERROR_MAX 191 /* bytes of a task's error; a longer one is kept in part */

struct fl_proplet_config {
    const char *proplet_id;  /* an id; outlives the proplet */
    uint32_t heartbeat_ms;   /* at most a third of the manager's liveness timeout */
    uint32_t image_limit_ms; /* how long an image may take to arrive, while connected */
    uint32_t model_limit_ms; /* the same of a model, which is sent when the server has it */
    uint32_t run_limit_ms;   /* a module that runs longer is stopped */
    uint32_t stop_grace_ms;  /* a worker that has not stopped after this is beyond help */
    struct fl_update_limits update;
};

enum fl_phase {
    FL_PHASE_IDLE,
    FL_PHASE_IMAGE,
    FL_PHASE_MODEL,
    FL_PHASE_RUN,
    FL_PHASE_STOP,
    FL_PHASE_REPORT,
};

/* How a run ended. All but FL_RUN_OK are a failure; their words lead the published error. */
enum fl_run_end {
    FL_RUN_OK,           /* exit status 0 and its output whole */
    FL_RUN_EXIT,         /* "exit": a status other than 0; detail: its last line on stderr */
    FL_RUN_TRAP,         /* "trap" */
    FL_RUN_CONTRACT,     /* "contract": it does not load: no Wasm, a bad import, no _start */
    FL_RUN_INSTRUCTIONS, /* "instructions": more than the limit */
    FL_RUN_MEMORY,       /* "memory": it does not fit, or asked for more than there is */
    FL_RUN_OUTPUT,       /* "output": stdout outgrew its limit */
    FL_RUN_STOPPED,      /* "stopped": terminated from outside */
    FL_RUN_UNSIGNED,     /* "unsigned_image": it must have a signature and has none */
    FL_RUN_UNTRUSTED,    /* "untrusted_signature": of somebody else, or of something else */
    FL_RUN_FAILED,       /* "internal": this proplet's own fault, such as a flash that fails */
};

const char *fl_run_end_word(enum fl_run_end end);

enum fl_event_kind {
    FL_EVENT_CONNECTED,        /* the broker took the session */
    FL_EVENT_DISCONNECTED,     /* it is gone; fetches under way are void */
    FL_EVENT_TASK,             /* a TaskStart was decoded: task */
    FL_EVENT_TASK_UNUSABLE,    /* one was refused by its decoder: task (id, proplet_id), detail */
    FL_EVENT_TASK_STOP,        /* text: the task's id */
    FL_EVENT_IMAGE_READY,      /* whole, verified, in its place: ticket */
    FL_EVENT_IMAGE_FAILED,     /* ticket, detail */
    FL_EVENT_MODEL_READY,      /* ticket */
    FL_EVENT_MODEL_FAILED,     /* ticket, detail */
    FL_EVENT_MODEL_MISMATCH,   /* one came that the task is not about: ticket, found_sha256; the
                                * right one is still waited for */
    FL_EVENT_RUN_ENDED,        /* ticket, run_end, detail, output_size_bytes, output_sha256 */
    FL_EVENT_RESULT_DELIVERED, /* the broker acknowledged the result: ticket */
    FL_EVENT_ACK,              /* an UpdateAck was decoded: ack */
    FL_EVENT_ROUND_CLOSED,     /* text: the round's id; detail: how (complete, timeout, failed) */
    FL_EVENT_TICK,             /* time has passed */
};

/* Members that the kind does not name are not read. Pointers need live only during the call. */
struct fl_event {
    enum fl_event_kind kind;
    int64_t now_ms;  /* monotonic, never less than in the event before */
    uint32_t random; /* 32 random bits */
    uint32_t ticket; /* of the action this answers; an outdated one makes the event void */
    const struct fl_task_start *task;
    const struct fl_update_ack *ack;
    const char *text;
    const char *detail; /* for people; may be NULL */
    bool addressed;     /* the task came on this proplet's own topic, not on the shared one */
    enum fl_run_end run_end;
    uint32_t output_size_bytes;
    const uint8_t *output_sha256; /* FL_SHA256_SIZE bytes, as below */
    const uint8_t *found_sha256;
};

/* Where an image comes from. */
enum fl_image_source {
    FL_IMAGE_TOPIC,    /* retained raw bytes on fl/images/{task->image_sha256} */
    FL_IMAGE_REGISTRY, /* chunks from Propeller's registry for the name in task->image_url */
    FL_IMAGE_FILE, /* it came with the task and lies in its place; a digest is still to be checked
                    */
};

enum fl_action_kind {
    FL_DO_SUBSCRIBE, /* to the fixed topics: task start and stop, shared and own; own acks */
    FL_DO_PUBLISH_DISCOVERY, /* control/proplet/create */
    FL_DO_PUBLISH_ALIVE,     /* control/proplet/alive */
    FL_DO_WATCH_ROUND,       /* subscribe to fl/rounds/{text}/complete */
    FL_DO_UNWATCH_ROUND,     /* unsubscribe from it: text */
    FL_DO_FETCH_IMAGE,     /* ticket, task, source; look in the cache first when it has a digest */
    FL_DO_FETCH_MODEL,     /* ticket, task: what it must be; text: its topic without prefix */
    FL_DO_CANCEL_FETCH,    /* whatever fetch is under way */
    FL_DO_START_RUN,       /* ticket, task, command, with_model */
    FL_DO_STOP_RUN,        /* ticket; answer with FL_EVENT_RUN_ENDED */
    FL_DO_PUBLISH_UPDATE,  /* the output, as it is, to fl/rounds/{text}/updates/{own id} */
    FL_DO_PUBLISH_RESULT,  /* ticket, task_id, text: error or NULL, with_output */
    FL_DO_PUBLISH_REFUSAL, /* a result for a task that was not taken: task_id, text; not repeated */
    FL_DO_NOTE,            /* text: a line for the log; task_id when it is about one */
    FL_DO_RESET,           /* text: why; nothing but a restart helps */
};

/*
 * Pointers are valid until the next fl_proplet_handle() and no longer than the event's own.
 * Carry the actions out in order.
 */
struct fl_action {
    enum fl_action_kind kind;
    uint32_t ticket;
    const char *task_id;
    const char *text;
    const struct fl_task_start *task;
    enum fl_image_source source;
    bool with_output;                 /* results are the module's output; else null */
    bool with_model;                  /* a model was fetched for it */
    const struct fl_command *command; /* of a task of no round; NULL: of one, whose _start runs */
};

struct fl_actions {
    size_t count;
    struct fl_action list[FL_PROPLET_ACTIONS_MAX];
};

/* Read-only for the caller. */
struct fl_proplet {
    struct fl_proplet_config config;
    bool online;
    enum fl_phase phase;
    uint32_t ticket;                   /* of the fetch, run or result under way */
    int64_t heartbeat_at_ms;           /* next heartbeat, when online */
    int64_t deadline_ms;               /* of the phase, or INT64_MAX */
    struct fl_task_start task;         /* under way, unless IDLE */
    char round_id[FL_ID_MAX + 1];      /* of its round; empty when it is part of none */
    bool update_lost;                  /* its update was never answered */
    struct fl_command command;         /* while it runs, when it is part of none */
    char left_round_id[FL_ID_MAX + 1]; /* of the task that this event ended */
    bool has_next;
    struct fl_task_start next;
    struct fl_update update;
    bool result_open;                     /* the broker has not acknowledged the result */
    bool result_with_output;              /* the result carries the module's output */
    bool failed;                          /* the result is `error` */
    char error[FL_PROPLET_ERROR_MAX + 1]; /* of the task under way; also why it is being stopped */
    char note[FL_PROPLET_ERROR_MAX + 1];  /* text of this event's note or refusal */
    char note_task_id[FL_TASK_ID_MAX + 1];
    uint32_t done_next;
    char done[FL_PROPLET_DONE_MAX][FL_TASK_ID_MAX + 1];
};

/* Starts a proplet: idle, not connected. `config` is copied. */
void fl_proplet_begin(struct fl_proplet *proplet, const struct fl_proplet_config *config);

/* Takes `event` in and replaces `actions` by what is to be done. Not from inside an action. */
void fl_proplet_handle(struct fl_proplet *proplet, const struct fl_event *event,
                       struct fl_actions *actions);

/* When the next FL_EVENT_TICK is wanted, at the latest; INT64_MAX when time changes nothing. */
int64_t fl_proplet_next_ms(const struct fl_proplet *proplet);

/*
 * Whether a task that brings its image along ("file") could be taken now. If not, the image's
 * place is in use and its bytes must not be written there.
 */
bool fl_proplet_takes_file(const struct fl_proplet *proplet);

#endif
