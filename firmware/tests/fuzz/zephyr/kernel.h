/* Of Zephyr as much as the fuzzed files of ../../src use, for a program of the host. */
#ifndef ZEPHYR_KERNEL_H
#define ZEPHYR_KERNEL_H

#include <stdint.h>

int64_t k_uptime_get(void);

#endif
