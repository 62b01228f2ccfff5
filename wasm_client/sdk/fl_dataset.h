/*
 * A proplet's samples: the tensors document at /fl/data, or in DATASET_DATA.
 *
 *     x        [samples, features]  uint8 or float32
 *     y        [samples]            labels, uint8 or float32
 *     x_scale  a number, optional   every x is multiplied by it
 *
 * Typed arrays stay in the file and rows are read in place, so any number of samples does. JSON is
 * read into the arena once, as bytes if all numbers of a tensor fit, else as floats.
 */
#ifndef FL_DATASET_H
#define FL_DATASET_H

#include "fl_memory.h"
#include "fl_tensors.h"

#include <stdint.h>

struct fl_dataset {
    struct fl_document document;
    uint32_t samples;
    uint32_t features;
    struct fl_numbers x;
    struct fl_numbers y;
};

/* Fails (fl_fail) when the data are not there, not as above, or JSON too large for the arena. */
void fl_dataset_open(struct fl_dataset *dataset, struct fl_arena *arena);

/*
 * Puts sample `index` into `x`, which has room for `features` floats, and returns its label. Fails
 * when a number is not finite or the file cannot be read.
 */
float fl_dataset_sample(const struct fl_dataset *dataset, uint32_t index, float *x);

/* A label as a class. Fails when it is not an integer from 0 to classes - 1. */
uint32_t fl_class_of(float label, uint32_t classes);

#endif
