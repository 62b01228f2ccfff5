/* Whatever is announced, limited and sent: what is accepted is whole and within its limits. */
#include "fl_stream.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t place[128];
    static struct fl_stream_memory memory = {place, sizeof(place)};
    const struct fl_stream_sink sink = {fl_stream_to_memory, &memory};
    struct fl_stream stream;
    uint32_t total;
    uint32_t limit;
    size_t at = 2;

    if (size < 2) {
        return 0;
    }
    total = data[0] == 255 ? FL_STREAM_TOTAL_UNKNOWN : data[0];
    limit = data[1];
    (void)fl_stream_begin(&stream, sink, total, limit, NULL);
    while (at < size) {
        size_t piece = data[at] % 33u;

        piece = piece < size - at ? piece : size - at;
        (void)fl_stream_write(&stream, data + at, piece);
        at += piece + 1;
    }
    if (fl_stream_end(&stream) == FL_STREAM_OK) {
        uint8_t digest[FL_SHA256_SIZE];

        fl_sha256_of(place, stream.offset_bytes, digest);
        if (stream.offset_bytes > limit ||
            (total != FL_STREAM_TOTAL_UNKNOWN && stream.offset_bytes != total) ||
            !fl_sha256_equal(digest, stream.digest)) {
            abort();
        }
    }
    return 0;
}
