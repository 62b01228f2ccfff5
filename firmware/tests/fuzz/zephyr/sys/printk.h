/* See ../kernel.h. */
#ifndef ZEPHYR_SYS_PRINTK_H
#define ZEPHYR_SYS_PRINTK_H

#include <stdio.h>

#define snprintk snprintf

#endif
