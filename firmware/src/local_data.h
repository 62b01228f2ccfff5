/* This proplet's own training data, which the module reads as /fl/data. One source a build. */
#ifndef LOCAL_DATA_H
#define LOCAL_DATA_H

#include "fl_wasi.h"

/*
 * Finds the data and describes it in `file`, which then serves until the next restart. Returns 0;
 * -ENOENT: there is none, and the module is given no such file; any other negative error: there
 * is some, but it is of no use, and the log says why.
 */
int local_data_open(struct fl_wasi_file *file);

#endif
