#include "fl_param.h"

#include "fl_report.h"

#include <stddef.h>

void fl_param_read(struct fl_param *param, struct fl_document *model, const char *name,
                   uint32_t rank, struct fl_arena *arena)
{
    const struct fl_tensor *tensor = fl_document_take(model, name, rank);

    *param = (struct fl_param){
        .name = name,
        .rank = rank,
        .value = fl_arena_floats(arena, tensor->count, name),
        .count = tensor->count,
        .model = model,
        .received = tensor,
    };
    memcpy(param->dims, tensor->dims, sizeof param->dims);
    fl_tensor_read(model, tensor, param->value);
}

void fl_param_expect(const struct fl_param *param, uint32_t axis, uint32_t size,
                     const char *because)
{
    if (param->dims[axis] != size) {
        fl_fail("model: \"%s\" has %u in dimension %u, %s %u", param->name, param->dims[axis], axis,
                because, size);
    }
}
