/*
 * Messages as they arrive, turned into events for the proplet's state machine. A message is decoded
 * piece by piece; none is ever held whole.
 */
#ifndef INBOX_H
#define INBOX_H

#include "fl_proplet.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* `prefix` of all topics, and the proplet: both outlive it, and only its state is asked. */
void inbox_begin(const char *prefix, const struct fl_proplet *proplet);

void inbox_message(const char *topic, size_t topic_size, uint32_t payload_bytes);
void inbox_bytes(const uint8_t *bytes, size_t size);

/*
 * The message is complete. Returns whether there is an event; its pointers hold until the next
 * inbox_message().
 */
bool inbox_end(struct fl_event *event);

#endif
