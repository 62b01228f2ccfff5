/*
 * Logistic regression on a model {"w": [features], "b": number}, with labels 0 and 1.
 *
 * The probability of label 1 is 1 / (1 + exp(-(w . x + b))); the loss is the cross-entropy, in
 * nats; a prediction is right when the more probable label is the sample's (0 at a tie).
 */
#include "fl.h"

#define ARENA_BYTES (24 * 1024)

FL_ARENA(arena, ARENA_BYTES);
static struct fl_document model;
static struct fl_dataset data;

enum { W, B, PARAM_COUNT };
static struct fl_param params[PARAM_COUNT];

static float sample_loss(const float *x, float y, bool learn, bool *right)
{
    uint32_t features = params[W].count;
    uint32_t label = fl_class_of(y, 2);
    float z = fl_dot(params[B].value[0], x, params[W].value, features);
    float away = fl_exp(z < 0.0f ? z : -z); /* e^-|z|: cannot overflow */
    float loss = fl_log(1.0f + away);

    *right = (label == 1) == (z > 0.0f);
    if (!*right) {
        loss += z < 0.0f ? -z : z;
    }
    if (learn) {
        float probability = (z < 0.0f ? away : 1.0f) / (1.0f + away);
        float error = probability - (float)label;

        fl_add_scaled(params[W].gradient, error, x, features);
        params[B].gradient[0] += error;
    }
    return loss;
}

static void read_model(void)
{
    fl_document_open(&model, "model", "/fl/model", "MODEL_DATA");
    fl_param_read(&params[W], &model, "w", 1, &arena);
    fl_param_read(&params[B], &model, "b", 0, &arena);
    fl_document_done(&model);
    params[W].decays = true;
}

void fl_main(void)
{
    struct fl_task task;
    struct fl_sgd_settings settings;
    struct fl_sgd_result result;
    struct fl_learner learner = {params, PARAM_COUNT, sample_loss};

    fl_env_load(&arena);
    fl_task_read(&task);
    fl_sgd_settings_read(&settings, task.hyperparams);
    read_model();
    fl_dataset_open(&data, &arena);
    fl_param_expect(&params[W], 0, data.features, "the data's samples have");
    fl_sgd_run(&learner, &data, task.train ? &settings : NULL, task.seed, &arena, &result);

    struct fl_metric metrics[] = {{"loss", result.loss}, {"accuracy", result.accuracy}};
    fl_update_write(&task, data.samples, metrics, 2, params, task.train ? PARAM_COUNT : 0);
}
