#include "fl_backoff.h"

void fl_backoff_begin(struct fl_backoff *backoff, uint32_t min_ms, uint32_t max_ms)
{
    backoff->min_ms = min_ms;
    backoff->max_ms = max_ms;
    fl_backoff_reset(backoff);
}

void fl_backoff_reset(struct fl_backoff *backoff)
{
    backoff->ceiling_ms = backoff->min_ms;
}

uint32_t fl_backoff_next(struct fl_backoff *backoff, uint32_t random)
{
    uint32_t ceiling_ms = backoff->ceiling_ms;
    uint32_t floor_ms = ceiling_ms - ceiling_ms / 2;

    backoff->ceiling_ms = ceiling_ms > backoff->max_ms / 2 ? backoff->max_ms : ceiling_ms * 2;
    return floor_ms + random % (ceiling_ms - floor_ms + 1);
}
