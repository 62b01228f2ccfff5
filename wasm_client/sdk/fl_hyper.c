#include "fl_hyper.h"

#include "fl_json.h"
#include "fl_math.h"
#include "fl_memory.h"
#include "fl_report.h"

#include <stddef.h>

enum { NAME_SIZE = 32 };

/* Reads a value. Returns whether it is a number. */
static bool read_value(float *value)
{
    struct fl_decimal decimal;
    int byte = fl_json_peek();

    if (byte == '"') {
        char text[1];

        fl_json_string(text, sizeof text);
        return false;
    }
    if (byte >= 'a' && byte <= 'z') { /* true, false or null */
        do {
            fl_next();
            byte = fl_peek();
        } while (byte >= 'a' && byte <= 'z');
        return false;
    }
    fl_json_number(&decimal);
    *value = fl_decimal_to_f32(&decimal);
    return true;
}

static void read_member(struct fl_hyper *hypers, uint32_t count)
{
    char name[NAME_SIZE]; /* a longer one is cut off, and then no known one */
    float value = 0.0f;

    fl_json_string(name, sizeof name);
    fl_json_expect(':');
    bool number = read_value(&value);
    for (uint32_t i = 0; i < count; i++) {
        struct fl_hyper *hyper = &hypers[i];

        if (!fl_equal(hyper->name, name)) {
            continue;
        }
        if (!number || !(value >= hyper->least && value <= hyper->most) ||
            (hyper->integer && value != (float)fl_truncate(value))) {
            fl_fail("HYPERPARAMS: %s must be %s from %g to %g", name,
                    hyper->integer ? "an integer" : "a number", (double)hyper->least,
                    (double)hyper->most);
        }
        hyper->value = value;
        return;
    }
    fl_warn("HYPERPARAMS: %s is not known here", name);
}

void fl_hyper_read(const char *json, struct fl_hyper *hypers, uint32_t count)
{
    struct fl_source source;

    if (json == NULL) {
        return;
    }
    fl_source_text(&source, "HYPERPARAMS", json);
    fl_cursor_begin(&source, 0);
    fl_json_expect('{');
    for (bool first = true; fl_json_member(first); first = false) {
        read_member(hypers, count);
    }
}
