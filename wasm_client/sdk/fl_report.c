#include "fl_report.h"

#include "fl_number.h"
#include "fl_platform.h"

#include <stdarg.h>
#include <stdint.h>

/* One write a line where it fits: some hosts log write by write. */
static char line[192];
static uint32_t line_size;

static void flush(void)
{
    /* Where stderr cannot be written there is nobody left to tell; the exit status remains. */
    (void)fl_platform_write(FL_STDERR, line, line_size);
    line_size = 0;
}

static void put(char c)
{
    if (line_size == sizeof line) {
        flush();
    }
    line[line_size++] = c;
}

static void put_all(const char *text, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++) {
        put(text[i]);
    }
}

static void put_string(const char *string)
{
    for (; *string != '\0'; string++) {
        uint8_t c = (uint8_t)*string;

        put(c < 0x20 || c == 0x7f ? '?' : *string);
    }
}

/* Without the ".0" that makes it a float in JSON. */
static void put_float(float value)
{
    char text[FL_NUMBER_TEXT_MAX];
    uint32_t size = fl_format_f32(value, text);

    put_all(text, size > 2 && text[size - 2] == '.' && text[size - 1] == '0' ? size - 2 : size);
}

static void append(const char *format, va_list values)
{
    char number[FL_NUMBER_TEXT_MAX];

    for (; *format != '\0'; format++) {
        if (*format != '%') {
            put(*format);
            continue;
        }
        switch (*++format) {
        case 's':
            put_string(va_arg(values, const char *));
            break;
        case 'u':
            put_all(number, fl_format_u32(va_arg(values, uint32_t), number));
            break;
        case 'g':
            put_float((float)va_arg(values, double));
            break;
        default:
            put(*format); /* "%%" */
            break;
        }
    }
}

void fl_warn(const char *format, ...)
{
    va_list values;

    put_string("warning: ");
    va_start(values, format);
    append(format, values);
    va_end(values);
    put('\n');
    flush();
}

void fl_fail(const char *format, ...)
{
    va_list values;

    va_start(values, format);
    append(format, values);
    va_end(values);
    put('\n');
    flush();
    fl_platform_exit(1);
}
