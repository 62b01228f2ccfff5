/*
 * The part of WASI preview 1 that the client contract allows, and sleeping, over a bounded linear
 * memory.
 *
 * The module sees: its environment; a command's arguments; fd 0, always at its end; fd 1, captured
 * up to a limit; fd 2, handed on by lines; fd 3, the directory "/fl" with a few read-only files.
 * Nothing of the host is reachable but what the context holds.
 *
 * Every function takes the memory as it is at that moment (a module may grow it) and 32-bit module
 * addresses, checks each against the memory's size with no sum that can wrap, and returns a WASI
 * errno. A call that returns an error has changed nothing in the module's memory, except that a
 * read which failed in the middle may have filled part of its buffers.
 *
 * After fl_wasi_proc_exit(), after a write beyond the output limit and after a sleep that was ended
 * from outside, fl_wasi_ended() is true and the runtime must not go back into the module.
 */
#ifndef FL_WASI_H
#define FL_WASI_H

#include "fl_args.h"
#include "fl_env.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FL_WASI_FILES_MAX 4       /* files in /fl */
#define FL_WASI_OPEN_MAX 8        /* files open at a time */
#define FL_WASI_IOVS_MAX 1024     /* buffers of one call, as POSIX has it */
#define FL_WASI_LOG_CALL_MAX 4096 /* bytes of one write to stderr that reach the log */
#define FL_WASI_LINE_MAX 159      /* bytes of a log line; a longer one comes in parts */
#define FL_WASI_FIRST_FILE_FD 4u
#define FL_WASI_SUBSCRIPTIONS_MAX 64 /* what one call may wait for */

/* WASI's numbers. */
enum fl_wasi_errno {
    FL_WASI_SUCCESS = 0,
    FL_WASI_BADF = 8,
    FL_WASI_FAULT = 21, /* an address outside the memory */
    FL_WASI_INVAL = 28,
    FL_WASI_IO = 29,
    FL_WASI_ISDIR = 31,
    FL_WASI_MFILE = 33,
    FL_WASI_NAMETOOLONG = 37,
    FL_WASI_NOENT = 44,
    FL_WASI_NOSPC = 51,
    FL_WASI_NOTDIR = 54,
    FL_WASI_PERM = 63,
    FL_WASI_SPIPE = 70,
};

/* The module's linear memory, now. */
struct fl_wasi_memory {
    uint8_t *base;
    uint32_t size_bytes;
};

/*
 * A file in /fl. `read` copies `size` bytes at `offset` to `out`; it is only asked for bytes
 * inside `size_bytes`. It returns false when the medium fails. Name and user outlive the context.
 */
struct fl_wasi_file {
    const char *name; /* "model", "data" */
    uint32_t size_bytes;
    bool (*read)(void *user, uint32_t offset, uint8_t *out, size_t size);
    void *user;
};

/* `read` for a file that lies in memory: `user` is its first byte. */
bool fl_wasi_read_memory(void *user, uint32_t offset, uint8_t *out, size_t size);

/*
 * A part of a line on stderr, without its newline. `last` is false when the line goes on in the
 * next call. `line` is NUL-terminated and valid during the call.
 */
typedef void (*fl_wasi_log)(void *user, const char *line, size_t size, bool last);

/* Waits so long. Returns false when the run was ended meanwhile. */
typedef bool (*fl_wasi_sleep)(void *user, uint64_t nanoseconds);

enum fl_wasi_end {
    FL_WASI_RUNNING,
    FL_WASI_EXITED,       /* proc_exit was called: exit_status */
    FL_WASI_OUTPUT_LIMIT, /* stdout would have outgrown its buffer */
    FL_WASI_STOPPED,      /* while it slept */
};

struct fl_wasi_config {
    const struct fl_env *env;         /* outlives the context */
    const struct fl_command *command; /* whose arguments it finds; NULL: there are none */
    bool endless_output;              /* of stdout the end is kept: nothing outgrows the buffer */
    fl_wasi_sleep sleep;              /* NULL: nothing is waited for */
    void *sleep_user;
    struct fl_wasi_file files[FL_WASI_FILES_MAX];
    uint32_t file_count;
    uint8_t *output; /* where stdout goes; outlives the context */
    uint32_t output_capacity_bytes;
    fl_wasi_log log; /* may be NULL */
    void *log_user;
};

struct fl_wasi_open_file {
    const struct fl_wasi_file *file; /* NULL: the slot is free */
    uint64_t position;
};

struct fl_wasi {
    struct fl_wasi_config config;
    uint32_t output_size_bytes; /* of stdout, so far */
    enum fl_wasi_end end;
    uint32_t exit_status; /* valid with FL_WASI_EXITED */
    struct fl_wasi_open_file open[FL_WASI_OPEN_MAX];
    uint32_t closed; /* one bit for each of the fds 0 to 3: the module closed it */
    uint32_t line_size;
    char line[FL_WASI_LINE_MAX + 1];
    char last_line[FL_WASI_LINE_MAX + 1]; /* what stderr said last: the first part of that line */
    bool line_continues;
};

