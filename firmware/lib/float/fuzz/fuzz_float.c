/* Whatever bits there are, their text reads back as the same; whatever text there is, it reads as
 * something that does. */
#include "fl_float.h"

#include <stdlib.h>
#include <string.h>

static void check_bits(enum fl_float_format format, uint64_t bits)
{
    char out[FL_FLOAT_TEXT_MAX + 1];
    struct fl_text text;
    uint64_t again = ~bits;

    fl_text_begin(&text, out, sizeof(out));
    fl_float_put(&text, format, bits);
    if (!fl_text_ok(&text)) {
        abort();
    }
    if (text.size <= FL_FLOAT_READ_MAX && strcmp(out, "nan") != 0 &&
        (!fl_float_read(out, text.size, format, &again) || again != bits)) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t bits = 0;

    memcpy(&bits, data, size < sizeof(bits) ? size : sizeof(bits));
    check_bits(FL_FLOAT_F32, (uint32_t)bits);
    check_bits(FL_FLOAT_F64, bits);
    if (fl_float_read((const char *)data, size, FL_FLOAT_F32, &bits)) {
        check_bits(FL_FLOAT_F32, bits);
    }
    if (fl_float_read((const char *)data, size, FL_FLOAT_F64, &bits)) {
        check_bits(FL_FLOAT_F64, bits);
    }
    return 0;
}
