/*
 * A tensors document: an ordered map of names to arrays of numbers, as a model or a data set comes.
 *
 * JSON: {"w": [0.12, -0.05], "b": 0.33, "version": 3}, nested lists for more dimensions.
 * CBOR (RFC 8949): numbers, and typed arrays (RFC 8746) of float32 little-endian (tag 85) or uint8
 * (tag 64), inside tag 40 with the dimensions when there is more than one. The first byte tells.
 *
 * Opening a document lists what is in it and keeps nothing else: values stay where they are until
 * they are read, so a document may be much larger than memory. "version", an integer, is no tensor
 * and is not listed.
 */
#ifndef FL_TENSORS_H
#define FL_TENSORS_H

#include "fl_source.h"

#include <stdbool.h>
#include <stdint.h>

#define FL_TENSORS_MAX 8 /* tensors in a document */
#define FL_RANK_MAX 4    /* dimensions of a tensor */
#define FL_NAME_MAX 31   /* bytes of a tensor's name */

enum fl_storage {
    FL_VALUE, /* a CBOR number: in `value` */
    FL_TEXT,  /* JSON: numbers with brackets and commas around them */
    FL_F32,   /* float32, little-endian */
    FL_U8,
};

struct fl_tensor {
    char name[FL_NAME_MAX + 1];
    uint32_t rank; /* 0: a number */
    uint32_t dims[FL_RANK_MAX];
    uint32_t count;  /* of numbers: the product of dims; at least 1 */
    uint32_t offset; /* where its numbers begin in the source */
    enum fl_storage storage;
    bool small; /* all numbers are integers from 0 to 255 */
    bool taken;
    float value;
};

struct fl_document {
    struct fl_source source;
    uint32_t count;
    struct fl_tensor tensors[FL_TENSORS_MAX];
};

/*
 * Opens the document at `path` or in the environment variable `variable`; errors call it `name`.
 * Fails (fl_fail) when it is not there or not such a document.
 */
void fl_document_open(struct fl_document *document, const char *name, const char *path,
                      const char *variable);

/* The tensor of that name, or NULL. */
struct fl_tensor *fl_document_find(struct fl_document *document, const char *name);

/* The tensor of that name and rank. Fails when it is missing or has another rank. */
const struct fl_tensor *fl_document_take(struct fl_document *document, const char *name,
                                         uint32_t rank);

/* Fails when there is a tensor that nobody has taken, and names it. */
void fl_document_done(const struct fl_document *document);

/* Reads all numbers of a tensor, row by row. Fails when one is NaN or infinite. */
void fl_tensor_read(const struct fl_document *document, const struct fl_tensor *tensor,
                    float *values);

/* The same as bytes, for a tensor that is `small` and FL_TEXT. */
void fl_tensor_read_bytes(const struct fl_document *document, const struct fl_tensor *tensor,
                          uint8_t *values);

/* Numbers that lie in a source one after the other, uint8 or float32. */
struct fl_numbers {
    struct fl_source source;
    uint32_t offset; /* of the first */
    bool bytes;
    float scale; /* each is multiplied by it */
};

/* Reads `count` numbers, from the `first` on. Fails when one is NaN or infinite. */
void fl_numbers_read(const struct fl_numbers *numbers, uint32_t first, float *values,
                     uint32_t count);

#endif