/* Starts a run. `config` is copied. */
void fl_wasi_begin(struct fl_wasi *wasi, const struct fl_wasi_config *config);

/* Ends a run: hands on a last line that had no newline. */
void fl_wasi_finish(struct fl_wasi *wasi);

/* Whether the runtime must leave the module now. */
bool fl_wasi_ended(const struct fl_wasi *wasi);

/*
 * The functions, named as in wasi_snapshot_preview1: those that the contract's list of imports
 * names, and poll_oneoff. Arguments as there; `offset` of fd_seek is two's complement.
 */

uint32_t fl_wasi_args_sizes_get(struct fl_wasi *wasi, struct fl_wasi_memory memory,
                                uint32_t count_out, uint32_t size_out);
uint32_t fl_wasi_args_get(struct fl_wasi *wasi, struct fl_wasi_memory memory, uint32_t argv,
                          uint32_t argv_buf);
uint32_t fl_wasi_environ_sizes_get(struct fl_wasi *wasi, struct fl_wasi_memory memory,
                                   uint32_t count_out, uint32_t size_out);
uint32_t fl_wasi_environ_get(struct fl_wasi *wasi, struct fl_wasi_memory memory,
                             uint32_t environ_list, uint32_t environ_buf);

/* BADF for any fd but 3, which ends the module's search for directories. */
uint32_t fl_wasi_fd_prestat_get(struct fl_wasi *wasi, struct fl_wasi_memory memory, uint32_t fd,
                                uint32_t prestat_out);
uint32_t fl_wasi_fd_prestat_dir_name(struct fl_wasi *wasi, struct fl_wasi_memory memory,
                                     uint32_t fd, uint32_t path, uint32_t path_size);

/*
 * NOENT: no such file. PERM: a way out of /fl, or writing, creating, truncating. NOTDIR: a file
 * where a directory was asked for, or something below a file. MFILE: FL_WASI_OPEN_MAX are open.
 */
uint32_t fl_wasi_path_open(struct fl_wasi *wasi, struct fl_wasi_memory memory, uint32_t dir_fd,
                           uint32_t dir_flags, uint32_t path, uint32_t path_size,
                           uint32_t open_flags, uint64_t rights_base, uint64_t rights_inheriting,
                           uint32_t fd_flags, uint32_t fd_out);
uint32_t fl_wasi_fd_close(struct fl_wasi *wasi, struct fl_wasi_memory memory, uint32_t fd);
uint32_t fl_wasi_fd_read(struct fl_wasi *wasi, struct fl_wasi_memory memory, uint32_t fd,
                         uint32_t iovs, uint32_t iov_count, uint32_t read_out);
uint32_t fl_wasi_fd_pread(struct fl_wasi *wasi, struct fl_wasi_memory memory, uint32_t fd,
                          uint32_t iovs, uint32_t iov_count, uint64_t offset, uint32_t read_out);
/*
 * NOSPC: beyond the output limit; nothing of this write is kept, and the run is over. Of a huge
 * write to stderr the log gets the head and a line that says how much was left out, because no
 * deadline can interrupt a call.
 */
uint32_t fl_wasi_fd_write(struct fl_wasi *wasi, struct fl_wasi_memory memory, uint32_t fd,
                          uint32_t iovs, uint32_t iov_count, uint32_t written_out);
uint32_t fl_wasi_fd_seek(struct fl_wasi *wasi, struct fl_wasi_memory memory, uint32_t fd,
                         uint64_t offset, uint32_t whence, uint32_t position_out);
uint32_t fl_wasi_fd_tell(struct fl_wasi *wasi, struct fl_wasi_memory memory, uint32_t fd,
                         uint32_t position_out);
uint32_t fl_wasi_fd_fdstat_get(struct fl_wasi *wasi, struct fl_wasi_memory memory, uint32_t fd,
                               uint32_t fdstat_out);
/* Accepts any flag that WASI knows and keeps none: there is nothing to append to or to wait for. */
uint32_t fl_wasi_fd_fdstat_set_flags(struct fl_wasi *wasi, struct fl_wasi_memory memory,
                                     uint32_t fd, uint32_t flags);
uint32_t fl_wasi_fd_filestat_get(struct fl_wasi *wasi, struct fl_wasi_memory memory, uint32_t fd,
                                 uint32_t filestat_out);

/* Records the exit; the runtime must then leave the module. */
void fl_wasi_proc_exit(struct fl_wasi *wasi, uint32_t status);

/*
 * Sleeps until the first of the clocks is due; streams always are. INVAL for none or more than
 * FL_WASI_SUBSCRIPTIONS_MAX, and for a point in time, since there is no clock to tell it by.
 */
uint32_t fl_wasi_poll_oneoff(struct fl_wasi *wasi, struct fl_wasi_memory memory,
                             uint32_t subscriptions, uint32_t events, uint32_t count,
                             uint32_t count_out);

#endif
