#include "wamr_memory_bound.h"

#include "wasm_memory.h"
#include "wasm_runtime.h"

void wamr_bound_memory(wasm_module_inst_t instance)
{
    WASMModuleInstance *module = (WASMModuleInstance *)instance;

    for (uint32 i = 0; i < module->memory_count; i++) {
        WASMMemoryInstance *memory = module->memories[i];
        uint64 size_bytes = (uint64)memory->num_bytes_per_page * memory->cur_page_count;

        if (size_bytes < memory->memory_data_size) {
            memory->memory_data_size = size_bytes;
            memory->memory_data_end = memory->memory_data + size_bytes;
        }
    }
}
