#include "fl_sgd.h"

#include "fl_hyper.h"
#include "fl_math.h"
#include "fl_number.h"
#include "fl_random.h"
#include "fl_report.h"

#include <stddef.h>

/* A sum of float32 over many samples, with what rounding lost carried along (Kahan). */
struct sum {
    float value;
    float lost;
};

static void add(struct sum *sum, float term)
{
    float corrected = term - sum->lost;
    float next = sum->value + corrected;

    sum->lost = (next - sum->value) - corrected;
    sum->value = next;
}

void fl_sgd_settings_read(struct fl_sgd_settings *settings, const char *json)
{
    static struct fl_hyper hypers[] = {
        {.name = "epochs", .value = 5, .least = 1, .most = 10000, .integer = true},
        {.name = "batch_size", .value = 16, .least = 1, .most = 1000000, .integer = true},
        {.name = "lr", .value = 0.5f, .least = 1e-6f, .most = 1000},
        {.name = "l2", .value = 0, .least = 0, .most = 1000},
        {.name = "mu", .value = 0, .least = 0, .most = 1000},
    };

    fl_hyper_read(json, hypers, sizeof hypers / sizeof *hypers);
    settings->epochs = (uint32_t)fl_truncate(hypers[0].value);
    settings->batch_size = (uint32_t)fl_truncate(hypers[1].value);
    settings->lr = hypers[2].value;
    settings->l2 = hypers[3].value;
    settings->mu = hypers[4].value;
}

static void prepare(struct fl_learner *learner, bool keep_start, struct fl_arena *arena)
{
    for (uint32_t i = 0; i < learner->param_count; i++) {
        struct fl_param *param = &learner->params[i];

        param->gradient = fl_arena_floats(arena, param->count, "gradients");
        if (keep_start) {
            param->start = fl_arena_floats(arena, param->count, "gradients and mu");
            memcpy(param->start, param->value, param->count * sizeof(float));
        }
    }
}

/* One step against the gradient of a batch, which is zero again afterwards. */
static void step(struct fl_learner *learner, const struct fl_sgd_settings *settings, uint32_t size)
{
    float rate = settings->lr / (float)size;
    float pull = settings->lr * settings->mu;

    for (uint32_t p = 0; p < learner->param_count; p++) {
        struct fl_param *param = &learner->params[p];
        float decay = param->decays ? settings->lr * settings->l2 : 0.0f;

        for (uint32_t i = 0; i < param->count; i++) {
            float value = param->value[i];
            float change = rate * param->gradient[i] + decay * value;

            if (param->start != NULL) {
                change += pull * (value - param->start[i]);
            }
            param->value[i] = value - change;
            param->gradient[i] = 0.0f;
        }
    }
}

static bool is_finite(const struct fl_learner *learner)
{
    for (uint32_t p = 0; p < learner->param_count; p++) {
        for (uint32_t i = 0; i < learner->params[p].count; i++) {
            if (!fl_is_finite(learner->params[p].value[i])) {
                return false;
            }
        }
    }
    return true;
}

/* Takes every sample once, in `order`, with a step after each batch if there are settings. */
static void run_epoch(struct fl_learner *learner, const struct fl_dataset *data,
                      const struct fl_sgd_settings *settings, const struct fl_permutation *order,
                      float *x, struct fl_sgd_result *result)
{
    struct sum loss = {0, 0};
    uint32_t right_count = 0;
    uint32_t batch = 0;

    for (uint32_t i = 0; i < data->samples; i++) {
        bool right;
        float y = fl_dataset_sample(data, fl_permutation_at(order, i), x);

        add(&loss, learner->sample_loss(x, y, settings != NULL, &right));
        right_count += right;
        batch++;
        if (settings != NULL && (batch == settings->batch_size || i + 1 == data->samples)) {
            step(learner, settings, batch);
            batch = 0;
        }
    }
    result->loss = loss.value / (float)data->samples;
    result->accuracy = (float)right_count / (float)data->samples;
}

void fl_sgd_run(struct fl_learner *learner, const struct fl_dataset *data,
                const struct fl_sgd_settings *settings, uint32_t seed, struct fl_arena *arena,
                struct fl_sgd_result *result)
{
    struct fl_random random;
    struct fl_permutation order;
    float *x = fl_arena_floats(arena, data->features, "a sample");
    uint32_t epochs = 1;

    if (settings != NULL) {
        prepare(learner, settings->mu != 0.0f, arena);
        epochs = settings->epochs;
    }
    fl_random_seed(&random, seed);
    for (uint32_t epoch = 1; epoch <= epochs; epoch++) {
        fl_permutation_draw(&order, data->samples, &random);
        run_epoch(learner, data, settings, &order, x, result);
        if (!fl_is_finite(result->loss) || !is_finite(learner)) {
            fl_fail("epoch %u: the loss or the model is not finite: lr may be too large", epoch);
        }
    }
}
