/*
 * How a run is ended from another thread: wasm_run_stop() of wasm_run.h, seen from the run.
 */
#ifndef WASM_STOP_H
#define WASM_STOP_H

#include <stdbool.h>
#include <stdint.h>
#include <wasm_export.h>

/*
 * Makes the instance one that can be stopped; NULL: there is none any more. Returns whether the run
 * was stopped.
 */
bool wasm_stop_expose(wasm_module_inst_t instance);

/* Sleeps so long, or until the run is stopped: then it returns false. An fl_wasi_sleep. */
bool wasm_stop_sleep(void *user, uint64_t nanoseconds);

#endif
