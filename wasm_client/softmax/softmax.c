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

enum { PARAMS_MAX = 4 };
static struct fl_param params[PARAMS_MAX];
static uint32_t param_count;

static struct fl_layer hidden; /* outputs is 0 where there is none */
static struct fl_layer last;

static float sample_loss(const float *x, float y, bool learn, bool *right)
{
    uint32_t label = fl_class_of(y, last.outputs);
    const float *in = x;

    if (hidden.outputs > 0) {
        fl_layer_forward(&hidden, x);
        for (uint32_t j = 0; j < hidden.outputs; j++) {
            hidden.out[j] = hidden.out[j] > 0.0f ? hidden.out[j] : 0.0f;
        }
        in = hidden.out;
    }
    fl_layer_forward(&last, in);
    float loss = fl_layer_cross_entropy(&last, label, right);
    if (learn) {
        fl_layer_backward(&last, in);
        if (hidden.outputs > 0) {
            const float *row = last.weights->value;

            for (uint32_t j = 0; j < hidden.outputs; j++, row += last.outputs) {
                hidden.error[j] =
                    hidden.out[j] > 0.0f ? fl_dot(0.0f, row, last.error, last.outputs) : 0.0f;
            }
            fl_layer_backward(&hidden, x);
        }
    }
    return loss;
}

/* Reads the next two parameters of the model as a layer. */
static void read_layer(struct fl_layer *layer, const char *weights, const char *biases)
{
    fl_layer_read(layer, &params[param_count], &model, weights, biases, &arena);
    param_count += 2;
}

static void read_model(void)
{
    fl_document_open(&model, "model", "/fl/model", "MODEL_DATA");
    if (fl_document_find(&model, "W1") == NULL) {
        read_layer(&last, "W", "b");
    } else {
        read_layer(&hidden, "W1", "b1");
        read_layer(&last, "W2", "b2");
        fl_param_expect(last.weights, 0, hidden.outputs, "the layer before has");
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
    fl_param_expect(&params[0], 0, data.features, "the data's samples have");

    struct fl_learner learner = {params, param_count, sample_loss};
    fl_sgd_run(&learner, &data, task.train ? &settings : NULL, task.seed, &arena, &result);

    struct fl_metric metrics[] = {{"loss", result.loss}, {"accuracy", result.accuracy}};
    fl_update_write(&task, data.samples, metrics, 2, params, task.train ? param_count : 0);
}
