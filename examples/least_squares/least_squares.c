/*
 * Least squares: the model {"w": [features]} is to give y as w . x. A whole client with the SDK;
 * docs/write-a-client.md goes through it.
 */
#include "fl.h"

FL_ARENA(arena, 8 * 1024);
static struct fl_document model;
static struct fl_dataset data;
static struct fl_param w;

/* Half the squared error of one sample, and its gradient. */
static float sample_loss(const float *x, float y, bool learn, bool *right)
{
    float error = fl_dot(0.0f, x, w.value, w.count) - y;

    *right = error > -0.5f && error < 0.5f;
    if (learn) {
        fl_add_scaled(w.gradient, error, x, w.count);
    }
    return 0.5f * error * error;
}

void fl_main(void)
{
    struct fl_task task;
    struct fl_sgd_settings settings;
    struct fl_sgd_result result;
    struct fl_learner learner = {&w, 1, sample_loss};

    fl_env_load(&arena);
    fl_task_read(&task);
    fl_sgd_settings_read(&settings, task.hyperparams);
    fl_document_open(&model, "model", "/fl/model", "MODEL_DATA");
    fl_param_read(&w, &model, "w", 1, &arena);
    fl_document_done(&model);
    fl_dataset_open(&data, &arena);
    fl_param_expect(&w, 0, data.features, "the data's samples have");
    fl_sgd_run(&learner, &data, task.train ? &settings : NULL, task.seed, &arena, &result);

    struct fl_metric metrics[] = {{"loss", result.loss}, {"accuracy", result.accuracy}};
    fl_update_write(&task, data.samples, metrics, 2, &w, task.train ? 1 : 0);
}
