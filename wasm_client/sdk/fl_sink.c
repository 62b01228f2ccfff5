#include "fl_sink.h"

#include "fl_number.h"
#include "fl_platform.h"
#include "fl_report.h"

static struct {
    uint32_t fd;
    uint32_t size;
    uint8_t bytes[256];
} sink;

void fl_sink_begin(uint32_t fd)
{
    sink.fd = fd;
    sink.size = 0;
}

void fl_sink_flush(void)
{
    uint32_t status = fl_platform_write(sink.fd, sink.bytes, sink.size);

    if (status != 0 && sink.fd == FL_STDOUT) {
        fl_fail("stdout: WASI error %u", status);
    }
    sink.size = 0;
}

void fl_put(uint32_t byte)
{
    if (sink.size == sizeof sink.bytes) {
        fl_sink_flush();
    }
    sink.bytes[sink.size++] = (uint8_t)byte;
}

void fl_put_all(const void *bytes, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++) {
        fl_put(((const uint8_t *)bytes)[i]);
    }
}

void fl_put_u32(uint32_t value)
{
    char text[FL_NUMBER_TEXT_MAX];

    fl_put_all(text, fl_format_u32(value, text));
}
