/*
 * The MQTT session with the broker, on one thread: its caller's. Nothing is done behind the
 * caller's back; payloads are moved in pieces as they arrive, never collected.
 */
#ifndef MQTT_SESSION_H
#define MQTT_SESSION_H

#include "config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum session_state {
    SESSION_CLOSED,
    SESSION_CONNECTING, /* the broker has not answered CONNECT yet */
    SESSION_OPEN,
};

/*
 * Called from session_connect() and session_step(). They may publish, subscribe and acknowledge,
 * but not connect or step.
 */
struct session_handlers {
    void (*opened)(void);
    void (*closed)(void);
    /* The broker has taken the message that session_publish() numbered `message_id`. */
    void (*delivered)(uint16_t message_id);
    /* A message: once begin, any number of bytes, and once end, unless the session closes first. */
    void (*message_begin)(const char *topic, size_t topic_size, uint32_t payload_bytes);
    void (*message_bytes)(const uint8_t *bytes, size_t size);
    /*
     * `message_id` is 0 when the broker wants no receipt; else session_acknowledge() is to be
     * called with it, now or later.
     */
    void (*message_end)(uint16_t message_id);
};

/*
 * Prepares the session. `config`, `handlers` and the strings outlive it. `will_topic` and
 * `will_payload` are what the broker publishes when the proplet vanishes.
 */
void session_begin(const struct config *config, const struct session_handlers *handlers,
                   const char *will_topic, const char *will_payload);

enum session_state session_state(void);

/*
 * Connects. Returns 0: CONNECT is sent, `opened` or `closed` follows from session_step(). Otherwise
 * the negative error of the resolver, the socket, TLS or the MQTT client, and nothing follows.
 */
int session_connect(void);

/* Waits up to `limit_ms` for something to arrive and handles it. Keeps the connection alive. */
void session_step(uint32_t limit_ms);

/* Closes the connection without a goodbye: the broker publishes the will. */
void session_abort(void);

/*
 * Sends a message with QoS 1. `*message_id` (may be NULL) is what `delivered` will name. Returns 0,
 * or a negative error, after which the session is closed or about to be.
 */
int session_publish(const char *topic, const void *payload, size_t size, uint16_t *message_id);

/* Subscribe with QoS 1, unsubscribe, acknowledge. Return as session_publish() does. */
int session_subscribe(const char *topic);
int session_unsubscribe(const char *topic);
int session_acknowledge(uint16_t message_id);

#endif
