/*
 * Fetching an image or a model: asking for it, taking its bytes as they arrive, checking them. One
 * at a time. What comes of it is an event for the proplet's state machine.
 */
#ifndef FETCH_H
#define FETCH_H

#include "fl_message.h"
#include "fl_proplet.h"
#include "fl_topic.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* `prefix` of all topics; outlives it. */
void fetch_begin(const char *prefix);

/*
 * Carries out FL_DO_FETCH_IMAGE, FL_DO_FETCH_MODEL. Returns true when it is over at once, and
 * `event` then says how.
 */
bool fetch_image(const struct fl_action *action, struct fl_event *event);
bool fetch_model(const struct fl_action *action, struct fl_event *event);

/*
 * To be called from time to time. What is published retained while a broker takes a SUBSCRIBE can
 * arrive neither as retained nor as new (seen with nats-server), so as long as nothing has come,
 * this asks again, at first after a second and then ever less often. Returns when it wants to be
 * called next, in ms of uptime; INT64_MAX when nothing is waited for.
 */
int64_t fetch_ask_again(int64_t now_ms);

/* Carries out FL_DO_CANCEL_FETCH; also when the connection is gone. */
void fetch_cancel(void);

/*
 * A message of `payload_bytes` arrives on a topic of this kind and name. Returns whether it is the
 * one that is waited for: then fetch_bytes() takes its payload and fetch_end() its end.
 */
bool fetch_wants(const struct fl_topic *topic, uint32_t payload_bytes);
void fetch_bytes(const uint8_t *bytes, size_t size);

/* Returns true when the fetch is over; `event` then says how. */
bool fetch_end(struct fl_event *event);

/* The chunks of an image from the registry, while one is fetched from there; else NULL. */
struct fl_image_chunks *fetch_chunks(void);

/* A chunk was decoded. Returns as fetch_end() does. */
bool fetch_chunk_end(struct fl_event *event);

/*
 * A stream for the image that a task brings along, into the store; fetch_image() of source
 * FL_IMAGE_FILE then completes it. The store keeps what it has until the first byte is written.
 */
struct fl_stream *fetch_file_stream(void);

/* The model fetched last. `*size_bytes` is 0 when there is none. */
const uint8_t *fetch_model_bytes(uint32_t *size_bytes);

#endif
