/* A topic that is taken apart is put together again as it was. */
#include "fl_topic.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *prefix = size > 0 && (data[0] & 1u) != 0 ? "m/t" : NULL;
    const char *topic = (const char *)data + (size > 0 ? 1 : 0);
    size_t topic_size = size > 0 ? size - 1 : 0;
    char out[FL_TOPIC_MAX + 1];
    struct fl_topic parts;

    if (fl_topic_match(prefix, topic, topic_size, &parts) != FL_TOPIC_NONE) {
        if (fl_topic_build(out, sizeof(out), prefix, &parts) != topic_size ||
            memcmp(out, topic, topic_size) != 0) {
            abort();
        }
    }
    return 0;
}
