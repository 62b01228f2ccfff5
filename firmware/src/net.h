/* The way to the broker, up to its address. */
#ifndef NET_H
#define NET_H

#include <stdint.h>
#include <zephyr/net/socket.h>

/*
 * Brings the network interface up and asks for an address. Returns at once. 0, or the negative
 * error of the network stack when there is no interface to bring up.
 */
int net_start(void);

/*
 * Waits until there is an address, for at most `limit_ms`. Returns 0, or -ETIMEDOUT. Without an
 * interface of its own (offloaded sockets), the network is always ready.
 */
int net_wait_ready(uint32_t limit_ms);

/*
 * Resolves a name or IPv4 address. Returns 0; -EHOSTUNREACH: the name has no IPv4 address, or
 * nobody who could be asked answered.
 */
int net_resolve(const char *host, uint16_t port, struct sockaddr_in *address);

#endif
