#include "fl_dataset.h"

#include "fl_math.h"
#include "fl_report.h"

#include <stddef.h>

/* Finds the numbers of a tensor: where they lie, or in the arena if that is text. */
static void find_numbers(struct fl_dataset *dataset, struct fl_numbers *numbers,
                         const struct fl_tensor *tensor, struct fl_arena *arena)
{
    static const char what[] = "data in JSON";

    numbers->source = dataset->document.source;
    numbers->offset = tensor->offset;
    numbers->bytes = tensor->small;
    numbers->scale = 1.0f;
    if (tensor->storage == FL_TEXT) {
        numbers->offset = 0;
        if (tensor->small) {
            uint8_t *values = fl_arena_bytes(arena, tensor->count, what);

            fl_tensor_read_bytes(&dataset->document, tensor, values);
            numbers->source.memory = values;
        } else {
            float *values = fl_arena_floats(arena, tensor->count, what);

            fl_tensor_read(&dataset->document, tensor, values);
            numbers->source.memory = (const uint8_t *)values;
        }
        numbers->source.memory_size = UINT32_MAX; /* reads stay inside: they go by the dimensions */
    }
}

void fl_dataset_open(struct fl_dataset *dataset, struct fl_arena *arena)
{
    struct fl_document *document = &dataset->document;

    fl_document_open(document, "data", "/fl/data", "DATASET_DATA");
    const struct fl_tensor *x = fl_document_take(document, "x", 2);
    const struct fl_tensor *y = fl_document_take(document, "y", 1);
    dataset->samples = x->dims[0];
    dataset->features = x->dims[1];
    if (y->dims[0] != dataset->samples) {
        fl_fail("data: %u samples in \"x\" but %u labels in \"y\"", dataset->samples, y->dims[0]);
    }
    find_numbers(dataset, &dataset->x, x, arena);
    find_numbers(dataset, &dataset->y, y, arena);
    if (fl_document_find(document, "x_scale") != NULL) {
        fl_tensor_read(document, fl_document_take(document, "x_scale", 0), &dataset->x.scale);
    }
    fl_document_done(document);
}

float fl_dataset_sample(const struct fl_dataset *dataset, uint32_t index, float *x)
{
    float label;

    fl_numbers_read(&dataset->x, index * dataset->features, x, dataset->features);
    fl_numbers_read(&dataset->y, index, &label, 1);
    return label;
}

uint32_t fl_class_of(float label, uint32_t classes)
{
    uint32_t class = (uint32_t)fl_truncate(label);

    if (class >= classes || (float)class != label) {
        fl_fail("data: a label is %g, not an integer from 0 to %u", (double)label, classes - 1);
    }
    return class;
}
