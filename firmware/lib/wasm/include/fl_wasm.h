/*
 * What must be known of a Wasm binary before an interpreter gets it.
 */
#ifndef FL_WASM_H
#define FL_WASM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Whether the `size` bytes at `image` have a start section: a function that is called as soon as
 * the module is instantiated, before any limit holds. False also for what is no module; that is the
 * interpreter's to say.
 */
bool fl_wasm_has_start_section(const uint8_t *image, size_t size);

#endif
