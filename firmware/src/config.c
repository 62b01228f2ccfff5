#include "config.h"

#include "board_info.h"
#include "tls_credentials.h"

#include "fl_text.h"

#include <errno.h>
#include <string.h>
#include <zephyr/logging/log.h>
#include <zephyr/sys/util.h>

LOG_MODULE_REGISTER(fl_config, CONFIG_FL_LOG_LEVEL);

#define KEY_SIZE_MAX 24

/* strings */

enum rule {
    RULE_ANY,
    RULE_ID,
    RULE_PREFIX,
};

struct key {
    const char *name;
    size_t offset;
    size_t capacity; /* with the NUL */
    enum rule rule;
};

#define KEY(name, member, rule)                                                                    \
    {                                                                                              \
        name, offsetof(struct config, member), sizeof(((struct config *)NULL)->member), rule       \
    }

static const struct key keys[] = {
    KEY("proplet_id", proplet_id, RULE_ID),
    KEY("namespace", name_space, RULE_ID),
    KEY("topic_prefix", topic_prefix, RULE_PREFIX),
    KEY("broker_host", broker_host, RULE_ANY),
    KEY("broker_user", broker_user, RULE_ANY),
    KEY("broker_password", broker_password, RULE_ANY),
};

static bool keeps_rule(enum rule rule, const char *value, size_t size)
{
    switch (rule) {
    case RULE_ID:
        return fl_id_valid(value, size);
    case RULE_PREFIX:
        return fl_topic_prefix_valid(value);
    default:
        return true;
    }
}

static int apply_string(struct config *config, const struct key *key, const char *value,
                        size_t size)
{
    char text[CONFIG_PASSWORD_SIZE_MAX + 1];

    BUILD_ASSERT(sizeof(text) > FL_TOPIC_PREFIX_MAX && sizeof(text) > CONFIG_HOST_SIZE_MAX);
    if (size >= key->capacity) {
        return -ENOSPC;
    }
    memcpy(text, value, size);
    text[size] = '\0';
    if (strlen(text) != size || !keeps_rule(key->rule, text, size)) {
        return -EINVAL;
    }
    memcpy((char *)config + key->offset, text, size + 1);
    return 0;
}

static int apply_port(struct config *config, const char *value, size_t size)
{
    uint32_t port = 0;

    if (size < 1 || size > 5) {
        return -EINVAL;
    }
    for (size_t i = 0; i < size; i++) {
        if (value[i] < '0' || value[i] > '9') {
            return -EINVAL;
        }
        port = port * 10 + (uint32_t)(value[i] - '0');
    }
    if (port < 1 || port > UINT16_MAX) {
        return -EINVAL;
    }
    config->broker_port = (uint16_t)port;
    return 0;
}

static int apply_flag(bool *flag, const char *value, size_t size)
{
    if (size == 3 && memcmp(value, "yes", size) == 0) {
        *flag = true;
    } else if (size == 2 && memcmp(value, "no", size) == 0) {
        *flag = false;
    } else {
        return -EINVAL;
    }
    return 0;
}

int config_apply(struct config *config, const char *key, const char *value, size_t size)
{
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        if (strcmp(keys[i].name, key) == 0) {
            return apply_string(config, &keys[i], value, size);
        }
    }
    if (strcmp(key, "broker_port") == 0) {
        return apply_port(config, value, size);
    }
    if (strcmp(key, "own_topics") == 0) {
        return apply_flag(&config->own_topics, value, size);
    }
    if (IS_ENABLED(CONFIG_FL_TLS)) {
        return tls_credentials_put(key, value, size);
    }
    return -ENOENT;
}

/* text */

static int apply_line(struct config *config, const char *line, size_t size)
{
    char key[KEY_SIZE_MAX + 1];
    const char *equals = memchr(line, '=', size);
    size_t key_size = equals == NULL ? 0 : (size_t)(equals - line);
    int status;

    if (size == 0 || line[0] == '#') {
        return 0;
    }
    if (key_size < 1 || key_size > KEY_SIZE_MAX) {
        LOG_ERR("configuration: a line is not \"key=value\"");
        return -EINVAL;
    }
    memcpy(key, line, key_size);
    key[key_size] = '\0';
    status = config_apply(config, key, equals + 1, size - key_size - 1);
    if (status != 0) {
        LOG_ERR("configuration: %s: %s", key,
                status == -ENOENT   ? "there is no such key"
                : status == -ENOSPC ? "the value is too long"
                                    : "such a value is impossible");
    }
    return status;
}

int config_apply_text(struct config *config, const char *text, size_t size)
{
    while (size > 0) {
        const char *newline = memchr(text, '\n', size);
        size_t line_size = newline == NULL ? size : (size_t)(newline - text);
        size_t used = newline == NULL ? size : line_size + 1;
        int status;

        if (line_size > 0 && text[line_size - 1] == '\r') {
            line_size--;
        }
        status = apply_line(config, text, line_size);
        if (status != 0) {
            return status;
        }
        text += used;
        size -= used;
    }
    return 0;
}

/* all together */

static int apply_build(struct config *config)
{
    static const struct {
        const char *key;
        const char *value;
    } defaults[] = {
        {"proplet_id", CONFIG_FL_PROPLET_ID},           {"namespace", CONFIG_FL_NAMESPACE},
        {"topic_prefix", CONFIG_FL_TOPIC_PREFIX},       {"broker_host", CONFIG_FL_BROKER_HOST},
        {"broker_user", CONFIG_FL_BROKER_USER},
#ifdef CONFIG_FL_BROKER_PASSWORD
        {"broker_password", CONFIG_FL_BROKER_PASSWORD},
#endif
    };

    memset(config, 0, sizeof(*config));
    config->broker_port = CONFIG_FL_BROKER_PORT;
    config->own_topics = IS_ENABLED(CONFIG_FL_OWN_TOPICS);
    for (size_t i = 0; i < ARRAY_SIZE(defaults); i++) {
        const char *value = defaults[i].value;

        if (value[0] != '\0' && config_apply(config, defaults[i].key, value, strlen(value)) != 0) {
            LOG_ERR("configuration: %s of the build is impossible or too long", defaults[i].key);
            return -EINVAL;
        }
    }
    return 0;
}

int config_load(struct config *config)
{
    int status = apply_build(config);

    if (status == 0 && IS_ENABLED(CONFIG_FL_SETTINGS)) {
        status = config_from_settings(config);
    }
    if (status == 0 && IS_ENABLED(CONFIG_FL_LOADED_CONFIG)) {
        status = config_from_loaded_memory(config);
    }
    if (status == 0 && IS_ENABLED(CONFIG_ARCH_POSIX)) {
        status = config_from_command_line(config);
    }
    if (status != 0) {
        return -EINVAL;
    }
    if (config->proplet_id[0] == '\0' &&
        !board_info_derived_id(config->proplet_id, sizeof(config->proplet_id))) {
        LOG_ERR("configuration: proplet_id is empty, and this machine has no hardware address to "
                "derive it from; set it");
        return -EINVAL;
    }
    return 0;
}
