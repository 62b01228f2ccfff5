#include "fl_update.h"

#include "fl_number.h"
#include "fl_platform.h"
#include "fl_report.h"
#include "fl_sink.h"

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
    TAG_U8 = 64,
    TAG_F16_LE = 84,
    TAG_F32_LE = 85,
};

static enum fl_update_format format;
static bool first; /* JSON: the next member needs no comma */

/* The `size` bytes of a number, the highest first. */
static void put_number(uint32_t value, uint32_t size)
{
    while (size > 0) {
        size--;
        fl_put(value >> 8 * size);
    }
}

/* A CBOR head, in its shortest form. */
static void put_head(uint32_t major, uint32_t value)
{
    uint32_t size = value < 24 ? 0 : (value < 0x100 ? 1 : (value < 0x10000 ? 2 : 4));

    fl_put(major << 5 | (size == 0 ? value : 24 + size / 2));
    put_number(value, size);
}

static void put_text(const char *text)
{
    if (format != FL_JSON) {
        uint32_t size = fl_length(text);

        put_head(CBOR_TEXT, size);
        fl_put_all(text, size);
        return;
    }
    fl_put('"');
    for (; *text != '\0'; text++) {
        uint8_t c = (uint8_t)*text;

        if (c < 0x20) {
            fl_put_all("\\u00", 4);
            fl_put('0' + (uint32_t)(c >> 4));
            c &= 15;
            c = (uint8_t)(c < 10 ? '0' + c : 'a' - 10 + c);
        } else if (c == '"' || c == '\\') {
            fl_put('\\');
        }
        fl_put(c);
    }
    fl_put('"');
}

static void begin_map(uint32_t members)
{
    if (format != FL_JSON) {
        put_head(CBOR_MAP, members);
    } else {
        fl_put('{');
    }
    first = true;
}

static void end_map(void)
{
    if (format == FL_JSON) {
        fl_put('}');
    }
}

static void put_name(const char *name)
{
    if (format == FL_JSON && !first) {
        fl_put(',');
    }
    first = false;
    put_text(name);
    if (format == FL_JSON) {
        fl_put(':');
    }
}

/* The key of a member of the update itself: compact formats have labels in the place of names. */
static void put_key(uint32_t label, const char *name)
{
    if (format == FL_FLOAT16 || format == FL_INT8_DELTA) {
        put_head(CBOR_UNSIGNED, label);
    } else {
        put_name(name);
    }
}

static void put_text_member(uint32_t label, const char *name, const char *text)
{
    put_key(label, name);
    put_text(text);
}

static void put_float(float value)
{
    union {
        float value;
        uint32_t bits;
    } view = {value};
    char text[FL_NUMBER_TEXT_MAX];

    if (format != FL_JSON) {
        fl_put(CBOR_FLOAT32);
        put_number(view.bits, sizeof view.bits);
    } else {
        fl_put_all(text, fl_format_f32(value, text));
    }
}

static void put_count(uint32_t value)
{
    if (format != FL_JSON) {
        put_head(CBOR_UNSIGNED, value);
    } else {
        fl_put_u32(value);
    }
}

static void put_dims(const struct fl_param *param)
{
    put_head(CBOR_ARRAY, param->rank);
    for (uint32_t d = 0; d < param->rank; d++) {
        put_head(CBOR_UNSIGNED, param->dims[d]);
    }
}

/* Whether each number has a float16 near it. */
static bool fits_half(const struct fl_param *param)
{
    for (uint32_t i = 0; i < param->count; i++) {
        if (!fl_fits_half(param->value[i])) {
            return false;
        }
    }
    return true;
}

/* A typed array, in a tag with its dimensions when there are two or more. */
static void put_array(const struct fl_param *param)
{
    bool half = format == FL_FLOAT16 && fits_half(param);
    uint32_t size = half ? 2 : 4;

    if (param->rank > 1) {
        put_head(CBOR_TAG, TAG_SHAPED);
        put_head(CBOR_ARRAY, 2);
        put_dims(param);
    }
    put_head(CBOR_TAG, half ? TAG_F16_LE : TAG_F32_LE);
    put_head(CBOR_BYTES, param->count * size);
    for (uint32_t i = 0; i < param->count; i++) {
        float value = param->value[i];
        uint32_t number = half ? fl_half_of(value) : fl_bits_of(value);

        fl_put_all(&number, size); /* little-endian, as fl_tensors.c asserts */
    }
}

