/*
 * The update that has not been acknowledged yet, and when to send it again.
 *
 * Only the bookkeeping is here; the bytes stay where the module wrote them, and must stay until
 * the update is over. Times are milliseconds of one monotonic clock of the caller's.
 *
 *   NONE --begin--> DUE --sent--> WAITING --time--> DUE ... --accepted | refused | dropped--> NONE
 *                                         \--max_sends unanswered--> LOST
 */
#ifndef FL_UPDATE_H
#define FL_UPDATE_H

#include "fl_backoff.h"
#include "fl_sha256.h"
#include "fl_topic.h"

#include <stdbool.h>
#include <stdint.h>

enum fl_update_state {
    FL_UPDATE_NONE,    /* nothing is outstanding */
    FL_UPDATE_DUE,     /* to be sent now */
    FL_UPDATE_WAITING, /* sent; its answer or the next attempt's time is awaited */
    FL_UPDATE_LOST,    /* sent max_sends times without an answer: the caller drops it */
};

enum fl_update_answer {
    FL_UPDATE_NOT_OURS, /* another round, or other bytes: it says nothing about this update */
    FL_UPDATE_ACCEPTED,
    FL_UPDATE_REFUSED,
};

struct fl_update_limits {
    uint32_t resend_min_ms;
    uint32_t resend_max_ms;
    uint32_t max_sends; /* at least 1 */
};

struct fl_update {
    bool open;
    char round_id[FL_ID_MAX + 1];
    uint8_t sha256[FL_SHA256_SIZE];
    uint32_t size_bytes;
    uint32_t sends;
    uint32_t max_sends;
    int64_t next_ms; /* when it is due again */
    struct fl_backoff backoff;
};

/* Makes `update` empty. */
void fl_update_clear(struct fl_update *update);

/* Takes charge of `size_bytes` bytes with digest `sha256` for `round_id`, an id. Due at once. */
void fl_update_begin(struct fl_update *update, const struct fl_update_limits *limits,
                     const char *round_id, uint32_t size_bytes,
                     const uint8_t sha256[FL_SHA256_SIZE], int64_t now_ms);

enum fl_update_state fl_update_state(const struct fl_update *update, int64_t now_ms);

/* It was handed to the broker at `now_ms`; plans the next attempt. */
void fl_update_sent(struct fl_update *update, int64_t now_ms, uint32_t random);

/*
 * Makes it due at once, with the shortest delay after it, because the connection is new or someone
 * asked for it. At least one send is granted, even if all were used up.
 */
void fl_update_hurry(struct fl_update *update, int64_t now_ms);

/* When fl_update_state() will change by time alone, or INT64_MAX. */
int64_t fl_update_next_ms(const struct fl_update *update);

/*
 * An acknowledgement came. An answer to this update ends it (the struct is then cleared); any other
 * changes nothing.
 */
enum fl_update_answer fl_update_answered(struct fl_update *update, const char *round_id,
                                         const uint8_t sha256[FL_SHA256_SIZE], bool accepted);

#endif
