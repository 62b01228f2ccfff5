#include "wasi_private.h"

#include <string.h>

enum {
    SEEK_FROM_START = 0,
    SEEK_FROM_HERE = 1,
    SEEK_FROM_END = 2,
};

enum {
    FILE_TYPE_UNKNOWN = 0, /* standard streams: nobody is at a terminal */
    FILE_TYPE_DIRECTORY = 3,
    FILE_TYPE_REGULAR = 4,
};

#define FD_FLAGS 31u /* append, dsync, nonblock, rsync, sync */

#define RIGHT_FD_READ (1ull << 1)
#define RIGHT_FD_SEEK (1ull << 2)
#define RIGHT_FD_TELL (1ull << 5)
#define RIGHT_FD_WRITE (1ull << 6)
#define RIGHT_PATH_OPEN (1ull << 13)
#define RIGHT_FD_FILESTAT_GET (1ull << 21)
#define RIGHTS_FILE (RIGHT_FD_READ | RIGHT_FD_SEEK | RIGHT_FD_TELL | RIGHT_FD_FILESTAT_GET)

bool fl_wasi_read_memory(void *user, uint32_t offset, uint8_t *out, size_t size)
{
    memcpy(out, (const uint8_t *)user + offset, size);
    return true;
}

enum wasi_fd_kind wasi_kind(struct fl_wasi *wasi, uint32_t fd, struct fl_wasi_open_file **file)
{
    *file = NULL;
    if (fd < FL_WASI_FIRST_FILE_FD) {
        if ((wasi->closed >> fd & 1u) != 0) {
            return WASI_KIND_NONE;
        }
        return fd == WASI_FD_DIR ? WASI_KIND_DIR : WASI_KIND_STREAM;
    }
    if (fd - FL_WASI_FIRST_FILE_FD >= FL_WASI_OPEN_MAX ||
        wasi->open[fd - FL_WASI_FIRST_FILE_FD].file == NULL) {
        return WASI_KIND_NONE;
    }
    *file = &wasi->open[fd - FL_WASI_FIRST_FILE_FD];
    return WASI_KIND_FILE;
}

/* The open file of `fd`; else the errno that says why there is none. */
static uint32_t need_file(struct fl_wasi *wasi, uint32_t fd, struct fl_wasi_open_file **file)
{
    switch (wasi_kind(wasi, fd, file)) {
    case WASI_KIND_FILE:
        return FL_WASI_SUCCESS;
    case WASI_KIND_DIR:
        return FL_WASI_ISDIR;
    case WASI_KIND_STREAM:
        return FL_WASI_SPIPE;
    default:
        return FL_WASI_BADF;
    }
}

uint32_t fl_wasi_fd_close(struct fl_wasi *wasi, struct fl_wasi_memory memory, uint32_t fd)
{
    struct fl_wasi_open_file *file;

    (void)memory;
    switch (wasi_kind(wasi, fd, &file)) {
    case WASI_KIND_NONE:
        return FL_WASI_BADF;
    case WASI_KIND_FILE:
        file->file = NULL;
        return FL_WASI_SUCCESS;
    default:
        wasi->closed |= 1u << fd;
        return FL_WASI_SUCCESS;
    }
}

/* Fills checked buffers from `file` at `offset`, up to the file's end. */
static uint32_t read_at(const struct fl_wasi_file *file, uint64_t offset,
                        const struct wasi_iovs *iovs, uint32_t *done)
{
    *done = 0;
    for (uint32_t i = 0; i < iovs->count; i++) {
        uint32_t size;
        uint8_t *buffer = wasi_iovs_buffer(iovs, i, &size);
        uint32_t left = 0;

        if (offset < file->size_bytes) {
            left = file->size_bytes - (uint32_t)offset;
        }
        if (buffer == NULL) {
            return FL_WASI_FAULT;
        }
        size = size < left ? size : left;
        if (size == 0) {
            continue;
        }
        if (!file->read(file->user, (uint32_t)offset, buffer, size)) {
            return FL_WASI_IO;
        }
        offset += size;
        *done += size;
    }
    return FL_WASI_SUCCESS;
}

uint32_t fl_wasi_fd_read(struct fl_wasi *wasi, struct fl_wasi_memory memory, uint32_t fd,
                         uint32_t iovs_at, uint32_t iov_count, uint32_t read_out)
{
    struct fl_wasi_open_file *file;
    struct wasi_iovs iovs;
    uint8_t *out = wasi_at(memory, read_out, 4);
    uint32_t done = 0;
    uint32_t status = need_file(wasi, fd, &file);
    bool from_stdin = status == FL_WASI_SPIPE && fd == WASI_FD_STDIN;

    if (status != FL_WASI_SUCCESS && !from_stdin) {
        return status == FL_WASI_SPIPE ? FL_WASI_BADF
                                       : status; /* stdout and stderr cannot be read */
    }
    status = wasi_iovs_check(&iovs, memory, iovs_at, iov_count);
    if (status != FL_WASI_SUCCESS) {
        return status;
    }
    if (out == NULL) {
        return FL_WASI_FAULT;
    }
    if (!from_stdin) {
        status = read_at(file->file, file->position, &iovs, &done);
        if (status != FL_WASI_SUCCESS) {
            return status;
        }
        file->position += done;
    }
    wasi_store_u32(out, done);
    return FL_WASI_SUCCESS;
}

