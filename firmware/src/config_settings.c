/*
 * Configuration in Zephyr's settings, under "fl/", and the shell command that writes it:
 *
 *   fl set KEY VALUE   keeps it; used from the next start on
 *   fl clear KEY       goes back to what the build says
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <zephyr/logging/log.h>
#include <zephyr/settings/settings.h>
#include <zephyr/shell/shell.h>

LOG_MODULE_DECLARE(fl_config, CONFIG_FL_LOG_LEVEL);

#define VALUE_BYTES_MAX 2048 /* a certificate in base64 */
#define NAME_BYTES_MAX 32

static int load_one(const char *key, size_t size, settings_read_cb read, void *read_arg,
                    void *param)
{
    static char value[VALUE_BYTES_MAX];
    ssize_t count;
    int status;

    if (size > sizeof(value)) {
        LOG_ERR("settings: fl/%s is too long", key);
        return -ENOSPC;
    }
    count = read(read_arg, value, size);
    if (count < 0) {
        LOG_ERR("settings: fl/%s cannot be read (%d)", key, (int)count);
        return (int)count;
    }
    status = config_apply(param, key, value, (size_t)count);
    if (status != 0) {
        LOG_ERR("settings: fl/%s is unknown or impossible (%d)", key, status);
    }
    return status;
}

int config_from_settings(struct config *config)
{
    int status = settings_subsys_init();

    if (status == 0) {
        status = settings_load_subtree_direct("fl", load_one, config);
    }
    if (status != 0) {
        /* Without its settings a proplet can still be reached and mended over the shell. */
        LOG_ERR("settings: they cannot be loaded (%d)", status);
    }
    return 0;
}

static int name_of(const struct shell *shell, const char *key, char name[NAME_BYTES_MAX])
{
    if (snprintf(name, NAME_BYTES_MAX, "fl/%s", key) >= NAME_BYTES_MAX) {
        shell_error(shell, "there is no key %s", key);
        return -ENOENT;
    }
    return 0;
}

static int command_set(const struct shell *shell, size_t count, char **words)
{
    static struct config trial;
    char name[NAME_BYTES_MAX];
    int status = name_of(shell, words[1], name);

    ARG_UNUSED(count);
    if (status == 0) {
        status = config_apply(&trial, words[1], words[2], strlen(words[2]));
        if (status != 0) {
            shell_error(shell, "%s: unknown, too long or impossible (%d)", words[1], status);
        }
    }
    if (status == 0) {
        status = settings_save_one(name, words[2], strlen(words[2]));
        if (status != 0) {
            shell_error(shell, "%s: it cannot be kept (%d)", words[1], status);
        }
    }
    return status;
}

static int command_clear(const struct shell *shell, size_t count, char **words)
{
    char name[NAME_BYTES_MAX];
    int status = name_of(shell, words[1], name);

    ARG_UNUSED(count);
    if (status == 0) {
        status = settings_delete(name);
        if (status != 0) {
            shell_error(shell, "%s: it cannot be removed (%d)", words[1], status);
        }
    }
    return status;
}

SHELL_STATIC_SUBCMD_SET_CREATE(fl_commands,
                               SHELL_CMD_ARG(set, NULL, "KEY VALUE: used from the next start on",
                                             command_set, 3, 0),
                               SHELL_CMD_ARG(clear, NULL, "KEY: back to what the build says",
                                             command_clear, 2, 0),
                               SHELL_SUBCMD_SET_END);
SHELL_CMD_REGISTER(fl, &fl_commands, "Configuration of the proplet", NULL);
