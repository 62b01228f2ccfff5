/*
 * What somebody does, from the motion of a sensor: softmax regression over windows of a recording.
 *
 * The data are the recording as it was sampled: x [samples, channels], in shares of the sensor's
 * range, and y [samples], what was being done. windows.h says what is a window, and its features.
 *
 * The model: {"moments": [2, features], "W": [features, classes], "b": [classes]}. Features are
 * standardised by the moments in the model: the means of them and of their squares. Training answers
 * with the moments of its own windows, so the coordinator's average, weighted by windows, is exactly
 * that of all who train, and of nobody else. A model with moments of 0 has none yet: its own serve.
 */
#include "windows.h"

FL_ARENA(arena, 24 * 1024);
static struct fl_document model;
static struct fl_dataset recording;

enum { MOMENTS, LAYER, PARAMS_COUNT = LAYER + 2 };
static struct fl_param params[PARAMS_COUNT];
static struct fl_layer layer;
static struct windows windows;
static float *standard; /* of each feature what is taken from it, then what it is divided by */

/* `x` holds where the window begins, and so does `y`. */
static float sample_loss(const float *x, float y, bool learn, bool *right)
{
    uint32_t label = fl_class_of(windows_look(&windows, y), layer.outputs);
    uint32_t count = layer.inputs;
    float *features = windows.features;

    (void)x;
    for (uint32_t i = 0; i < count; i++) {
        features[i] = (features[i] - standard[i]) / standard[i + count];
    }
    fl_layer_forward(&layer, features);
    float loss = fl_layer_cross_entropy(&layer, label, right);
    if (learn) {
        fl_layer_backward(&layer, features);
    }
    return loss;
}

/* Means over all windows. */
static void measure(float *moments)
{
    uint32_t count = layer.inputs;
    float share = 1.0f / (float)windows.places.samples;

    for (uint32_t w = 0; w < windows.places.samples; w++) {
        windows_look(&windows, windows.starts[w]);
        for (uint32_t i = 0; i < count; i++) {
            float feature = windows.features[i];

            moments[i] += share * feature;
            moments[i + count] += share * feature * feature;
        }
    }
}

/* Turns moments into means and standard deviations; a feature that hardly varies stays small. */
static void make_standard(void)
{
    uint32_t count = layer.inputs;

    for (uint32_t i = 0; i < count; i++) {
        float variance = standard[i + count] - standard[i] * standard[i];

        standard[i + count] = fl_exp(0.5f * fl_log(variance > 0x1p-16f ? variance : 0x1p-16f));
    }
}

void fl_main(void)
{
    struct fl_task task;
    struct fl_sgd_settings settings;
    struct fl_sgd_result result;
    struct fl_param *moments = &params[MOMENTS];

    fl_env_load(&arena);
    fl_task_read(&task);
    fl_sgd_settings_read(&settings, task.hyperparams);

    fl_document_open(&model, "model", "/fl/model", "MODEL_DATA");
    fl_param_read(moments, &model, "moments", 2, &arena);
    fl_layer_read(&layer, &params[LAYER], &model, "W", "b", &arena);
    fl_document_done(&model);
    fl_dataset_open(&recording, &arena);
    fl_param_expect(moments, 0, 2, "not");
    fl_param_expect(moments, 1, layer.inputs, "\"W\" has");
    fl_param_expect(moments, 1, 3 * recording.features, "three times the data's channels are");
    windows_find(&windows, &recording, &arena);

    float *own = fl_arena_floats(&arena, moments->count, "moments");
    standard = moments->value;
    measure(own);
    if (standard[moments->count - 1] == 0.0f) {
        memcpy(standard, own, moments->count * sizeof(float));
    }
    make_standard();

    struct fl_learner learner = {&params[LAYER], PARAMS_COUNT - LAYER, sample_loss};
    fl_sgd_run(&learner, &windows.places, task.train ? &settings : NULL, task.seed, &arena, &result);
    moments->value = own;

    struct fl_metric metrics[] = {{"loss", result.loss}, {"accuracy", result.accuracy}};
    fl_update_write(&task, windows.places.samples, metrics, 2, params,
                    task.train ? PARAMS_COUNT : 0);
}
