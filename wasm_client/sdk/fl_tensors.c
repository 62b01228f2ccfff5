#include "fl_tensors.h"

#include "fl_math.h"
#include "fl_memory.h"
#include "fl_number.h"
#include "fl_report.h"
#include "fl_tensors_private.h"

#include <stddef.h>

_Static_assert(FL_TENSORS_MAX == 8 && FL_NAME_MAX == 31, "an error below says so");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "typed arrays are read in place");

void fl_tensor_fail(const struct fl_document *document, const struct fl_tensor *tensor,
                    const char *reason)
{
    fl_fail("%s: \"%s\" %s", document->source.name, tensor->name, reason);
}

void fl_document_open(struct fl_document *document, const char *name, const char *path,
                      const char *variable)
{
    int first;

    fl_source_open(&document->source, name, path, variable);
    document->count = 0;
    fl_cursor_begin(&document->source, 0);
    first = fl_peek();
    if (first >= 0xa0 && first <= 0xbf) {
        fl_cbor_document(document);
    } else {
        fl_json_document(document);
    }
}

struct fl_tensor *fl_document_add(struct fl_document *document, char *name, uint32_t size)
{
    struct fl_tensor *tensor = &document->tensors[document->count];

    if (size > FL_NAME_MAX || document->count == FL_TENSORS_MAX) {
        fl_fail("%s: more than 8 tensors, or a name of more than 31 bytes", document->source.name);
    }
    name[size] = '\0';
    if (fl_equal(name, "version")) {
        return NULL;
    }
    if (fl_document_find(document, name) != NULL) {
        fl_fail("%s: \"%s\" is there twice", document->source.name, name);
    }
    memset(tensor, 0, sizeof *tensor);
    memcpy(tensor->name, name, size);
    document->count++;
    return tensor;
}

struct fl_tensor *fl_document_find(struct fl_document *document, const char *name)
{
    for (uint32_t i = 0; i < document->count; i++) {
        if (fl_equal(document->tensors[i].name, name)) {
            return &document->tensors[i];
        }
    }
    return NULL;
}

const struct fl_tensor *fl_document_take(struct fl_document *document, const char *name,
                                         uint32_t rank)
{
    struct fl_tensor *tensor = fl_document_find(document, name);

    if (tensor == NULL) {
        fl_fail("%s: \"%s\" is missing", document->source.name, name);
    }
    if (tensor->rank != rank) {
        fl_fail("%s: \"%s\" has %u dimensions, not %u", document->source.name, name, tensor->rank,
                rank);
    }
    tensor->taken = true;
    return tensor;
}

void fl_document_done(const struct fl_document *document)
{
    for (uint32_t i = 0; i < document->count; i++) {
        if (!document->tensors[i].taken) {
            fl_tensor_fail(document, &document->tensors[i], "is not expected");
        }
    }
}

void fl_tensor_read(const struct fl_document *document, const struct fl_tensor *tensor,
                    float *values)
{
    if (tensor->storage == FL_VALUE) {
        values[0] = tensor->value;
    } else if (tensor->storage == FL_TEXT) {
        fl_cursor_begin(&document->source, tensor->offset);
        for (uint32_t i = 0; i < tensor->count; i++) {
            values[i] = fl_json_next_number();
        }
    } else {
        struct fl_numbers numbers; /* member by member: shorter than with its padding */

        numbers.source = document->source;
        numbers.offset = tensor->offset;
        numbers.bytes = tensor->small;
        numbers.scale = 1.0f;
        fl_numbers_read(&numbers, 0, values, tensor->count);
    }
}

void fl_tensor_read_bytes(const struct fl_document *document, const struct fl_tensor *tensor,
                          uint8_t *values)
{
    fl_cursor_begin(&document->source, tensor->offset);
    for (uint32_t i = 0; i < tensor->count; i++) {
        values[i] = (uint8_t)fl_truncate(fl_json_next_number());
    }
}

void fl_numbers_read(const struct fl_numbers *numbers, uint32_t first, float *values,
                     uint32_t count)
{
    bool bytes = numbers->bytes;
    float scale = numbers->scale;
    uint32_t size = bytes ? 1 : sizeof(float);
    /* Bytes go to the end of the room for floats: a float written from the front never reaches one
     * that has not been read. */
    uint8_t *raw = (uint8_t *)values + (sizeof(float) - size) * count;

    fl_source_read(&numbers->source, numbers->offset + first * size, raw, count * size);
    for (uint32_t i = 0; i < count; i++) {
        values[i] = (bytes ? (float)raw[i] : values[i]) * scale;
        if (!fl_is_finite(values[i])) {
            fl_fail("%s: byte %u: not finite", numbers->source.name,
                    numbers->offset + (first + i) * size);
        }
    }
}
