/* Lines on stderr. A client that fails says why in one line and ends; there is no way back. */
#ifndef FL_REPORT_H
#define FL_REPORT_H

#include <stdint.h>

/*
 * The formats know %s (control characters become '?', so that a line stays one line), %u (uint32_t)
 * and %g (a float, in the shortest form that reads back the same). Nothing is cut off.
 *
 * fl_fail(format, up to five values) writes one line that says what is wrong and ends the program
 * with status 1. fl_warn(format, value) writes one line that begins with "warning: ", and goes on.
 */
#define fl_fail(...)                                                                               \
    (FL_CHECK(__VA_ARGS__), FL_SEVENTH(__VA_ARGS__, FL_FAIL_5, FL_FAIL_5, FL_FAIL_5, FL_FAIL_2,    \
                                       FL_FAIL_2, FL_FAIL_2, )(__VA_ARGS__, 0, 0, ))
#define fl_warn(format, value) (FL_CHECK(format, value), fl_warn_1(format, FL_WORD(value)))

/*
 * Behind them: values as words, a fixed number of them. Variable arguments would go through memory,
 * and take a thirtieth of a whole module. A number is itself, a text its address, a float its bits.
 */
typedef uintptr_t fl_word;

_Noreturn void fl_fail_2(const char *format, fl_word a, fl_word b);
_Noreturn void fl_fail_5(const char *format, fl_word a, fl_word b, fl_word c, fl_word d, fl_word e);
void fl_warn_1(const char *format, fl_word a);

#define FL_SEVENTH(a, b, c, d, e, f, seventh, ...) seventh
#define FL_FAIL_2(format, a, b, ...) fl_fail_2(format, FL_WORD(a), FL_WORD(b))
#define FL_FAIL_5(format, a, b, c, d, e, ...)                                                      \
    fl_fail_5(format, FL_WORD(a), FL_WORD(b), FL_WORD(c), FL_WORD(d), FL_WORD(e))
#define FL_WORD(value)                                                                             \
    _Generic((value),                                                                              \
        char *: fl_word_of_text,                                                                   \
        const char *: fl_word_of_text,                                                             \
        double: fl_word_of_float,                                                                  \
        default: fl_word_of_number)(value)

/* Never called: lets the compiler compare a format with its values. */
int fl_check(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define FL_CHECK(...) (void)sizeof fl_check(__VA_ARGS__)

static inline fl_word fl_word_of_text(const char *text)
{
    return (fl_word)text;
}

static inline fl_word fl_word_of_number(uint32_t number)
{
    return number;
}

static inline fl_word fl_word_of_float(double value)
{
    union {
        float value;
        uint32_t bits;
    } view = {(float)value};

    return view.bits;
}

#endif
