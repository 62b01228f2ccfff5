/*
 * Models in parts: a safetensors file at /fl/model, of which a client reads and writes some numbers
 * at a time. It may be much larger than memory; the first 4 GiB can be reached.
 *
 * The update is CBOR whatever the task asks for, its tensors in the order in which they are written.
 */
#ifndef FL_LARGE_H
#define FL_LARGE_H

#include "fl_env.h"
#include "fl_tensors.h"
#include "fl_update.h"

#include <stdbool.h>
#include <stdint.h>

#define FL_LARGE_NAME_MAX 129 /* a name and its NUL */

struct fl_large_tensor {
    char name[FL_LARGE_NAME_MAX];
    uint32_t rank;
    uint32_t dims[FL_RANK_MAX];
    uint32_t count;            /* of its numbers */
    struct fl_numbers numbers; /* for fl_numbers_read() */
};

struct fl_large {
    struct fl_source source;
    uint32_t count;
    struct fl_large_tensor tensors[FL_TENSORS_MAX];
};

/* Reads the header. Fails (fl_fail) when /fl/model is not there, or no such file of float32. */
void fl_large_open(struct fl_large *model);

/* The tensor of that name and rank. Fails when it is missing or has another rank. */
const struct fl_large_tensor *fl_large_find(const struct fl_large *model, const char *name,
                                            uint32_t rank);

/*
 * The update, in this order: begin; each of `tensor_count` tensors (0 in an evaluation), and all its
 * numbers in as many pieces as one likes; end. Fails when stdout cannot be written.
 */
void fl_large_begin(const struct fl_task *task, uint32_t tensor_count);
void fl_large_tensor(const struct fl_large_tensor *like);
void fl_large_values(const float *values, uint32_t count);
void fl_large_end(uint32_t num_samples, const struct fl_metric *metrics, uint32_t metric_count);

#endif
