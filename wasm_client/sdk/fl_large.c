#include "fl_large.h"

#include "fl_json.h"
#include "fl_memory.h"
#include "fl_number.h"
#include "fl_platform.h"
#include "fl_report.h"
#include "fl_sink.h"

#include <stddef.h>

#define HEADER_MAX (4u * 1024 * 1024)
#define TEXT_MAX 16

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

/* Whether an object or array goes on; goes past its end or the comma. */
static bool more(bool first, char end)
{
    if (fl_json_peek() == end) {
        fl_next();
        return false;
    }
    if (!first) {
        fl_json_expect(',');
    }
    return true;
}

static uint32_t whole_number(void)
{
    int byte = fl_json_peek();
    uint64_t value = 0;

    if (byte < '0' || byte > '9') {
        fl_expected("a whole number");
    }
    for (; byte >= '0' && byte <= '9'; byte = fl_peek()) {
        value = value * 10 + (uint64_t)(byte - '0');
        if (value > UINT32_MAX) {
            fl_fail("model: a number of its header is too large");
        }
        fl_next();
    }
    return (uint32_t)value;
}

/* An array of up to `capacity` numbers; returns how many. */
static uint32_t whole_numbers(uint32_t *values, uint32_t capacity)
{
    uint32_t count = 0;

    fl_json_expect('[');
    while (more(count == 0, ']')) {
        if (count == capacity) {
            fl_fail("model: a tensor has more than %u dimensions", capacity);
        }
        values[count++] = whole_number();
    }
    return count;
}

static void pass_metadata(void)
{
    char text[1];

    fl_json_expect('{');
    for (bool first = true; more(first, '}'); first = false) {
        fl_json_string(text, sizeof text);
        fl_json_expect(':');
        fl_json_string(text, sizeof text);
    }
}

static void read_tensor(struct fl_large *model, struct fl_large_tensor *tensor, uint32_t data)
{
    char text[TEXT_MAX];
    uint32_t place[2] = {0, 0};
    bool single = false; /* float32 */
    uint64_t count = 1;

    fl_json_expect('{');
    for (bool first = true; more(first, '}'); first = false) {
        fl_json_string(text, sizeof text);
        fl_json_expect(':');
        if (fl_equal(text, "dtype")) {
            fl_json_string(text, sizeof text);
            single = fl_equal(text, "F32");
        } else if (fl_equal(text, "shape")) {
            tensor->rank = whole_numbers(tensor->dims, FL_RANK_MAX);
        } else if (fl_equal(text, "data_offsets")) {
            whole_numbers(place, 2);
        } else {
            fl_fail("model: tensor %s has a member %s", tensor->name, text);
        }
    }
    for (uint32_t d = 0; d < tensor->rank; d++) {
        count *= tensor->dims[d];
        if (count > UINT32_MAX / 4) {
            fl_fail("model: tensor %s is too large", tensor->name);
        }
    }
    if (!single || place[1] < place[0] || place[1] - place[0] != count * 4 ||
        place[0] > UINT32_MAX - data) {
        fl_fail("model: tensor %s is not float32, or not where it should be", tensor->name);
    }
    tensor->count = (uint32_t)count;
    tensor->numbers.source = model->source;
    tensor->numbers.offset = data + place[0];
    tensor->numbers.bytes = false;
    tensor->numbers.scale = 1.0f;
}

void fl_large_open(struct fl_large *model)
{
    uint32_t size[2];

    fl_source_open(&model->source, "model", "/fl/model", "MODEL_DATA");
    fl_source_read(&model->source, 0, size, sizeof size);
    if (size[0] < 2 || size[0] > HEADER_MAX || size[1] != 0) {
        fl_fail("model: no safetensors file: its header would have %u bytes", size[0]);
    }
    fl_cursor_begin(&model->source, sizeof size);
    fl_json_expect('{');
    model->count = 0;
    for (bool first = true; more(first, '}'); first = false) {
        if (model->count == FL_TENSORS_MAX) {
            fl_fail("model: it has more than %u tensors", FL_TENSORS_MAX);
        }
        struct fl_large_tensor *tensor = &model->tensors[model->count];

        if (fl_json_string(tensor->name, FL_LARGE_NAME_MAX) >= FL_LARGE_NAME_MAX) {
            fl_fail("model: the name %s is too long", tensor->name);
        }
        fl_json_expect(':');
        if (fl_equal(tensor->name, "__metadata__")) {
            pass_metadata();
        } else {
            read_tensor(model, tensor, size[0] + (uint32_t)sizeof size);
            model->count++;
        }
    }
}

const struct fl_large_tensor *fl_large_find(const struct fl_large *model, const char *name,
                                            uint32_t rank)
{
    for (uint32_t i = 0; i < model->count; i++) {
        const struct fl_large_tensor *tensor = &model->tensors[i];

        if (fl_equal(tensor->name, name)) {
            if (tensor->rank != rank) {
                fl_fail("model: tensor %s has %u dimensions, not %u", name, tensor->rank, rank);
            }
            return tensor;
        }
    }
    fl_fail("model: tensor %s is missing", name);
}

static void put_head(uint32_t major, uint32_t value)
{
    uint32_t size = value < 24 ? 0 : (value < 0x100 ? 1 : (value < 0x10000 ? 2 : 4));

    fl_put(major << 5 | (size == 0 ? value : 24 + size / 2));
    while (size > 0) {
        size--;
        fl_put(value >> 8 * size);
    }
}

static void put_text(const char *text)
{
    uint32_t size = fl_length(text);

    put_head(CBOR_TEXT, size);
    fl_put_all(text, size);
}

void fl_large_begin(const struct fl_task *task, uint32_t tensor_count)
{
    fl_sink_begin(FL_STDOUT);
    put_head(CBOR_MAP, task->proplet_id != NULL ? 6 : 5);
    put_text("round_id");
    put_text(task->round_id);
    if (task->proplet_id != NULL) {
        put_text("proplet_id");
        put_text(task->proplet_id);
    }
    put_text("base_model_uri");
    put_text(task->model_uri);
    put_text("update");
    put_head(CBOR_MAP, tensor_count);
}

void fl_large_tensor(const struct fl_large_tensor *like)
{
    put_text(like->name);
    if (like->rank != 1) {
        put_head(CBOR_TAG, TAG_SHAPED);
        put_head(CBOR_ARRAY, 2);
        put_head(CBOR_ARRAY, like->rank);
        for (uint32_t d = 0; d < like->rank; d++) {
            put_head(CBOR_UNSIGNED, like->dims[d]);
        }
    }
    put_head(CBOR_TAG, TAG_F32_LE);
    put_head(CBOR_BYTES, like->count * 4);
}

void fl_large_values(const float *values, uint32_t count)
{
    fl_sink_flush(); /* past its small buffer: there may be hundreds of MiB */
    uint32_t status = fl_platform_write(FL_STDOUT, values, count * 4); /* little-endian */

    if (status != 0) {
        fl_fail("the update cannot be written: WASI error %u", status);
    }
}

void fl_large_end(uint32_t num_samples, const struct fl_metric *metrics, uint32_t metric_count)
{
    put_text("num_samples");
    put_head(CBOR_UNSIGNED, num_samples);
    put_text("metrics");
    put_head(CBOR_MAP, metric_count);
    for (uint32_t i = 0; i < metric_count; i++) {
        uint32_t bits = fl_bits_of(metrics[i].value);

        put_text(metrics[i].name);
        fl_put(CBOR_FLOAT32);
        for (uint32_t shift = 32; shift > 0; shift -= 8) {
            fl_put(bits >> (shift - 8));
        }
    }
    fl_sink_flush();
}
