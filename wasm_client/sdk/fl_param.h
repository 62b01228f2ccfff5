/* The tensors a client trains. */
#ifndef FL_PARAM_H
#define FL_PARAM_H

#include "fl_memory.h"
#include "fl_tensors.h"

#include <stdbool.h>
#include <stdint.h>

/* The arrays are as long as `count`, row by row, and live in the arena. */
struct fl_param {
    const char *name;
    uint32_t rank;
    uint32_t dims[FL_RANK_MAX];
    uint32_t count;
    bool decays;                     /* l2 pulls it to zero: weights, not biases */
    float *value;                    /* as received, then trained */
    float *gradient;                 /* summed over a batch; NULL when evaluating */
    float *start;                    /* as received; NULL unless mu is in use */
    const struct fl_document *model; /* where fl_param_read() found it, to be read again */
    const struct fl_tensor *received;
};

/*
 * Takes a tensor of that name and rank out of a model: shape, and values into the arena. Fails
 * (fl_fail) when it is missing, has another rank, is not finite or does not fit.
 */
void fl_param_read(struct fl_param *param, struct fl_document *model, const char *name,
                   uint32_t rank, struct fl_arena *arena);

/* Fails when dimension `axis` is not `size`, which is what `because` has. */
void fl_param_expect(const struct fl_param *param, uint32_t axis, uint32_t size,
                     const char *because);

#endif
