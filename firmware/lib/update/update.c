#include "fl_update.h"

#include "fl_text.h"

#include <string.h>

void fl_update_clear(struct fl_update *update)
{
    memset(update, 0, sizeof(*update));
}

void fl_update_begin(struct fl_update *update, const struct fl_update_limits *limits,
                     const char *round_id, uint32_t size_bytes,
                     const uint8_t sha256[FL_SHA256_SIZE], int64_t now_ms)
{
    fl_update_clear(update);
    /* An id always fits: both sides are FL_ID_MAX. */
    update->open = fl_text_copy(update->round_id, sizeof(update->round_id), round_id);
    memcpy(update->sha256, sha256, FL_SHA256_SIZE);
    update->size_bytes = size_bytes;
    update->max_sends = limits->max_sends;
    update->next_ms = now_ms;
    fl_backoff_begin(&update->backoff, limits->resend_min_ms, limits->resend_max_ms);
}

enum fl_update_state fl_update_state(const struct fl_update *update, int64_t now_ms)
{
    if (!update->open) {
        return FL_UPDATE_NONE;
    }
    if (now_ms < update->next_ms) {
        return FL_UPDATE_WAITING;
    }
    return update->sends < update->max_sends ? FL_UPDATE_DUE : FL_UPDATE_LOST;
}

void fl_update_sent(struct fl_update *update, int64_t now_ms, uint32_t random)
{
    update->sends++;
    update->next_ms = now_ms + fl_backoff_next(&update->backoff, random);
}

void fl_update_hurry(struct fl_update *update, int64_t now_ms)
{
    if (!update->open) {
        return;
    }
    update->next_ms = now_ms;
    fl_backoff_reset(&update->backoff);
    if (update->sends >= update->max_sends) {
        update->sends = update->max_sends - 1;
    }
}

int64_t fl_update_next_ms(const struct fl_update *update)
{
    return update->open ? update->next_ms : INT64_MAX;
}

enum fl_update_answer fl_update_answered(struct fl_update *update, const char *round_id,
                                         const uint8_t sha256[FL_SHA256_SIZE], bool accepted)
{
    if (!update->open || strcmp(update->round_id, round_id) != 0 ||
        !fl_sha256_equal(update->sha256, sha256)) {
        return FL_UPDATE_NOT_OURS;
    }
    fl_update_clear(update);
    return accepted ? FL_UPDATE_ACCEPTED : FL_UPDATE_REFUSED;
}
