/*
 * A table of linear models, one a row, that is larger than memory: {"rows": [rows, inputs]}.
 *
 * A sample names its row and gives inputs and target: x [samples, 1 + inputs], y [samples]. Its loss
 * is (row . inputs - y)^2 / 2, and each sample of an epoch moves its row down the gradient, one
 * sample after the other. Rows do not depend on one another, so the table is trained some rows at a
 * time: read, trained, written. Rows without samples stay as they are.
 *
 * HYPERPARAMS: epochs (1), lr (0.1).
 */
#include "fl.h"

#define BLOCK_FLOATS 4096
#define INPUTS_MAX 512

FL_ARENA(arena, 8 * 1024);
static struct fl_large model;
static struct fl_dataset data;
static float block[BLOCK_FLOATS];
static float sample[1 + INPUTS_MAX];

/* The row that a sample is about. */
static uint32_t row_of(uint32_t index, uint32_t rows)
{
    float row;

    fl_numbers_read(&data.x, index * data.features, &row, 1);
    if (!(row >= 0.0f && row < (float)rows) || row != (float)(uint32_t)row) {
        fl_fail("data: sample %u is about row %g, of %u", index, (double)row, rows);
    }
    return (uint32_t)row;
}

/* One epoch on `count` rows from the `first` on; returns the sum of the losses before each step. */
static float train(uint32_t first, uint32_t count, uint32_t rows, uint32_t inputs, float lr)
{
    float sum = 0.0f;

    for (uint32_t s = 0; s < data.samples; s++) {
        uint32_t row = row_of(s, rows);

        if (row < first || row - first >= count) {
            continue;
        }
        float *weights = block + (row - first) * inputs;
        float target = fl_dataset_sample(&data, s, sample);
        float error = fl_dot(-target, sample + 1, weights, inputs);

        sum += 0.5f * error * error;
        fl_add_scaled(weights, -lr * error, sample + 1, inputs);
    }
    return sum;
}

void fl_main(void)
{
    struct fl_task task;
    struct fl_hyper hypers[] = {{"epochs", 1.0f, 1.0f, 10000.0f, true},
                                {"lr", 0.1f, 1e-6f, 1000.0f, false}};
    float loss = 0.0f;

    fl_env_load(&arena);
    fl_task_read(&task);
    fl_hyper_read(task.hyperparams, hypers, 2);
    fl_large_open(&model);
    const struct fl_large_tensor *table = fl_large_find(&model, "rows", 2);
    fl_dataset_open(&data, &arena);
    uint32_t rows = table->dims[0];
    uint32_t inputs = table->dims[1];
    if (inputs > INPUTS_MAX || data.features != 1 + inputs) {
        fl_fail("data: %u numbers a sample, and rows of %u", data.features, inputs);
    }
    uint32_t height = BLOCK_FLOATS / inputs;
    uint32_t epochs = task.train ? (uint32_t)hypers[0].value : 1;
    float lr = task.train ? hypers[1].value : 0.0f;

    fl_large_begin(&task, task.train ? 1 : 0);
    if (task.train) {
        fl_large_tensor(table);
    }
    for (uint32_t first = 0; first < rows; first += height) {
        uint32_t count = rows - first < height ? rows - first : height;

        fl_numbers_read(&table->numbers, first * inputs, block, count * inputs);
        for (uint32_t epoch = 1; epoch < epochs; epoch++) {
            train(first, count, rows, inputs, lr);
        }
        loss += train(first, count, rows, inputs, lr); /* of the last epoch */
        if (task.train) {
            fl_large_values(block, count * inputs);
        }
    }
    struct fl_metric metrics[] = {{"loss", loss / (float)data.samples}};

    if (!fl_is_finite(loss)) {
        fl_fail("training: the loss is not finite; try a smaller lr than %g", (double)lr);
    }
    fl_large_end(data.samples, metrics, 1);
}
