#include "config.h"
#include "net.h"
#include "supervisor.h"
#include "tls_credentials.h"

#include <app_version.h>
#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>

LOG_MODULE_REGISTER(fl_main, CONFIG_FL_LOG_LEVEL);

BUILD_ASSERT(!IS_ENABLED(CONFIG_TEST_RANDOM_GENERATOR) || IS_ENABLED(CONFIG_FL_TEST_RANDOM) ||
                 IS_ENABLED(CONFIG_ARCH_POSIX),
             "TEST_RANDOM_GENERATOR is not random: a real board needs a source of entropy");

int main(void)
{
    static struct config config;

    LOG_INF("proplet %s on %s", APP_VERSION_STRING, CONFIG_BOARD_TARGET);
    if (net_start() != 0 || config_load(&config) != 0) {
        return 0; /* the log has said why; over the shell, where there is one, it can be mended */
    }
    if (IS_ENABLED(CONFIG_FL_TLS) && tls_credentials_register() != 0) {
        return 0;
    }
    if (supervisor_begin(&config) != 0) {
        return 0;
    }
    LOG_INF("proplet_id %s, broker %s:%u", config.proplet_id, config.broker_host,
            config.broker_port);
    while (net_wait_ready(CONFIG_FL_NETWORK_LIMIT_S * MSEC_PER_SEC) != 0) {
        LOG_WRN("there is no address yet");
    }
    supervisor_run();
}
