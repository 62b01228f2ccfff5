#include "fl_backoff.h"
#include "fl_check.h"

FL_SUITE(backoff)

FL_TEST(backoff, it_doubles_up_to_its_limit)
{
    static const uint32_t ceilings[] = {1000, 2000, 4000, 8000, 10000, 10000};
    struct fl_backoff backoff;

    fl_backoff_begin(&backoff, 1000, 10000);
    for (size_t i = 0; i < sizeof(ceilings) / sizeof(ceilings[0]); i++) {
        struct fl_backoff copy = backoff;

        /* The lowest and the highest that chance can make of it. */
        FL_CHECK_INT(fl_backoff_next(&copy, 0), ceilings[i] / 2);
        FL_CHECK_INT(fl_backoff_next(&backoff, ceilings[i] / 2), ceilings[i]);
    }
    fl_backoff_reset(&backoff);
    FL_CHECK_INT(fl_backoff_next(&backoff, 500), 1000);
}

FL_TEST(backoff, every_random_number_stays_inside)
{
    struct fl_backoff backoff;
    uint32_t random = 1;

    for (int i = 0; i < 10000; i++) {
        uint32_t delay_ms;

        random = random * 1664525u + 1013904223u;
        fl_backoff_begin(&backoff, 300, 300);
        delay_ms = fl_backoff_next(&backoff, random);
        FL_CHECK(delay_ms >= 150 && delay_ms <= 300);
    }
}

FL_TEST(backoff, the_extremes_do_not_wrap)
{
    struct fl_backoff backoff;

    fl_backoff_begin(&backoff, 1, 1);
    FL_CHECK_INT(fl_backoff_next(&backoff, UINT32_MAX), 1);
    fl_backoff_begin(&backoff, UINT32_MAX, UINT32_MAX);
    FL_CHECK(fl_backoff_next(&backoff, UINT32_MAX) >= UINT32_MAX / 2);
    FL_CHECK(fl_backoff_next(&backoff, 0) >= UINT32_MAX / 2);
}
