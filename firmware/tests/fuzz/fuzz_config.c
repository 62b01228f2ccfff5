/* A text of configuration keys: what is accepted keeps the rules, what is not changes nothing. */
#define CONFIG_ARCH_POSIX 0
#define CONFIG_FL_BROKER_HOST "broker.local"
#define CONFIG_FL_BROKER_PORT 1883
#define CONFIG_FL_BROKER_USER ""
#define CONFIG_FL_LOADED_CONFIG 0
#define CONFIG_FL_NAMESPACE "default"
#define CONFIG_FL_OWN_TOPICS 0
#define CONFIG_FL_PROPLET_ID ""
#define CONFIG_FL_SETTINGS 0
#define CONFIG_FL_TLS 1
#define CONFIG_FL_TLS_CERTIFICATE_BYTES_MAX 64
#define CONFIG_FL_TOPIC_PREFIX ""

#include "config.c"

#include <stdlib.h>

/* What config.c does not reach here. */

int config_from_settings(struct config *config)
{
    (void)config;
    return 0;
}

int config_from_loaded_memory(struct config *config)
{
    (void)config;
    return 0;
}

int config_from_command_line(struct config *config)
{
    (void)config;
    return 0;
}

int tls_credentials_put(const char *key, const char *base64, size_t size)
{
    (void)base64;
    (void)size;
    return strncmp(key, "tls_", 4) == 0 ? 0 : -ENOENT;
}

bool board_info_derived_id(char *out, size_t capacity)
{
    return fl_text_copy(out, capacity, "zephyr-0");
}

static bool ends(const char *text, size_t capacity)
{
    return memchr(text, '\0', capacity) != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config config;

    if (config_load(&config) != 0) {
        abort();
    }
    (void)config_apply_text(&config, (const char *)data, size);
    if (!ends(config.proplet_id, sizeof(config.proplet_id)) ||
        !ends(config.name_space, sizeof(config.name_space)) ||
        !ends(config.topic_prefix, sizeof(config.topic_prefix)) ||
        !ends(config.broker_host, sizeof(config.broker_host)) ||
        !ends(config.broker_user, sizeof(config.broker_user)) ||
        !ends(config.broker_password, sizeof(config.broker_password))) {
        abort();
    }
    if (!fl_id_valid(config.proplet_id, strlen(config.proplet_id)) ||
        !fl_topic_prefix_valid(config.topic_prefix) || config.broker_port == 0) {
        abort();
    }
    return 0;
}
