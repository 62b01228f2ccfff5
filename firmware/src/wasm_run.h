/*
 * One run of one module: a WASI command in a sandbox of fixed size. Each run starts from nothing,
 * in the same memory as the one before, so that a thousand of them need no more than one.
 */
#ifndef WASM_RUN_H
#define WASM_RUN_H

#include "fl_env.h"
#include "fl_proplet.h"
#include "fl_sha256.h"
#include "fl_trust.h"
#include "fl_wasi.h"

#include <stddef.h>
#include <stdint.h>

/* The module is the one in the image store. */
struct wasm_job {
    const struct fl_env *env;
    /*
     * In a task of no round, the exported function to call, and its arguments; where there is no
     * such function, unless nothing else will do: _start, main or run, the first that there is.
     * NULL: _start, and nothing else.
     */
    const struct fl_command *command;
    const struct fl_signatures *signatures;       /* of the module */
    struct fl_wasi_file files[FL_WASI_FILES_MAX]; /* what the module sees in /fl */
    uint32_t file_count;
    uint8_t *output; /* where stdout goes */
    uint32_t output_capacity_bytes;
};

struct wasm_outcome {
    enum fl_run_end end;
    char detail[FL_PROPLET_ERROR_MAX + 1]; /* for people; empty with FL_RUN_OK */
    uint32_t output_size_bytes;            /* with FL_RUN_OK and FL_RUN_STOPPED, else 0 */
    uint8_t output_sha256[FL_SHA256_SIZE]; /* valid with FL_RUN_OK */
};

/* Runs the module to its end, whatever end that is. */
void wasm_run(const struct wasm_job *job, struct wasm_outcome *outcome);

/* Ends the run under way, from another thread; and the next, if none is, until wasm_run_allow(). */
void wasm_run_stop(void);
void wasm_run_allow(void);

/* The sandbox's memory, which nobody uses while nothing runs. */
char *wasm_run_scratch(size_t *size_bytes);

#endif
