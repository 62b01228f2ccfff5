/* What is known from the first bytes does not change with more of them. */
#include "fl_manifest.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool whole = fl_manifest_is(data, size);

    if (fl_manifest_is(data, size / 2) && !whole) {
        abort();
    }
    return 0;
}
