/* Lines on stderr. A client that fails says why in one line and ends; there is no way back. */
#ifndef FL_REPORT_H
#define FL_REPORT_H

#define FL_FORMAT(at) __attribute__((format(printf, at, (at) + 1)))

/*
 * The formats know %s (control characters become '?', so that a line stays one line), %u (uint32_t)
 * and %g (a float, in the shortest form that reads back the same). Nothing is cut off.
 */

/* Writes one line that says what is wrong and ends the program with status 1. */
_Noreturn void fl_fail(const char *format, ...) FL_FORMAT(1);

/* Writes one line that begins with "warning: ", and goes on. */
void fl_warn(const char *format, ...) FL_FORMAT(1);

#endif
