/*
 * Softmax regression, on a model {"W": [features, classes], "b": [classes]}; or a perceptron with
 * one hidden layer of rectified units, on {"W1": [features, hidden], "b1": [hidden],
 * "W2": [hidden, classes], "b2": [classes]}. Labels are 0 … classes - 1.
 *
 * The loss is the cross-entropy of the softmax, in nats; a prediction is right when the most
 * probable class (the first of equals) is the sample's.
 */
#include "fl.h"

#define ARENA_BYTES (30 * 1024) /* holds 64-32-10 with gradients and mu */

FL_ARENA(arena, ARENA_BYTES);
static struct fl_document model;
static struct fl_dataset data;

enum { WEIGHTS, BIASES, LAYER_PARAMS, PARAMS_MAX = 2 * LAYER_PARAMS };
static struct fl_param params[PARAMS_MAX];
static uint32_t param_count;

/* A dense layer: its parameters, its outputs, and the loss's gradient with respect to those. */
struct layer {
    struct fl_param *params;
    uint32_t inputs;
    uint32_t outputs;
    float *out;
    float *error;
};

static struct layer hidden; /* outputs is 0 where there is none */
static struct layer last;

/* out = in . weights + biases. Zeros are passed over: about half of an image's pixels are. */
static void forward(const struct layer *layer, const float *in)
{
    const float *row = layer->params[WEIGHTS].value;
    const float *end = in + layer->inputs;
    uint32_t outputs = layer->outputs;
    float *out = layer->out;

    memcpy(out, layer->params[BIASES].value, outputs * sizeof(float));
    for (; in < end; in++, row += outputs) {
        if (*in != 0.0f) {
            fl_add_scaled(out, *in, row, outputs);
        }
    }
}

/* Adds the gradient of the layer's parameters. */
static void backward(const struct layer *layer, const float *in)
{
    float *row = layer->params[WEIGHTS].gradient;
    const float *end = in + layer->inputs;
    uint32_t outputs = layer->outputs;
    const float *error = layer->error;

    fl_add_scaled(layer->params[BIASES].gradient, 1.0f, error, outputs);
    for (; in < end; in++, row += outputs) {
        if (*in != 0.0f) {
            fl_add_scaled(row, *in, error, outputs);
        }
    }
}

/* Turns scores into the loss and, in last.error, its gradient: probability - (1 for the label). */
static float cross_entropy(uint32_t label, bool *right)
{
    const float *score = last.out;
    float *error = last.error;
    uint32_t best = 0;
    float sum = 0.0f;

    for (uint32_t c = 1; c < last.outputs; c++) {
        best = score[c] > score[best] ? c : best;
    }
    for (uint32_t c = 0; c < last.outputs; c++) {
        error[c] = fl_exp(score[c] - score[best]);
        sum += error[c];
    }
    for (uint32_t c = 0; c < last.outputs; c++) {
        error[c] /= sum;
    }
    error[label] -= 1.0f;
    *right = best == label;
    return fl_log(sum) - (score[label] - score[best]);
}

static float sample_loss(const float *x, float y, bool learn, bool *right)
{
    uint32_t label = fl_class_of(y, last.outputs);
    const float *in = x;

    if (hidden.outputs > 0) {
        forward(&hidden, x);
        for (uint32_t j = 0; j < hidden.outputs; j++) {
            hidden.out[j] = hidden.out[j] > 0.0f ? hidden.out[j] : 0.0f;
        }
        in = hidden.out;
    }
    forward(&last, in);
    float loss = cross_entropy(label, right);
    if (learn) {
        backward(&last, in);
        if (hidden.outputs > 0) {
            const float *row = last.params[WEIGHTS].value;

            for (uint32_t j = 0; j < hidden.outputs; j++, row += last.outputs) {
                hidden.error[j] =
                    hidden.out[j] > 0.0f ? fl_dot(0.0f, row, last.error, last.outputs) : 0.0f;
            }
            backward(&hidden, x);
        }
    }
    return loss;
}

/* Reads the next two parameters of the model as a layer. */
static void read_layer(struct layer *layer, const char *weights, const char *biases)
{
    layer->params = &params[param_count];
    fl_param_read(&layer->params[WEIGHTS], &model, weights, 2, &arena);
    fl_param_read(&layer->params[BIASES], &model, biases, 1, &arena);
    param_count += LAYER_PARAMS;
    layer->params[WEIGHTS].decays = true;
    layer->inputs = layer->params[WEIGHTS].dims[0];
    layer->outputs = layer->params[WEIGHTS].dims[1];
    fl_param_expect(&layer->params[BIASES], 0, layer->outputs, "the weights before it have");
    layer->out = fl_arena_floats(&arena, layer->outputs, "a layer");
    layer->error = fl_arena_floats(&arena, layer->outputs, "a layer");
}

static void read_model(void)
{
    fl_document_open(&model, "model", "/fl/model", "MODEL_DATA");
    if (fl_document_find(&model, "W1") == NULL) {
        read_layer(&last, "W", "b");
    } else {
        read_layer(&hidden, "W1", "b1");
        read_layer(&last, "W2", "b2");
        fl_param_expect(&last.params[WEIGHTS], 0, hidden.outputs, "the layer before has");
    }
    fl_document_done(&model);
}

void fl_main(void)
{
    struct fl_task task;
    struct fl_sgd_settings settings;
    struct fl_sgd_result result;

    fl_env_load(&arena);
    fl_task_read(&task);
    fl_sgd_settings_read(&settings, task.hyperparams);
    read_model();
    fl_dataset_open(&data, &arena);
    fl_param_expect(&params[WEIGHTS], 0, data.features, "the data's samples have");

    struct fl_learner learner = {params, param_count, sample_loss};
    fl_sgd_run(&learner, &data, task.train ? &settings : NULL, task.seed, &arena, &result);

    struct fl_metric metrics[] = {{"loss", result.loss}, {"accuracy", result.accuracy}};
    fl_update_write(&task, data.samples, metrics, 2, params, task.train ? param_count : 0);
}
