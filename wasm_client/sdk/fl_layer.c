#include "fl_layer.h"

#include "fl_kernel.h"
#include "fl_math.h"

void fl_layer_read(struct fl_layer *layer, struct fl_param *params, struct fl_document *model,
                   const char *weights, const char *biases, struct fl_arena *arena)
{
    layer->weights = &params[0];
    layer->biases = &params[1];
    fl_param_read(layer->weights, model, weights, 2, arena);
    fl_param_read(layer->biases, model, biases, 1, arena);
    layer->weights->decays = true;
    layer->inputs = layer->weights->dims[0];
    layer->outputs = layer->weights->dims[1];
    fl_param_expect(layer->biases, 0, layer->outputs, "the weights before it have");
    layer->out = fl_arena_floats(arena, layer->outputs, "a layer");
    layer->error = fl_arena_floats(arena, layer->outputs, "a layer");
}

void fl_layer_forward(const struct fl_layer *layer, const float *in)
{
    const float *row = layer->weights->value;
    const float *end = in + layer->inputs;
    uint32_t outputs = layer->outputs;
    float *out = layer->out;

    memcpy(out, layer->biases->value, outputs * sizeof(float));
    for (; in < end; in++, row += outputs) {
        if (*in != 0.0f) {
            fl_add_scaled(out, *in, row, outputs);
        }
    }
}

void fl_layer_backward(const struct fl_layer *layer, const float *in)
{
    float *row = layer->weights->gradient;
    const float *end = in + layer->inputs;
    uint32_t outputs = layer->outputs;
    const float *error = layer->error;

    fl_add_scaled(layer->biases->gradient, 1.0f, error, outputs);
    for (; in < end; in++, row += outputs) {
        if (*in != 0.0f) {
            fl_add_scaled(row, *in, error, outputs);
        }
    }
}

float fl_layer_cross_entropy(const struct fl_layer *layer, uint32_t label, bool *right)
{
    const float *score = layer->out;
    float *error = layer->error;
    uint32_t best = 0;
    float sum = 0.0f;

    for (uint32_t c = 1; c < layer->outputs; c++) {
        best = score[c] > score[best] ? c : best;
    }
    for (uint32_t c = 0; c < layer->outputs; c++) {
        error[c] = fl_exp(score[c] - score[best]);
        sum += error[c];
    }
    for (uint32_t c = 0; c < layer->outputs; c++) {
        error[c] /= sum;
    }
    error[label] -= 1.0f;
    *right = best == label;
    return fl_log(sum) - (score[label] - score[best]);
}