/*
 * [scale, dimensions, typed array]: the difference to the model received, in whole numbers: divided
 * by the scale and rounded, ties to even, then 0, -1, 1, -2, ... -> 0, 1, 2, 3, ... Of these come
 * first the lowest four bits of all, then the rest of each as so many 0 bits and a 1, Rice's code.
 *
 * The scale makes the largest magnitude 127, or their mean 12 if that takes a larger one, which
 * bounds the size whatever there is to code. The gradients, which nobody needs any more, give the
 * room. Returns false, with nothing written, where a difference cannot be had.
 */
static bool put_delta(const struct fl_param *param)
{
    float *delta = param->gradient;
    uint8_t *codes = (uint8_t *)delta; /* never reach a difference that is still to be read */
    uint32_t count = param->count;
    float most = 0x1p-100f; /* what is less counts as nothing: the scale is never subnormal */
    float sum = 0.0f;
    uint32_t rest = count;
    uint32_t bits = 0;
    uint32_t filled = 0;

    if (delta == NULL || param->received == NULL) {
        return false;
    }
    fl_tensor_read(param->model, param->received, delta);
    for (uint32_t i = 0; i < count; i++) {
        delta[i] = param->value[i] - delta[i];
        float size = __builtin_fabsf(delta[i]);
        most = size > most ? size : most;
        sum += size; /* not finite if one of them is not */
    }
    most /= 127.0f;
    sum /= 12.0f * (float)count;
    float scale = most > sum ? most : sum;
    if (!fl_is_finite(scale)) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        /* Adding 1.5 * 2^23 leaves the nearest whole number in the lowest bits. */
        uint32_t q = fl_bits_of(delta[i] / scale + 0x1.8p23f) - fl_bits_of(0x1.8p23f);

        codes[i] = (uint8_t)(q << 1 ^ (0 - (q >> 31)));
        rest += codes[i] / 16u;
    }
    codes[count] = 0;
    put_head(CBOR_ARRAY, 3);
    put_float(scale);
    put_dims(param);
    put_head(CBOR_TAG, TAG_U8);
    put_head(CBOR_BYTES, (count + 1) / 2 + (rest + 7) / 8);
    for (uint32_t i = 0; i < count; i += 2) {
        fl_put((uint32_t)codes[i] % 16 | (uint32_t)codes[i + 1] << 4);
    }
    for (uint32_t i = 0; i < count; i++) {
        filled += codes[i] / 16u;
        bits |= 1u << filled;
        for (filled++; filled >= 8; filled -= 8) {
            fl_put(bits);
            bits >>= 8;
        }
    }
    if (filled > 0) {
        fl_put(bits);
    }
    return true;
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
        fl_put((uint8_t)bracket);
    }
}

static void put_tensor(const struct fl_param *param)
{
    if (format != FL_JSON && param->rank > 0) {
        if (format != FL_INT8_DELTA || !put_delta(param)) {
            put_array(param);
        }
        return;
    }
    for (uint32_t i = 0; i < param->count; i++) {
        if (i > 0) {
            fl_put(',');
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
    format = task->format;
    fl_sink_begin(FL_STDOUT);
    begin_map(task->proplet_id != NULL ? 6 : 5);
    put_text_member(0, "round_id", task->round_id);
    if (task->proplet_id != NULL) {
        put_text_member(1, "proplet_id", task->proplet_id);
    }
    put_text_member(2, "base_model_uri", task->model_uri);
    put_key(3, "num_samples");
    put_count(num_samples);
    put_key(4, "metrics");
    begin_map(metric_count);
    for (uint32_t i = 0; i < metric_count; i++) {
        put_name(metrics[i].name);
        put_float(metrics[i].value);
    }
    end_map();
    put_key(5, "update");
    begin_map(param_count);
    for (uint32_t i = 0; i < param_count; i++) {
        put_name(params[i].name);
        put_tensor(&params[i]);
    }
    end_map();
    end_map();
    fl_sink_flush();
}
