/* Any bytes are looked through, and none beyond them. */
#include "fl_wasm.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t start[] = {8, 1, 0};
    bool found = fl_wasm_has_start_section(data, size);
    uint8_t *more = malloc(size + sizeof(start));

    /* Bytes after the end never hide what was found before. */
    memcpy(more, data, size);
    memcpy(more + size, start, sizeof(start));
    if (found && !fl_wasm_has_start_section(more, size + sizeof(start))) {
        abort();
    }
    free(more);
    return 0;
}
