#include "fl_report.h"

#include "fl_number.h"
#include "fl_platform.h"
#include "fl_sink.h"

static void put_string(const char *string)
{
    for (; *string != '\0'; string++) {
        uint8_t c = (uint8_t)*string;

        fl_put(c < 0x20 || c == 0x7f ? '?' : c);
    }
}

/* Without the ".0" that makes it a float in JSON. */
static void put_float(uint32_t bits)
{
    union {
        uint32_t bits;
        float value;
    } view = {bits};
    char text[FL_NUMBER_TEXT_MAX];
    uint32_t size = fl_format_f32(view.value, text);

    fl_put_all(text, size > 2 && text[size - 2] == '.' && text[size - 1] == '0' ? size - 2 : size);
}

static void put_line(const char *format, const fl_word *word)
{
    for (; *format != '\0'; format++) {
        if (*format != '%') {
            fl_put((uint8_t)*format);
            continue;
        }
        switch (*++format) {
        case 's':
            put_string((const char *)*word++);
            break;
        case 'u':
            fl_put_u32((uint32_t)*word++);
            break;
        case 'g':
            put_float((uint32_t)*word++);
            break;
        default:
            fl_put((uint8_t)*format); /* "%%" */
            break;
        }
    }
    fl_put('\n');
    fl_sink_flush();
}

void fl_warn_1(const char *format, fl_word a)
{
    fl_sink_begin(FL_STDERR);
    put_string("warning: ");
    put_line(format, &a);
}

void fl_fail_5(const char *format, fl_word a, fl_word b, fl_word c, fl_word d, fl_word e)
{
    fl_sink_begin(FL_STDERR);
    put_line(format, (const fl_word[]){a, b, c, d, e});
    fl_platform_exit(1);
}

void fl_fail_2(const char *format, fl_word a, fl_word b)
{
    fl_fail_5(format, a, b, 0, 0, 0);
}
