#ifndef WAMR_MEMORY_BOUND_H
#define WAMR_MEMORY_BOUND_H

#include <wasm_export.h>

/*
 * Holds an instance to the memory it has. To be called before any of its code runs.
 *
 * WAMR (2.4.5; its issue 5080) allocates the size of a linear memory and then checks accesses
 * against that size rounded up to 4 KiB. A memory that was shrunk to what its module uses is no
 * multiple of that: its module could read and write what lies behind, the interpreter's own tables.
 */
void wamr_bound_memory(wasm_module_inst_t instance);

#endif
