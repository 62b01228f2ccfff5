/*
 * Calls a function of a module with arguments and results as text, as Propeller's tasks have them.
 * Whole numbers, i32 and i64, are signed or unsigned as the caller likes; floats, f32 and f64, are
 * exact both ways, where CONFIG_FL_FLOATS is set.
 */
#ifndef WASM_CALL_H
#define WASM_CALL_H

#include "fl_text.h"

#include <stdbool.h>
#include <wasm_export.h>

#define WASM_CALL_VALUES_MAX 16 /* arguments, and results */

struct wasm_call {
    wasm_module_inst_t instance;
    wasm_exec_env_t env;
    wasm_function_inst_t function;
    const char *inputs; /* a blank between two */
    uint32_t argument_count;
    uint32_t result_count;
    wasm_val_t arguments[WASM_CALL_VALUES_MAX];
    wasm_val_t results[WASM_CALL_VALUES_MAX];
};

/* Reads the inputs. Returns NULL, or why they are not what the function takes. */
const char *wasm_call_prepare(struct wasm_call *call);

/* Calls it. Returns false when it trapped or was stopped; the instance has the exception then. */
bool wasm_call_make(struct wasm_call *call);

/* Appends the results, a comma between two; the text says whether they fit. */
void wasm_call_results(const struct wasm_call *call, struct fl_text *text);

#endif
