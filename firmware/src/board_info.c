#include "board_info.h"

#include "fl_text.h"

#include <app_version.h>
#include <zephyr/net/net_if.h>
#include <zephyr/sys/util.h>

void board_info_describe(struct fl_discovery *discovery)
{
    discovery->description = "Zephyr proplet";
    discovery->board = CONFIG_BOARD_TARGET;
    discovery->os = "zephyr";
    discovery->arch = CONFIG_ARCH;
    discovery->version = APP_VERSION_STRING;
    discovery->runtime = "wamr";
    /* native_sim has no RAM of a size: there, what a module may use is told. */
    discovery->memory_bytes =
        CONFIG_SRAM_SIZE > 0 ? KB((uint64_t)CONFIG_SRAM_SIZE) : CONFIG_FL_WASM_POOL_BYTES;
}

bool board_info_derived_id(char *out, size_t capacity)
{
    struct net_if *interface = net_if_get_default();
    const struct net_linkaddr *address = interface == NULL ? NULL : net_if_get_link_addr(interface);
    struct fl_text text;

    if (address == NULL || address->len == 0) {
        return false;
    }
    fl_text_begin(&text, out, capacity);
    fl_text_put(&text, "zephyr-");
    for (size_t i = 0; i < address->len; i++) {
        const char *digits = "0123456789abcdef";

        fl_text_put_n(&text, &digits[address->addr[i] >> 4], 1);
        fl_text_put_n(&text, &digits[address->addr[i] & 0x0f], 1);
    }
    return fl_text_ok(&text);
}
