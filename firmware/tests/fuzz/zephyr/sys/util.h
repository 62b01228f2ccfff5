/* See ../kernel.h. */
#ifndef ZEPHYR_SYS_UTIL_H
#define ZEPHYR_SYS_UTIL_H

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define BUILD_ASSERT(...) _Static_assert(__VA_ARGS__, "")
#define IS_ENABLED(option) (option)
#define MIN(a, b) ((a) < (b) ? (a) : (b))

#endif
