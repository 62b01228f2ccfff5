#include "fl_number.h"
#include "fl_report.h"
#include "fl_tensors_private.h"

#include <stddef.h>

enum {
    MAJOR_UNSIGNED,
    MAJOR_NEGATIVE,
    MAJOR_BYTES,
    MAJOR_TEXT,
    MAJOR_ARRAY,
    MAJOR_MAP,
    MAJOR_TAG,
    MAJOR_SIMPLE,

    INFO_HALF = 25,
    INFO_FLOAT = 26,
    INFO_DOUBLE = 27,
    INFO_INDEFINITE = 31,
    BREAK = 0xff,

    TAG_SHAPED = 40, /* [dimensions, typed array], row-major */
    TAG_U8 = 64,
    TAG_F32_LE = 85,
};

/* The beginning of a data item. */
struct head {
    uint32_t major;
    uint32_t info;
    uint64_t value; /* a number, a size, a tag, or the bits of a float */
};

static struct head read_head(void)
{
    uint32_t byte = fl_next();
    struct head head = {byte >> 5, byte & 31, byte & 31};

    if (head.info >= 24 && head.info < 28) {
        head.value = 0;
        for (uint32_t size = 1u << (head.info - 24); size > 0; size--) {
            head.value = head.value << 8 | fl_next();
        }
    }
    return head;
}

/* The value of a head of that major type, which must be below 2^32 and not of indefinite size. */
static uint32_t expect(int major, const char *what)
{
    struct head head;

    if (fl_peek() >> 5 != major) {
        fl_expected(what);
    }
    head = read_head();
    if (head.info >= 28 || head.value > UINT32_MAX) {
        fl_expected("a smaller size before this");
    }
    return (uint32_t)head.value;
}

static float float_of_half(uint32_t half)
{
    union {
        uint32_t bits;
        float value;
    } view = {.bits = (half & 0x8000) << 16 | (half & 0x7fff) << 13};

    if ((half & 0x7c00) == 0x7c00) {
        view.bits |= 0x7f800000;
        return view.value;
    }
    return view.value * 0x1p+112f; /* moves the exponent's bias, for subnormals too */
}

static float float_of(struct head head)
{
    union {
        uint64_t bits;
        double value;
    } wide = {.bits = head.value};
    union {
        uint32_t bits;
        float value;
    } narrow = {.bits = (uint32_t)head.value};

    switch (head.info) {
    case INFO_HALF:
        return float_of_half((uint32_t)head.value);
    case INFO_FLOAT:
        return narrow.value;
    default:
        return (float)wide.value;
    }
}

/* A number by itself. */
static void list_number(struct fl_document *document, struct fl_tensor *tensor, struct head head)
{
    tensor->count = 1;
    tensor->storage = FL_VALUE;
    if (head.major == MAJOR_UNSIGNED) {
        tensor->value = (float)head.value;
    } else if (head.major == MAJOR_NEGATIVE) {
        tensor->value = -1.0f - (float)head.value;
    } else if (head.major == MAJOR_SIMPLE && head.info >= INFO_HALF && head.info <= INFO_DOUBLE) {
        tensor->value = float_of(head);
    } else {
        fl_tensor_fail(document, tensor, "is neither a number nor a typed array");
    }
    if (!fl_is_finite(tensor->value)) {
        fl_tensor_fail(document, tensor, "is not finite");
    }
}

/* The dimensions of a shaped array. */
static void list_dims(struct fl_document *document, struct fl_tensor *tensor)
{
    uint32_t parts = expect(MAJOR_ARRAY, "an array");
    uint32_t rank = expect(MAJOR_ARRAY, "an array");

    tensor->count = 1;
    if (parts != 2 || rank == 0 || rank > FL_RANK_MAX) {
        fl_tensor_fail(document, tensor, "has too few or too many dimensions");
    }
    for (tensor->rank = 0; tensor->rank < rank; tensor->rank++) {
        uint32_t size = expect(MAJOR_UNSIGNED, "a dimension");

        if (size == 0 || size > UINT32_MAX / tensor->count) {
            fl_tensor_fail(document, tensor, "is empty or too large");
        }
        tensor->dims[tensor->rank] = size;
        tensor->count *= size;
    }
}

/* A typed array, after its tag. */
static void list_numbers(struct fl_document *document, struct fl_tensor *tensor, uint32_t tag)
{
    uint32_t size = tag == TAG_F32_LE ? sizeof(float) : 1;

    if (tag != TAG_F32_LE && tag != TAG_U8) {
        fl_tensor_fail(document, tensor, "is not of float32 (tag 85) or uint8 (tag 64)");
    }
    uint32_t bytes = expect(MAJOR_BYTES, "a byte string");
    if (tensor->rank == 0) {
        tensor->rank = 1;
        tensor->dims[0] = bytes / size;
        tensor->count = tensor->dims[0];
    }
    if (bytes == 0 || bytes % size != 0 || bytes / size != tensor->count) {
        fl_tensor_fail(document, tensor, "is not as long as it should be");
    }
    tensor->small = tag == TAG_U8;
    tensor->storage = tensor->small ? FL_U8 : FL_F32;
    tensor->offset = fl_cursor_offset();
    fl_skip(bytes);
}

static void list_member(struct fl_document *document)
{
    char name[FL_NAME_MAX + 1];
    uint32_t size = expect(MAJOR_TEXT, "a name");

    for (uint32_t i = 0; i < size && i < FL_NAME_MAX; i++) {
        name[i] = (char)fl_next();
    }
    struct fl_tensor *tensor = fl_document_add(document, name, size);
    struct head head = read_head();
    if (tensor == NULL) {
        if (head.major > MAJOR_NEGATIVE) {
            fl_fail("%s: \"version\" is not an integer", document->source.name);
        }
        return;
    }
    if (head.major != MAJOR_TAG) {
        list_number(document, tensor, head);
        return;
    }
    uint32_t tag = head.value <= UINT32_MAX ? (uint32_t)head.value : 0;
    if (tag == TAG_SHAPED) {
        list_dims(document, tensor);
        tag = expect(MAJOR_TAG, "a tag");
    }
    list_numbers(document, tensor, tag);
}

void fl_cbor_document(struct fl_document *document)
{
    struct head head = read_head(); /* of a map: the caller has looked */

    if (head.info == INFO_INDEFINITE) {
        while (fl_peek() != BREAK) {
            list_member(document);
        }
        fl_next();
    } else {
        for (; head.value > 0; head.value--) {
            list_member(document);
        }
    }
    if (fl_peek() >= 0) {
        fl_expected("the end");
    }
}
