/* Dense layers, and the cross-entropy of the softmax over the last one's outputs. */
#ifndef FL_LAYER_H
#define FL_LAYER_H

#include "fl_memory.h"
#include "fl_param.h"

#include <stdbool.h>
#include <stdint.h>

/* A layer: its parameters, its outputs, and the loss's gradient with respect to those. */
struct fl_layer {
    struct fl_param *weights; /* [inputs, outputs] */
    struct fl_param *biases;  /* [outputs] */
    uint32_t inputs;
    uint32_t outputs;
    float *out;
    float *error;
};

/*
 * Takes weights and biases out of the model, into params[0] and params[1], and room for the outputs
 * out of the arena. Fails (fl_fail) as fl_param_read() does, and when the two do not fit together.
 */
void fl_layer_read(struct fl_layer *layer, struct fl_param *params, struct fl_document *model,
                   const char *weights, const char *biases, struct fl_arena *arena);

/* out = in . weights + biases. Zeros are passed over: about half of an image's pixels are. */
void fl_layer_forward(const struct fl_layer *layer, const float *in);

/* Adds the gradient of the layer's parameters, by `error`. */
void fl_layer_backward(const struct fl_layer *layer, const float *in);

/*
 * Takes `out` as scores: the loss in nats and, in `error`, its gradient, which is the probability
 * less 1 for the label. It was right when the most probable class, the first of equals, is `label`.
 */
float fl_layer_cross_entropy(const struct fl_layer *layer, uint32_t label, bool *right);

#endif
