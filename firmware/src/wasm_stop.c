#include "wasm_stop.h"

#include "wasm_run.h"

#include <zephyr/kernel.h>

/* Guards `running` and `stopped`, which two threads look at. */
static K_MUTEX_DEFINE(stop_lock);
static wasm_module_inst_t running; /* NULL: nothing is there to be stopped */
static bool stopped;
static K_SEM_DEFINE(stop_signal, 0, 1); /* wakes a module that sleeps */

void wasm_run_allow(void)
{
    (void)k_mutex_lock(&stop_lock, K_FOREVER);
    stopped = false;
    k_sem_reset(&stop_signal);
    (void)k_mutex_unlock(&stop_lock);
}

void wasm_run_stop(void)
{
    (void)k_mutex_lock(&stop_lock, K_FOREVER);
    stopped = true;
    k_sem_give(&stop_signal);
    if (running != NULL) {
        wasm_runtime_terminate(running);
    }
    (void)k_mutex_unlock(&stop_lock);
}

bool wasm_stop_expose(wasm_module_inst_t instance)
{
    bool was_stopped;

    (void)k_mutex_lock(&stop_lock, K_FOREVER);
    running = instance;
    was_stopped = stopped;
    (void)k_mutex_unlock(&stop_lock);
    return was_stopped;
}

/* An hour at a time, so that any number of them is less than a timeout can be. */
bool wasm_stop_sleep(void *user, uint64_t nanoseconds)
{
    const uint64_t hour_ms = 3600000;
    uint64_t left_ms = nanoseconds / NSEC_PER_MSEC + (nanoseconds % NSEC_PER_MSEC != 0 ? 1 : 0);

    ARG_UNUSED(user);
    do {
        uint64_t now_ms = MIN(left_ms, hour_ms);

        if (k_sem_take(&stop_signal, K_MSEC((int64_t)now_ms)) == 0) {
            return false;
        }
        left_ms -= now_ms;
    } while (left_ms > 0);
    return true;
}
