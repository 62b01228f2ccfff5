#include "fl_json.h"
#include "fl_tensors_private.h"

#include <stddef.h>

static bool is_small(const struct fl_decimal *decimal)
{
    return !decimal->negative && decimal->exponent == 0 && decimal->digits <= 255;
}

/* One number inside `depth` brackets. */
static void list_number(struct fl_document *document, struct fl_tensor *tensor, uint32_t depth)
{
    struct fl_decimal decimal;

    fl_json_number(&decimal);
    if (tensor->count == 0) {
        tensor->rank = depth;
    } else if (tensor->rank != depth) {
        fl_tensor_fail(document, tensor, "is not rectangular");
    }
    tensor->count++;
    tensor->small &= is_small(&decimal);
}

/* An array, from its first bracket on. The first row of each depth tells how long the rest are. */
static void list_array(struct fl_document *document, struct fl_tensor *tensor)
{
    uint32_t sizes[FL_RANK_MAX];
    uint32_t depth = 0;

    do {
        if (fl_json_peek() == '[') {
            if (depth == FL_RANK_MAX) {
                fl_tensor_fail(document, tensor, "has too many dimensions");
            }
            sizes[depth++] = 0;
            fl_next();
            continue;
        }
        list_number(document, tensor, depth);
        sizes[depth - 1]++;
        while (depth > 0 && fl_json_peek() == ']') {
            depth--;
            if (tensor->dims[depth] == 0) {
                tensor->dims[depth] = sizes[depth];
            } else if (tensor->dims[depth] != sizes[depth]) {
                fl_tensor_fail(document, tensor, "is not rectangular");
            }
            if (depth > 0) {
                sizes[depth - 1]++;
            }
            fl_next();
        }
        if (depth > 0) {
            fl_json_expect(',');
        }
    } while (depth > 0);
}

static void list_member(struct fl_document *document)
{
    char name[FL_NAME_MAX + 1];
    uint32_t size = fl_json_string(name, sizeof name);
    struct fl_tensor *tensor = fl_document_add(document, name, size);
    struct fl_decimal decimal;

    fl_json_expect(':');
    int first = fl_json_peek();
    if (tensor == NULL) {
        fl_json_number(&decimal);
        return;
    }
    tensor->storage = FL_TEXT;
    tensor->small = true;
    tensor->offset = fl_cursor_offset();
    if (first == '[') {
        list_array(document, tensor);
    } else {
        list_number(document, tensor, 0);
    }
}

void fl_json_document(struct fl_document *document)
{
    fl_json_expect('{');
    for (bool first = true; fl_json_member(first); first = false) {
        list_member(document);
    }
}

float fl_json_next_number(void)
{
    struct fl_decimal decimal;
    int byte;

    while ((byte = fl_json_peek()) == '[' || byte == ']' || byte == ',') {
        fl_next();
    }
    fl_json_number(&decimal);
    float value = fl_decimal_to_f32(&decimal);
    if (!fl_is_finite(value)) {
        fl_expected("a smaller number before this");
    }
    return value;
}
