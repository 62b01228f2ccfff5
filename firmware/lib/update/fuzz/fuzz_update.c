/* However it goes, an update is sent at most so often, and only its own answer ends it. */
#include "fl_update.h"

#include <stdlib.h>
#include <string.h>

#define MAX_SENDS 3u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct fl_update_limits limits = {
        .resend_min_ms = 10, .resend_max_ms = 1000, .max_sends = MAX_SENDS};
    struct fl_update update;
    uint8_t digest[FL_SHA256_SIZE] = {1};
    int64_t now_ms = 0;

    fl_update_clear(&update);
    for (size_t at = 0; at + 1 < size; at += 2) {
        bool was_open = update.open;
        uint8_t argument = data[at + 1];

        switch (data[at] % 6u) {
        case 0:
            digest[0] = argument % 4u;
            fl_update_begin(&update, &limits, argument % 2u == 0 ? "r-1" : "r-2", 1, digest,
                            now_ms);
            break;
        case 1:
            if (fl_update_state(&update, now_ms) == FL_UPDATE_DUE) {
                fl_update_sent(&update, now_ms, (uint32_t)argument << 24);
            }
            break;
        case 2:
            now_ms += (int64_t)argument * argument;
            break;
        case 3:
            fl_update_hurry(&update, now_ms);
            break;
        default: {
            enum fl_update_answer answer;
            uint8_t answered[FL_SHA256_SIZE] = {argument % 4u};

            answer = fl_update_answered(&update, argument & 8u ? "r-1" : "r-2", answered,
                                        argument & 16u ? true : false);
            if ((answer != FL_UPDATE_NOT_OURS) != (was_open && !update.open)) {
                abort();
            }
            break;
        }
        }
        if (update.open ? update.sends > MAX_SENDS || fl_update_next_ms(&update) == INT64_MAX
                        : fl_update_state(&update, now_ms) != FL_UPDATE_NONE) {
            abort();
        }
        if (update.open && memchr(update.round_id, '\0', sizeof(update.round_id)) == NULL) {
            abort();
        }
    }
    return 0;
}
