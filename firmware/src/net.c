#include "net.h"

#include <errno.h>
#include <string.h>
#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>
#include <zephyr/net/conn_mgr_connectivity.h>
#include <zephyr/net/dhcpv4.h>
#include <zephyr/net/net_if.h>

LOG_MODULE_REGISTER(fl_net, CONFIG_FL_LOG_LEVEL);

#define READY_POLL_MS 100

static struct in_addr *own_address(void)
{
    return net_if_ipv4_get_global_addr(net_if_get_default(), NET_ADDR_PREFERRED);
}

int net_start(void)
{
    struct net_if *interface = net_if_get_default();
    int status;

    if (IS_ENABLED(CONFIG_NET_SOCKETS_OFFLOAD)) {
        return 0;
    }
    if (interface == NULL) {
        LOG_ERR("there is no network interface");
        return -ENODEV;
    }
    status = net_if_up(interface);
    if (status != 0 && status != -EALREADY) {
        LOG_ERR("the network interface does not come up (%d)", status);
        return status;
    }
    if (IS_ENABLED(CONFIG_NET_CONNECTION_MANAGER)) {
        /* what must be joined first, Wi-Fi say; a cable needs none of it */
        status = conn_mgr_all_if_connect(true);
        if (status != 0) {
            LOG_ERR("the connection manager cannot begin (%d)", status);
            return status;
        }
    }
    if (IS_ENABLED(CONFIG_NET_DHCPV4)) {
        net_dhcpv4_start(interface);
    }
    return 0;
}

int net_wait_ready(uint32_t limit_ms)
{
    k_timepoint_t end = sys_timepoint_calc(K_MSEC(limit_ms));
    char text[NET_IPV4_ADDR_LEN];

    if (IS_ENABLED(CONFIG_NET_SOCKETS_OFFLOAD)) {
        return 0;
    }
    while (own_address() == NULL) {
        if (sys_timepoint_expired(end)) {
            return -ETIMEDOUT;
        }
        k_msleep(READY_POLL_MS);
    }
    LOG_INF("address %s", net_addr_ntop(AF_INET, own_address(), text, sizeof(text)));
    return 0;
}

int net_resolve(const char *host, uint16_t port, struct sockaddr_in *address)
{
    struct zsock_addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct zsock_addrinfo *found = NULL;

    memset(address, 0, sizeof(*address));
    address->sin_family = AF_INET;
    if (zsock_inet_pton(AF_INET, host, &address->sin_addr) != 1) {
        int status = zsock_getaddrinfo(host, NULL, &hints, &found);

        if (status != 0 || found == NULL) {
            LOG_ERR("%s: no address for this name (%d)", host, status);
            return -EHOSTUNREACH;
        }
        memcpy(address, found->ai_addr, sizeof(*address));
        zsock_freeaddrinfo(found);
    }
    address->sin_port = htons(port);
    return 0;
}
