#include "fl_check.h"
#include "fl_update.h"

FL_SUITE(update)

static const struct fl_update_limits limits = {
    .resend_min_ms = 1000, .resend_max_ms = 3000, .max_sends = 3};
static const uint8_t digest[FL_SHA256_SIZE] = {1, 2, 3};
static const uint8_t other[FL_SHA256_SIZE] = {1, 2, 4};

FL_TEST(update, nothing_is_outstanding_at_first)
{
    struct fl_update update;

    fl_update_clear(&update);
    FL_CHECK_INT(fl_update_state(&update, 0), FL_UPDATE_NONE);
    FL_CHECK(fl_update_next_ms(&update) == INT64_MAX);
    FL_CHECK_INT(fl_update_answered(&update, "", digest, true), FL_UPDATE_NOT_OURS);
    fl_update_hurry(&update, 5);
    FL_CHECK_INT(fl_update_state(&update, 5), FL_UPDATE_NONE);
}

FL_TEST(update, it_is_sent_again_with_growing_gaps_and_then_lost)
{
    struct fl_update update;
    int64_t now_ms = 100;

    fl_update_begin(&update, &limits, "r-1", 5000, digest, now_ms);
    for (uint32_t gap_ms = 1000; gap_ms <= 3000; gap_ms += 1000) {
        FL_CHECK_INT(fl_update_state(&update, now_ms), FL_UPDATE_DUE);
        fl_update_sent(&update, now_ms, gap_ms / 2); /* the random number that gives the ceiling */
        FL_CHECK_INT(fl_update_next_ms(&update), now_ms + gap_ms);
        now_ms += gap_ms - 1;
        FL_CHECK_INT(fl_update_state(&update, now_ms), FL_UPDATE_WAITING);
        now_ms += 1;
    }
    FL_CHECK_INT(fl_update_state(&update, now_ms), FL_UPDATE_LOST);
}

FL_TEST(update, only_its_own_acknowledgement_ends_it)
{
    struct fl_update update;

    fl_update_begin(&update, &limits, "r-1", 5000, digest, 0);
    fl_update_sent(&update, 0, 0);
    FL_CHECK_INT(fl_update_answered(&update, "r-2", digest, true), FL_UPDATE_NOT_OURS);
    FL_CHECK_INT(fl_update_answered(&update, "r-1", other, true), FL_UPDATE_NOT_OURS);
    FL_CHECK_INT(fl_update_state(&update, 1), FL_UPDATE_WAITING);
    FL_CHECK_INT(fl_update_answered(&update, "r-1", digest, true), FL_UPDATE_ACCEPTED);
    FL_CHECK_INT(fl_update_state(&update, 1), FL_UPDATE_NONE);
    FL_CHECK_INT(fl_update_answered(&update, "r-1", digest, true), FL_UPDATE_NOT_OURS);
}

FL_TEST(update, a_refusal_ends_it_too)
{
    struct fl_update update;

    fl_update_begin(&update, &limits, "r-1", 5000, digest, 0);
    FL_CHECK_INT(fl_update_answered(&update, "r-1", digest, false), FL_UPDATE_REFUSED);
    FL_CHECK_INT(fl_update_state(&update, 1), FL_UPDATE_NONE);
}

FL_TEST(update, hurry_sends_at_once_even_after_the_last)
{
    struct fl_update update;

    fl_update_begin(&update, &limits, "r-1", 5000, digest, 0);
    for (int i = 0; i < 3; i++) {
        fl_update_sent(&update, 0, 0);
    }
    fl_update_hurry(&update, 10);
    FL_CHECK_INT(fl_update_state(&update, 10), FL_UPDATE_DUE);
    fl_update_sent(&update, 10, 500);
    FL_CHECK_INT(fl_update_next_ms(&update), 10 + 1000);
    FL_CHECK_INT(fl_update_state(&update, 1010), FL_UPDATE_LOST);
}
