/* What this machine is, as it tells the manager. */
#ifndef BOARD_INFO_H
#define BOARD_INFO_H

#include "fl_message.h"

#include <stdbool.h>
#include <stddef.h>

/* Fills in all but proplet_id and name_space. The strings are constants. */
void board_info_describe(struct fl_discovery *discovery);

/*
 * Writes "zephyr-" and the network interface's hardware address in hexadecimal. Returns false when
 * the interface has none or it does not fit.
 */
bool board_info_derived_id(char *out, size_t capacity);

#endif
