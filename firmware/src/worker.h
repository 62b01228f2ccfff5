/*
 * The thread that runs modules, below all others in priority. One run at a time. All functions are
 * for the supervisor's thread.
 */
#ifndef WORKER_H
#define WORKER_H

#include "wasm_run.h"

#include <stdbool.h>

/* Starts the thread. */
void worker_begin(void);

/*
 * Starts a run; only when none is under way. `job` is copied; what it points to stays as it is
 * until worker_finished() has returned true.
 */
void worker_start(const struct wasm_job *job);

/* Tells the run under way to stop. To be repeated until it has: it may not have begun yet. */
void worker_stop(void);

/* Whether a run is under way. */
bool worker_busy(void);

/* Returns true once when a run is over, with how it ended. */
bool worker_finished(struct wasm_outcome *outcome);

/* What the last run wrote to stdout. Stays until the next worker_start(). */
const uint8_t *worker_output(void);

/* Memory that is free while no run is under way. */
char *worker_scratch(size_t *size_bytes);

#endif
