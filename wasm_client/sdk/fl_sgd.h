/*
 * Mini-batch stochastic gradient descent, for any model that can say what one sample costs.
 *
 * Minimised is the mean loss over the batch + l2/2 |weights|^2 + mu/2 |params - received params|^2.
 * The last is FedProx's term. Each epoch takes all samples once, in an order drawn from the seed;
 * the last batch of an epoch is as short as it comes out.
 */
#ifndef FL_SGD_H
#define FL_SGD_H

#include "fl_dataset.h"
#include "fl_param.h"

#include <stdbool.h>
#include <stdint.h>

struct fl_sgd_settings {
    uint32_t epochs;     /* 1 to 10000, default 5 */
    uint32_t batch_size; /* 1 to 1000000, default 16 */
    float lr;            /* 1e-6 to 1000, default 0.5 */
    float l2;            /* 0 to 1000, default 0 */
    float mu;            /* 0 to 1000, default 0 */
};

/* Reads them from HYPERPARAMS, as fl_hyper_read() does. */
void fl_sgd_settings_read(struct fl_sgd_settings *settings, const char *json);

/*
 * The loss of one sample, and whether the prediction was right. With `learn` it adds the loss's
 * gradient to params[].gradient.
 */
typedef float (*fl_sample_loss)(const float *x, float y, bool learn, bool *right);

struct fl_learner {
    struct fl_param *params;
    uint32_t param_count;
    fl_sample_loss sample_loss;
};

/* Means over all samples. */
struct fl_sgd_result {
    float loss; /* of sample_loss alone: without the l2 and mu terms */
    float accuracy;
};

/*
 * Trains in place. Takes gradients, and copies for mu, from the arena. The result is of the last
 * epoch, each sample measured just before the step it took part in. With `settings` NULL it changes
 * nothing and measures the parameters as they are. Fails (fl_fail) when the loss or a parameter is
 * not finite.
 */
void fl_sgd_run(struct fl_learner *learner, const struct fl_dataset *data,
                const struct fl_sgd_settings *settings, uint32_t seed, struct fl_arena *arena,
                struct fl_sgd_result *result);

#endif
