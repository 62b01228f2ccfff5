/* Messages that this proplet sends. What cannot be sent ends the session, and is sent in the next.
 */
#ifndef OUTBOX_H
#define OUTBOX_H

#include "config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* `config` outlives it. Returns 0; -ENOSPC when an identity is too long for its messages. */
int outbox_begin(const struct config *config);

/* The last will: where, and what. Constants once outbox_begin() is through. */
const char *outbox_will_topic(void);
const char *outbox_will_payload(void);

void outbox_discovery(void);
void outbox_alive(void);

/* The update, as it is, to the round's topic. */
void outbox_update(const char *round_id, const uint8_t *bytes, size_t size);

/*
 * A task's result: `error`, or NULL and the `size` bytes of `output`, or NULL and NULL. Sets the
 * `*message_id` (may be NULL) that the broker's receipt will name. `scratch` of `scratch_bytes` is
 * used for the encoding; output that does not fit there is reported as an error instead.
 */
void outbox_result(const char *task_id, const char *error, const uint8_t *output, size_t size,
                   char *scratch, size_t scratch_bytes, uint16_t *message_id);

#endif
