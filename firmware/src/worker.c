#include "worker.h"

#include <zephyr/kernel.h>
#include <zephyr/sys/atomic.h>

enum stage {
    STAGE_IDLE,
    STAGE_RUNNING,
    STAGE_OVER,
};

static struct {
    struct wasm_job job;
    struct wasm_outcome outcome;
    uint8_t output[CONFIG_FL_OUTPUT_BYTES_MAX];
} worker;

static atomic_t stage = ATOMIC_INIT(STAGE_IDLE);
static K_SEM_DEFINE(work, 0, 1);
static K_THREAD_STACK_DEFINE(stack, CONFIG_FL_WORKER_STACK_BYTES);
static struct k_thread thread;

static void run(void *a, void *b, void *c)
{
    ARG_UNUSED(a);
    ARG_UNUSED(b);
    ARG_UNUSED(c);
    for (;;) {
        (void)k_sem_take(&work, K_FOREVER); /* it cannot fail without a time limit */
        wasm_run(&worker.job, &worker.outcome);
        (void)atomic_set(&stage, STAGE_OVER);
    }
}

void worker_begin(void)
{
    k_tid_t id = k_thread_create(&thread, stack, K_THREAD_STACK_SIZEOF(stack), run, NULL, NULL,
                                 NULL, K_LOWEST_APPLICATION_THREAD_PRIO, 0, K_NO_WAIT);

    (void)k_thread_name_set(id, "fl_worker"); /* a name is only for debuggers */
}

void worker_start(const struct wasm_job *job)
{
    worker.job = *job;
    worker.job.output = worker.output;
    worker.job.output_capacity_bytes = sizeof(worker.output);
    wasm_run_allow();
    (void)atomic_set(&stage, STAGE_RUNNING);
    k_sem_give(&work);
}

void worker_stop(void)
{
    wasm_run_stop();
}

bool worker_busy(void)
{
    return atomic_get(&stage) != STAGE_IDLE;
}

bool worker_finished(struct wasm_outcome *outcome)
{
    if (!atomic_cas(&stage, STAGE_OVER, STAGE_IDLE)) {
        return false;
    }
    *outcome = worker.outcome;
    return true;
}

const uint8_t *worker_output(void)
{
    return worker.output;
}

char *worker_scratch(size_t *size_bytes)
{
    return wasm_run_scratch(size_bytes);
}
