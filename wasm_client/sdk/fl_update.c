#include "fl_update.h"

#include "fl_number.h"
#include "fl_platform.h"
#include "fl_report.h"

#include <stddef.h>

enum {
    CBOR_UNSIGNED = 0,
    CBOR_BYTES = 2,
    CBOR_TEXT = 3,
    CBOR_ARRAY = 4,
    CBOR_MAP = 5,
    CBOR_TAG = 6,
    CBOR_FLOAT32 = 0xfa,
    TAG_SHAPED = 40,
    TAG_F32_LE = 85,
};

static uint8_t buffer[256];
static uint32_t buffered;
static bool binary;
static bool first; /* JSON: the next member needs no comma */

static void flush(void)
{
    uint32_t status = fl_platform_write(FL_STDOUT, buffer, buffered);

    if (status != 0) {
        fl_fail("stdout: WASI error %u", status);
    }
    buffered = 0;
}

static void put(uint32_t byte)
{
    if (buffered == sizeof buffer) {
        flush();
    }
    buffer[buffered++] = (uint8_t)byte;
}

static void put_all(const void *bytes, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++) {
        put(((const uint8_t *)bytes)[i]);
    }
}

/* The `size` bytes of a number, the highest first. */
static void put_number(uint32_t value, uint32_t size)
{
    while (size > 0) {
        size--;
        put(value >> 8 * size & 0xff);
    }
}

/* A CBOR head, in its shortest form. */
static void put_head(uint32_t major, uint32_t value)
{
    uint32_t size = value < 24 ? 0 : (value < 0x100 ? 1 : (value < 0x10000 ? 2 : 4));

    put(major << 5 | (size == 0 ? value : 24 + size / 2));
    put_number(value, size);
}

static void put_text(const char *text)
{
    static const char hex[] = "0123456789abcdef";

    if (binary) {
        uint32_t size = fl_length(text);

        put_head(CBOR_TEXT, size);
        put_all(text, size);
        return;
    }
    put('"');
    for (; *text != '\0'; text++) {
        uint8_t c = (uint8_t)*text;

        if (c < 0x20) {
            put_all("\\u00", 4);
            put((uint8_t)hex[c >> 4]);
            c = (uint8_t)hex[c & 15];
        } else if (c == '"' || c == '\\') {
            put('\\');
        }
        put(c);
    }
    put('"');
}

static void begin_map(uint32_t members)
{
    if (binary) {
        put_head(CBOR_MAP, members);
    } else {
        put('{');
    }
    first = true;
}

static void end_map(void)
{
    if (!binary) {
        put('}');
    }
}

static void put_name(const char *name)
{
    if (!binary && !first) {
        put(',');
    }
    first = false;
    put_text(name);
    if (!binary) {
        put(':');
    }
}

static void put_member(const char *name, const char *text)
{
    put_name(name);
    put_text(text);
}

static void put_float(float value)
{
    union {
        float value;
        uint32_t bits;
    } view = {value};
    char text[FL_NUMBER_TEXT_MAX];

    if (binary) {
        put(CBOR_FLOAT32);
        put_number(view.bits, sizeof view.bits);
    } else {
        put_all(text, fl_format_f32(value, text));
    }
}

static void put_count(uint32_t value)
{
    char text[FL_NUMBER_TEXT_MAX];

    if (binary) {
        put_head(CBOR_UNSIGNED, value);
    } else {
        put_all(text, fl_format_u32(value, text));
    }
}

/* A typed array, in a tag with its dimensions when there are two or more. */
static void put_array(const struct fl_param *param)
{
    uint32_t size = param->count * (uint32_t)sizeof(float);

    if (param->rank > 1) {
        put_head(CBOR_TAG, TAG_SHAPED);
        put_head(CBOR_ARRAY, 2);
        put_head(CBOR_ARRAY, param->rank);
        for (uint32_t d = 0; d < param->rank; d++) {
            put_head(CBOR_UNSIGNED, param->dims[d]);
        }
    }
    put_head(CBOR_TAG, TAG_F32_LE);
    put_head(CBOR_BYTES, size);
    put_all(param->value, size); /* little-endian, as fl_tensors.c asserts */
}

/* A bracket for each dimension in which number `i` stands at the start of a row. */
static void put_brackets(const struct fl_param *param, uint32_t i, char bracket)
{
    uint32_t row = 1;

    for (uint32_t d = param->rank; d > 0; d--) {
        row *= param->dims[d - 1];
        if (i % row != 0) {
            return;
        }
        put((uint8_t)bracket);
    }
}

static void put_tensor(const struct fl_param *param)
{
    if (binary && param->rank > 0) {
        put_array(param);
        return;
    }
    for (uint32_t i = 0; i < param->count; i++) {
        if (i > 0) {
            put(',');
        }
        put_brackets(param, i, '[');
        put_float(param->value[i]);
        put_brackets(param, i + 1, ']');
    }
}

void fl_update_write(const struct fl_task *task, uint32_t num_samples,
                     const struct fl_metric *metrics, uint32_t metric_count,
                     const struct fl_param *params, uint32_t param_count)
{
    binary = task->binary;
    begin_map(task->proplet_id != NULL ? 6 : 5);
    put_member("round_id", task->round_id);
    if (task->proplet_id != NULL) {
        put_member("proplet_id", task->proplet_id);
    }
    put_member("base_model_uri", task->model_uri);
    put_name("num_samples");
    put_count(num_samples);
    put_name("metrics");
    begin_map(metric_count);
    for (uint32_t i = 0; i < metric_count; i++) {
        put_name(metrics[i].name);
        put_float(metrics[i].value);
    }
    end_map();
    put_name("update");
    begin_map(param_count);
    for (uint32_t i = 0; i < param_count; i++) {
        put_name(params[i].name);
        put_tensor(&params[i]);
    }
    end_map();
    end_map();
    flush();
}
