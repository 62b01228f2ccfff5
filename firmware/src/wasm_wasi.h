/* The functions that modules may import, as WAMR calls them. */
#ifndef WASM_WASI_H
#define WASM_WASI_H

#include <stdbool.h>
#include <wasm_export.h>

#define WASM_WASI_MODULE "wasi_snapshot_preview1"
#define WASM_WASI_SLEEP "poll_oneoff" /* the one that is for tasks of no round alone */

/*
 * Registers them. A run's `struct fl_wasi` is the user data of its execution environment. Returns
 * false when WAMR has no memory for it.
 */
bool wasm_wasi_register(void);

#endif
