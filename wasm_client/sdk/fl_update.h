/*
 * The update document, on stdout. Keys in this order: round_id, proplet_id (when there is one),
 * base_model_uri, num_samples, metrics{}, update{}. As JSON without white space, or as CBOR: with
 * arrays as the model has them in CBOR, with arrays of float16, or with differences to the model
 * (docs/protocol.md, "Update formats"). In the last two a tensor that cannot be so is of float32.
 */
#ifndef FL_UPDATE_H
#define FL_UPDATE_H

#include "fl_env.h"
#include "fl_param.h"

#include <stdint.h>

struct fl_metric {
    const char *name;
    float value; /* finite */
};

/*
 * Writes the whole document. In FL_INT8_DELTA it overwrites the gradients. `param_count` is 0 after
 * an evaluation. Nothing else may write to stdout. Fails (fl_fail) when stdout cannot be written.
 */
void fl_update_write(const struct fl_task *task, uint32_t num_samples,
                     const struct fl_metric *metrics, uint32_t metric_count,
                     const struct fl_param *params, uint32_t param_count);

#endif
