/* See ../kernel.h. What is logged is formatted, so that a sanitizer sees what it reads. */
#ifndef ZEPHYR_LOGGING_LOG_H
#define ZEPHYR_LOGGING_LOG_H

#include <stdio.h>

#define LOG_MODULE_REGISTER(...) _Static_assert(1, "")
#define LOG_LINE(...)                                                                              \
    do {                                                                                           \
        char line[512];                                                                            \
        (void)snprintf(line, sizeof(line), __VA_ARGS__);                                           \
    } while (0)
#define LOG_ERR(...) LOG_LINE(__VA_ARGS__)
#define LOG_WRN(...) LOG_LINE(__VA_ARGS__)
#define LOG_INF(...) LOG_LINE(__VA_ARGS__)

#endif
