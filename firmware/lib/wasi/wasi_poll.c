#include "wasi_private.h"

#include <string.h>

/* WASI's layouts: where things lie in a subscription and in an event, and how large these are. */
enum {
    SUBSCRIPTION_SIZE = 48,
    SUBSCRIPTION_KIND = 8,
    SUBSCRIPTION_TIMEOUT = 24,
    SUBSCRIPTION_FLAGS = 40,
    EVENT_SIZE = 32,
    EVENT_KIND = 10,
};

#define KIND_CLOCK 0u
#define FLAG_POINT_IN_TIME 1u

/* How long a subscription is to be waited for. */
static uint64_t wait_of(const uint8_t *subscription)
{
    const uint8_t *timeout = subscription + SUBSCRIPTION_TIMEOUT;

    if (subscription[SUBSCRIPTION_KIND] != KIND_CLOCK) {
        return 0;
    }
    return wasi_load_u32(timeout) | (uint64_t)wasi_load_u32(timeout + 4) << 32;
}

static bool is_point_in_time(const uint8_t *subscription)
{
    return subscription[SUBSCRIPTION_KIND] == KIND_CLOCK &&
           (subscription[SUBSCRIPTION_FLAGS] & FLAG_POINT_IN_TIME) != 0;
}

uint32_t fl_wasi_poll_oneoff(struct fl_wasi *wasi, struct fl_wasi_memory memory,
                             uint32_t subscriptions, uint32_t events, uint32_t count,
                             uint32_t count_out)
{
    const uint8_t *asked;
    uint8_t *event;
    uint8_t *count_at = wasi_at(memory, count_out, 4);
    uint8_t due[FL_WASI_SUBSCRIPTIONS_MAX][SUBSCRIPTION_KIND + 1];
    uint64_t wait = UINT64_MAX;
    uint32_t due_count = 0;

    if (count == 0 || count > FL_WASI_SUBSCRIPTIONS_MAX) {
        return FL_WASI_INVAL;
    }
    asked = wasi_array_at(memory, subscriptions, count, SUBSCRIPTION_SIZE);
    event = wasi_array_at(memory, events, count, EVENT_SIZE);
    if (asked == NULL || event == NULL || count_at == NULL) {
        return FL_WASI_FAULT;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *subscription = asked + (size_t)i * SUBSCRIPTION_SIZE;

        if (is_point_in_time(subscription)) {
            return FL_WASI_INVAL;
        }
        wait = wait_of(subscription) < wait ? wait_of(subscription) : wait;
    }
    /* What is due goes aside first: events may lie where the subscriptions do. */
    for (uint32_t i = 0; i < count; i++) {
        if (wait_of(asked + (size_t)i * SUBSCRIPTION_SIZE) <= wait) {
            memcpy(due[due_count++], asked + (size_t)i * SUBSCRIPTION_SIZE, sizeof(due[0]));
        }
    }
    if (wasi->config.sleep != NULL && !wasi->config.sleep(wasi->config.sleep_user, wait)) {
        wasi->end = FL_WASI_STOPPED;
        return FL_WASI_SUCCESS;
    }
    for (uint32_t i = 0; i < due_count; i++, event += EVENT_SIZE) {
        memset(event, 0, EVENT_SIZE);
        memcpy(event, due[i], SUBSCRIPTION_KIND); /* the user's data */
        event[EVENT_KIND] = due[i][SUBSCRIPTION_KIND];
    }
    wasi_store_u32(count_at, due_count);
    return FL_WASI_SUCCESS;
}
