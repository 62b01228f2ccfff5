/*
 * Who this proplet is and where its broker is.
 *
 * Later sources win over earlier ones: the build (Kconfig), the settings (set over the shell),
 * memory that a debugger or emulator has filled, the command line (native_sim). All but the first
 * speak in keys and values; a text of them has a line "key=value" each, empty lines, and lines that
 * begin with '#'. The keys:
 *
 *   proplet_id, namespace, topic_prefix, own_topics (yes, no), broker_host, broker_port,
 *   broker_user, broker_password, and with TLS, as DER in base64: tls_ca, tls_certificate, tls_key
 */
#ifndef CONFIG_H
#define CONFIG_H

#include "fl_topic.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_HOST_SIZE_MAX 63
#define CONFIG_USER_SIZE_MAX 64
#define CONFIG_PASSWORD_SIZE_MAX 128

struct config {
    char proplet_id[FL_ID_MAX + 1];
    char name_space[FL_ID_MAX + 1];
    char topic_prefix[FL_TOPIC_PREFIX_MAX + 1]; /* may be empty */
    bool own_topics; /* speaks on control topics of its own, not on those that all share */
    char broker_host[CONFIG_HOST_SIZE_MAX + 1]; /* name or IPv4 address */
    uint16_t broker_port;
    char broker_user[CONFIG_USER_SIZE_MAX + 1]; /* empty: none */
    char broker_password[CONFIG_PASSWORD_SIZE_MAX + 1];
};

/*
 * Collects the configuration from all sources. Returns 0; or -EINVAL, and the log says which key of
 * which source is at fault.
 */
int config_load(struct config *config);

/*
 * Sets one key to the `size` characters at `value`. Returns 0; -ENOENT: there is no such key;
 * -EINVAL: such a value is impossible; -ENOSPC: it is too long. After an error nothing has changed.
 */
int config_apply(struct config *config, const char *key, const char *value, size_t size);

/* Sets every key of `text`. Returns as config_apply() for the first line at fault, which is logged.
 */
int config_apply_text(struct config *config, const char *text, size_t size);

/*
 * The sources, each built where there is one. They return 0, also when they have nothing to say, or
 * as config_apply_text(), or the negative error of their medium.
 */
int config_from_settings(struct config *config);
int config_from_loaded_memory(struct config *config);
int config_from_command_line(struct config *config);

#endif