uint32_t fl_wasi_fd_pread(struct fl_wasi *wasi, struct fl_wasi_memory memory, uint32_t fd,
                          uint32_t iovs_at, uint32_t iov_count, uint64_t offset, uint32_t read_out)
{
    struct fl_wasi_open_file *file;
    struct wasi_iovs iovs;
    uint8_t *out = wasi_at(memory, read_out, 4);
    uint32_t done;
    uint32_t status = need_file(wasi, fd, &file);

    if (status == FL_WASI_SUCCESS) {
        status = wasi_iovs_check(&iovs, memory, iovs_at, iov_count);
    }
    if (status == FL_WASI_SUCCESS && out == NULL) {
        status = FL_WASI_FAULT;
    }
    if (status == FL_WASI_SUCCESS) {
        status = read_at(file->file, offset, &iovs, &done);
    }
    if (status == FL_WASI_SUCCESS) {
        wasi_store_u32(out, done);
    }
    return status;
}

uint32_t fl_wasi_fd_seek(struct fl_wasi *wasi, struct fl_wasi_memory memory, uint32_t fd,
                         uint64_t offset, uint32_t whence, uint32_t position_out)
{
    struct fl_wasi_open_file *file;
    uint8_t *out = wasi_at(memory, position_out, 8);
    uint32_t status = need_file(wasi, fd, &file);
    bool back = offset > (uint64_t)INT64_MAX; /* its sign bit is set */
    uint64_t from;

    if (status != FL_WASI_SUCCESS) {
        return status;
    }
    if (out == NULL) {
        return FL_WASI_FAULT;
    }
    switch (whence) {
    case SEEK_FROM_START:
        from = 0;
        break;
    case SEEK_FROM_HERE:
        from = file->position;
        break;
    case SEEK_FROM_END:
        from = file->file->size_bytes;
        break;
    default:
        return FL_WASI_INVAL;
    }
    /* Positions stay within 0..INT64_MAX, so neither comparison can wrap. */
    if (back ? from < 0 - offset : from > (uint64_t)INT64_MAX - offset) {
        return FL_WASI_INVAL;
    }
    file->position = from + offset;
    wasi_store_u64(out, file->position);
    return FL_WASI_SUCCESS;
}

uint32_t fl_wasi_fd_tell(struct fl_wasi *wasi, struct fl_wasi_memory memory, uint32_t fd,
                         uint32_t position_out)
{
    return fl_wasi_fd_seek(wasi, memory, fd, 0, SEEK_FROM_HERE, position_out);
}

uint32_t fl_wasi_fd_fdstat_get(struct fl_wasi *wasi, struct fl_wasi_memory memory, uint32_t fd,
                               uint32_t fdstat_out)
{
    struct fl_wasi_open_file *file;
    enum wasi_fd_kind kind = wasi_kind(wasi, fd, &file);
    uint8_t *fdstat = wasi_at(memory, fdstat_out, 24);
    uint64_t rights = RIGHTS_FILE;

    if (kind == WASI_KIND_NONE) {
        return FL_WASI_BADF;
    }
    if (fdstat == NULL) {
        return FL_WASI_FAULT;
    }
    memset(fdstat, 0, 24);
    fdstat[0] = FILE_TYPE_REGULAR;
    if (kind == WASI_KIND_STREAM) {
        fdstat[0] = FILE_TYPE_UNKNOWN;
        rights = fd == WASI_FD_STDIN ? RIGHT_FD_READ : RIGHT_FD_WRITE;
    } else if (kind == WASI_KIND_DIR) {
        fdstat[0] = FILE_TYPE_DIRECTORY;
        rights = RIGHT_PATH_OPEN;
        wasi_store_u64(fdstat + 16, RIGHTS_FILE);
    }
    wasi_store_u64(fdstat + 8, rights);
    return FL_WASI_SUCCESS;
}

uint32_t fl_wasi_fd_fdstat_set_flags(struct fl_wasi *wasi, struct fl_wasi_memory memory,
                                     uint32_t fd, uint32_t flags)
{
    struct fl_wasi_open_file *file;

    (void)memory;
    if (wasi_kind(wasi, fd, &file) == WASI_KIND_NONE) {
        return FL_WASI_BADF;
    }
    return flags <= FD_FLAGS ? FL_WASI_SUCCESS : FL_WASI_INVAL;
}

uint32_t fl_wasi_fd_filestat_get(struct fl_wasi *wasi, struct fl_wasi_memory memory, uint32_t fd,
                                 uint32_t filestat_out)
{
    struct fl_wasi_open_file *file;
    enum wasi_fd_kind kind = wasi_kind(wasi, fd, &file);
    uint8_t *filestat = wasi_at(memory, filestat_out, 64);

    if (kind == WASI_KIND_NONE) {
        return FL_WASI_BADF;
    }
    if (filestat == NULL) {
        return FL_WASI_FAULT;
    }
    memset(filestat, 0, 64);
    wasi_store_u64(filestat + 24, 1); /* links */
    filestat[16] = FILE_TYPE_UNKNOWN;
    if (kind == WASI_KIND_DIR) {
        filestat[16] = FILE_TYPE_DIRECTORY;
    } else if (kind == WASI_KIND_FILE) {
        filestat[16] = FILE_TYPE_REGULAR;
        wasi_store_u64(filestat + 32, file->file->size_bytes);
    }
    return FL_WASI_SUCCESS;
}
