#include "wasi_private.h"

#include <string.h>

#define DIR_NAME "/fl"

#define RIGHT_FD_WRITE (1ull << 6)
#define RIGHT_FD_ALLOCATE (1ull << 8)
#define RIGHT_FD_FILESTAT_SET_SIZE (1ull << 22)
#define RIGHTS_THAT_WRITE (RIGHT_FD_WRITE | RIGHT_FD_ALLOCATE | RIGHT_FD_FILESTAT_SET_SIZE)

enum {
    OPEN_CREATE = 1,
    OPEN_DIRECTORY = 2,
    OPEN_EXCLUSIVE = 4,
    OPEN_TRUNCATE = 8,
    OPEN_FLAGS = 15,
};

uint32_t fl_wasi_fd_prestat_get(struct fl_wasi *wasi, struct fl_wasi_memory memory, uint32_t fd,
                                uint32_t prestat_out)
{
    struct fl_wasi_open_file *file;
    uint8_t *prestat = wasi_at(memory, prestat_out, 8);

    if (wasi_kind(wasi, fd, &file) != WASI_KIND_DIR) {
        return FL_WASI_BADF;
    }
    if (prestat == NULL) {
        return FL_WASI_FAULT;
    }
    memset(prestat, 0, 8); /* kind 0: a directory */
    wasi_store_u32(prestat + 4, (uint32_t)strlen(DIR_NAME));
    return FL_WASI_SUCCESS;
}

uint32_t fl_wasi_fd_prestat_dir_name(struct fl_wasi *wasi, struct fl_wasi_memory memory,
                                     uint32_t fd, uint32_t path, uint32_t path_size)
{
    struct fl_wasi_open_file *file;
    uint8_t *name = wasi_at(memory, path, path_size);

    if (wasi_kind(wasi, fd, &file) != WASI_KIND_DIR) {
        return FL_WASI_BADF;
    }
    if (name == NULL) {
        return FL_WASI_FAULT;
    }
    if (path_size < strlen(DIR_NAME)) {
        return FL_WASI_NAMETOOLONG;
    }
    memcpy(name, DIR_NAME, strlen(DIR_NAME));
    return FL_WASI_SUCCESS;
}

static bool is_component(const char *path, uint32_t size, const char *name)
{
    return size == strlen(name) && memcmp(path, name, size) == 0;
}

/*
 * The file that `path` names, below /fl. A path is components between slashes; "." is passed over,
 * ".." leads out and is refused wherever it stands.
 */
static uint32_t find_file(const struct fl_wasi *wasi, const char *path, uint32_t size,
                          const struct fl_wasi_file **found)
{
    uint32_t at = 0;
    bool named = false;
    bool below = false;

    *found = NULL;
    if (size > 0 && path[0] == '/') {
        return FL_WASI_PERM;
    }
    while (at < size) {
        const char *component = path + at;
        const char *slash = memchr(component, '/', size - at);
        uint32_t length = slash == NULL ? size - at : (uint32_t)(slash - component);

        at = slash == NULL ? size : at + length + 1u;
        if (is_component(component, length, "..")) {
            return FL_WASI_PERM;
        }
        if (named || length == 0 || is_component(component, length, ".")) {
            continue;
        }
        named = true;
        below = slash != NULL; /* "model/" wants a directory */
        for (uint32_t i = 0; i < wasi->config.file_count; i++) {
            if (is_component(component, length, wasi->config.files[i].name)) {
                *found = &wasi->config.files[i];
            }
        }
    }
    if (size > 0 && !named) {
        return FL_WASI_ISDIR;
    }
    if (*found == NULL) {
        return FL_WASI_NOENT;
    }
    return below ? FL_WASI_NOTDIR : FL_WASI_SUCCESS;
}

uint32_t fl_wasi_path_open(struct fl_wasi *wasi, struct fl_wasi_memory memory, uint32_t dir_fd,
                           uint32_t dir_flags, uint32_t path, uint32_t path_size,
                           uint32_t open_flags, uint64_t rights_base, uint64_t rights_inheriting,
                           uint32_t fd_flags, uint32_t fd_out)
{
    struct fl_wasi_open_file *open_file;
    const struct fl_wasi_file *file;
    const uint8_t *name = wasi_at(memory, path, path_size);
    uint8_t *out = wasi_at(memory, fd_out, 4);
    uint32_t status;

    /* Nothing to follow, nothing below, nothing to append to: these change nothing here. */
    (void)dir_flags;
    (void)rights_inheriting;
    (void)fd_flags;
    switch (wasi_kind(wasi, dir_fd, &open_file)) {
    case WASI_KIND_DIR:
        break;
    case WASI_KIND_NONE:
        return FL_WASI_BADF;
    default:
        return FL_WASI_NOTDIR;
    }
    if (name == NULL || out == NULL) {
        return FL_WASI_FAULT;
    }
    if ((open_flags & ~(uint32_t)OPEN_FLAGS) != 0) {
        return FL_WASI_INVAL;
    }
    if ((open_flags & (OPEN_CREATE | OPEN_EXCLUSIVE | OPEN_TRUNCATE)) != 0 ||
        (rights_base & RIGHTS_THAT_WRITE) != 0) {
        return FL_WASI_PERM;
    }
    status = find_file(wasi, (const char *)name, path_size, &file);
    if (status != FL_WASI_SUCCESS) {
        return status;
    }
    if ((open_flags & OPEN_DIRECTORY) != 0) {
        return FL_WASI_NOTDIR;
    }
    for (uint32_t slot = 0; slot < FL_WASI_OPEN_MAX; slot++) {
        if (wasi->open[slot].file == NULL) {
            wasi->open[slot].file = file;
            wasi->open[slot].position = 0;
            wasi_store_u32(out, FL_WASI_FIRST_FILE_FD + slot);
            return FL_WASI_SUCCESS;
        }
    }
    return FL_WASI_MFILE;
}
