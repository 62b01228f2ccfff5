/*
 * Receipts for tasks, kept back until the task is over. The broker keeps what it has no receipt for
 * and sends it again after a restart: so a power cut in the middle of a task loses nothing.
 */
#ifndef TASK_RECEIPTS_H
#define TASK_RECEIPTS_H

#include "fl_proplet.h"

#include <stdint.h>

/* Forgets all: a new session has other message ids. */
void task_receipts_clear(void);

/* The task came in this message. When there is no room, its receipt is sent at once. */
void task_receipts_keep(const char *task_id, uint16_t message_id);

/* Sends the receipts of all tasks that the proplet is through with. */
void task_receipts_send(const struct fl_proplet *proplet);

#endif
