#include "wasm_call.h"

#include "fl_float.h"
#include "fl_json.h"

#include <string.h>
#include <zephyr/sys/util_macro.h>

#if IS_ENABLED(CONFIG_FL_FLOATS)
#define NUMBER "number"
#else
#define NUMBER "whole number"
#endif

static enum fl_float_format format_of(wasm_valkind_t kind)
{
    return kind == WASM_F32 ? FL_FLOAT_F32 : FL_FLOAT_F64;
}

static bool is_float(wasm_valkind_t kind)
{
    return IS_ENABLED(CONFIG_FL_FLOATS) && (kind == WASM_F32 || kind == WASM_F64);
}

static bool read_float(const char *text, size_t size, wasm_val_t *value)
{
    uint64_t bits;
    uint32_t low;

    if (!fl_float_read(text, size, format_of(value->kind), &bits)) {
        return false;
    }
    if (value->kind == WASM_F32) {
        low = (uint32_t)bits;
        memcpy(&value->of.f32, &low, sizeof(low));
    } else {
        memcpy(&value->of.f64, &bits, sizeof(bits));
    }
    return true;
}

static void put_float(struct fl_text *text, const wasm_val_t *value)
{
    uint64_t bits;
    uint32_t low;

    if (value->kind == WASM_F32) {
        memcpy(&low, &value->of.f32, sizeof(low));
        bits = low;
    } else {
        memcpy(&bits, &value->of.f64, sizeof(bits));
    }
    fl_float_put(text, format_of(value->kind), bits);
}

/* One argument from `size` characters; false when it is none of that type. */
static bool read_value(const char *text, size_t size, wasm_val_t *value)
{
    bool negative = size > 0 && text[0] == '-';
    uint64_t sign = value->kind == WASM_I32 ? (uint64_t)1 << 31 : (uint64_t)1 << 63;
    uint64_t most = negative ? sign : 2 * (sign - 1) + 1;
    uint64_t number;

    if (is_float(value->kind)) {
        return read_float(text, size, value);
    }
    if (!fl_json_to_u64(text + (negative ? 1 : 0), size - (negative ? 1 : 0), most, &number)) {
        return false;
    }
    number = negative ? 0 - number : number;
    if (value->kind == WASM_I32) {
        value->of.i32 = (int32_t)(uint32_t)number;
    } else {
        value->of.i64 = (int64_t)number;
    }
    return true;
}

static bool are_numbers(const wasm_valkind_t *kinds, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (kinds[i] != WASM_I32 && kinds[i] != WASM_I64 && !is_float(kinds[i])) {
            return false;
        }
    }
    return true;
}

const char *wasm_call_prepare(struct wasm_call *call)
{
    wasm_valkind_t kinds[WASM_CALL_VALUES_MAX];
    const char *at = call->inputs;

    call->argument_count = wasm_func_get_param_count(call->function, call->instance);
    call->result_count = wasm_func_get_result_count(call->function, call->instance);
    if (call->argument_count > WASM_CALL_VALUES_MAX || call->result_count > WASM_CALL_VALUES_MAX) {
        return "the function takes or returns too many values";
    }
    wasm_func_get_result_types(call->function, call->instance, kinds);
    for (uint32_t i = 0; i < call->result_count; i++) {
        call->results[i].kind = kinds[i];
    }
    if (!are_numbers(kinds, call->result_count)) {
        return "the function returns what is no " NUMBER;
    }
    wasm_func_get_param_types(call->function, call->instance, kinds);
    if (!are_numbers(kinds, call->argument_count)) {
        return "the function takes what is no " NUMBER;
    }
    for (uint32_t i = 0; i < call->argument_count; i++) {
        size_t size = strcspn(at, " ");

        call->arguments[i].kind = kinds[i];
        if (size == 0) {
            return "there are fewer inputs than the function takes";
        }
        if (!read_value(at, size, &call->arguments[i])) {
            return "an input is no number of its type";
        }
        at += size + (at[size] == ' ' ? 1 : 0);
    }
    return at[0] == '\0' ? NULL : "there are more inputs than the function takes";
}

bool wasm_call_make(struct wasm_call *call)
{
    return wasm_runtime_call_wasm_a(call->env, call->function, call->result_count, call->results,
                                    call->argument_count, call->arguments);
}

static void put_number(struct fl_text *text, int64_t number)
{
    if (number < 0) {
        fl_text_put(text, "-");
    }
    fl_text_put_u64(text, number < 0 ? 0 - (uint64_t)number : (uint64_t)number);
}

void wasm_call_results(const struct wasm_call *call, struct fl_text *text)
{
    for (uint32_t i = 0; i < call->result_count; i++) {
        const wasm_val_t *value = &call->results[i];

        fl_text_put(text, i > 0 ? "," : "");
        if (is_float(value->kind)) {
            put_float(text, value);
        } else {
            put_number(text, value->kind == WASM_I32 ? value->of.i32 : value->of.i64);
        }
    }
}
