/*
 * Configuration in Zephyr's settings, under "fl/", and the shell command that writes it:
 *
 *   fl set KEY VALUE   keeps it; used from the next start on
 *   fl put KEY PART    takes a part of a value that is longer than a line of the console
 *   fl keep KEY SIZE   keeps the parts since the last "keep" or "set", if they are SIZE characters
 *   fl clear KEY       goes back to what the build says
 *
 * Each answers "fl: done", or a line that begins "fl: refused: " and says why. A console drops
 * what comes faster than it reads, without a word: hence parts, and the size at their end.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zephyr/logging/log.h>
#include <zephyr/settings/settings.h>
#include <zephyr/shell/shell.h>

LOG_MODULE_DECLARE(fl_config, CONFIG_FL_LOG_LEVEL);

#define VALUE_BYTES_MAX 2048 /* a certificate in base64 */
#define NAME_BYTES_MAX 32

/* The value that is loaded, at the start, or typed, later. */
static char value[VALUE_BYTES_MAX];
static size_t value_size;
static char value_name[NAME_BYTES_MAX]; /* whose parts it holds; "" when it holds none */

static int load_one(const char *key, size_t size, settings_read_cb read, void *read_arg,
                    void *param)
{
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

/* 0, or a negative errno after the shell has been told why. */
static int refuse(const struct shell *shell, const char *key, const char *why, int status)
{
    shell_error(shell, "fl: refused: %s: %s (%d)", key, why, status);
    return status;
}

static int done(const struct shell *shell)
{
    shell_print(shell, "fl: done");
    return 0;
}

static int name_of(const struct shell *shell, const char *key, char name[NAME_BYTES_MAX])
{
    if (snprintf(name, NAME_BYTES_MAX, "fl/%s", key) >= NAME_BYTES_MAX) {
        return refuse(shell, key, "there is no such key", -ENOENT);
    }
    return 0;
}

static int keep(const struct shell *shell, const char *key, const char *name, const char *bytes,
                size_t size)
{
    static struct config trial;
    int status = config_apply(&trial, key, bytes, size);

    if (status != 0) {
        return refuse(shell, key, "unknown, too long or impossible", status);
    }
    status = settings_save_one(name, bytes, size);
    if (status != 0) {
        return refuse(shell, key, "it cannot be kept", status);
    }
    return done(shell);
}

static int command_set(const struct shell *shell, size_t count, char **words)
{
    char name[NAME_BYTES_MAX];
    int status = name_of(shell, words[1], name);

    ARG_UNUSED(count);
    value_name[0] = '\0';
    return status != 0 ? status : keep(shell, words[1], name, words[2], strlen(words[2]));
}

static int command_put(const struct shell *shell, size_t count, char **words)
{
    size_t size = strlen(words[2]);
    char name[NAME_BYTES_MAX];
    int status = name_of(shell, words[1], name);

    ARG_UNUSED(count);
    if (status != 0) {
        return status;
    }
    if (strcmp(name, value_name) != 0) {
        strcpy(value_name, name); /* both hold NAME_BYTES_MAX */
        value_size = 0;
    }
    if (size > sizeof(value) - value_size) {
        value_name[0] = '\0';
        return refuse(shell, words[1], "too long", -ENOSPC);
    }
    memcpy(value + value_size, words[2], size);
    value_size += size;
    return done(shell);
}

static int command_keep(const struct shell *shell, size_t count, char **words)
{
    char name[NAME_BYTES_MAX];
    char *end;
    unsigned long size = strtoul(words[2], &end, 10);
    int status = name_of(shell, words[1], name);
    bool whole;

    ARG_UNUSED(count);
    if (status != 0) {
        return status;
    }
    whole = strcmp(name, value_name) == 0 && *end == '\0' && size == value_size;
    value_name[0] = '\0'; /* begun anew, whatever comes of it */
    if (!whole) {
        return refuse(shell, words[1], "parts are missing", -EBADMSG);
    }
    return keep(shell, words[1], name, value, value_size);
}

static int command_clear(const struct shell *shell, size_t count, char **words)
{
    char name[NAME_BYTES_MAX];
    int status = name_of(shell, words[1], name);

    ARG_UNUSED(count);
    if (status != 0) {
        return status;
    }
    status = settings_delete(name);
    return status == 0 ? done(shell) : refuse(shell, words[1], "it cannot be removed", status);
}

SHELL_STATIC_SUBCMD_SET_CREATE(
    fl_commands,
    SHELL_CMD_ARG(set, NULL, "KEY VALUE: used from the next start on", command_set, 3, 0),
    SHELL_CMD_ARG(put, NULL, "KEY PART: of a long value, before keep", command_put, 3, 0),
    SHELL_CMD_ARG(keep, NULL, "KEY SIZE: the parts, used from the next start on", command_keep, 3,
                  0),
    SHELL_CMD_ARG(clear, NULL, "KEY: back to what the build says", command_clear, 2, 0),
    SHELL_SUBCMD_SET_END);
SHELL_CMD_REGISTER(fl, &fl_commands, "Configuration of the proplet", NULL);
