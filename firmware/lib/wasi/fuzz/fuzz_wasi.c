/*
 * A module that calls anything with anything. The memory is allocated to its exact size, so that a
 * sanitizer sees a byte read or written outside of it.
 */
#include "fl_wasi.h"

#include <stdlib.h>
#include <string.h>

#define MEMORY_SIZE 256u

/* The input, read as numbers. */
struct input {
    const uint8_t *data;
    size_t left;
};

static uint32_t next(struct input *input)
{
    static const uint32_t edges[] = {
        0, 1, MEMORY_SIZE - 1, MEMORY_SIZE, UINT32_MAX, UINT32_MAX - 3, 0x80000000u, 0x20000000u};
    uint8_t byte;

    if (input->left == 0) {
        return 0;
    }
    byte = *input->data++;
    input->left--;
    return byte >= 248 ? edges[byte - 248] : byte;
}

static uint64_t next64(struct input *input)
{
    uint64_t high = next(input);

    return high << 56 | next(input);
}

static void call(struct fl_wasi *wasi, struct fl_wasi_memory memory, struct input *in)
{
    uint32_t a[9];
    uint32_t function = next(in) % 22u;
    uint64_t wide = next64(in);

    for (size_t i = 0; i < sizeof(a) / sizeof(a[0]); i++) {
        a[i] = next(in);
    }
    switch (function) {
    case 0:
        (void)fl_wasi_args_sizes_get(wasi, memory, a[0], a[1]);
        break;
    case 1:
        (void)fl_wasi_args_get(wasi, memory, a[0], a[1]);
        break;
    case 2:
        (void)fl_wasi_environ_sizes_get(wasi, memory, a[0], a[1]);
        break;
    case 3:
        (void)fl_wasi_environ_get(wasi, memory, a[0], a[1]);
        break;
    case 4:
        (void)fl_wasi_fd_prestat_get(wasi, memory, a[0], a[1]);
        break;
    case 5:
        (void)fl_wasi_fd_prestat_dir_name(wasi, memory, a[0], a[1], a[2]);
        break;
    case 6:
        (void)fl_wasi_path_open(wasi, memory, a[0], a[1], a[2], a[3], a[4], wide, wide, a[5], a[6]);
        break;
    case 7:
        (void)fl_wasi_fd_close(wasi, memory, a[0]);
        break;
    case 8:
    case 9:
        (void)fl_wasi_fd_read(wasi, memory, a[0], a[1], a[2], a[3]);
        break;
    case 10:
    case 11:
        (void)fl_wasi_fd_pread(wasi, memory, a[0], a[1], a[2], wide, a[3]);
        break;
    case 12:
    case 13:
        (void)fl_wasi_fd_write(wasi, memory, a[0], a[1], a[2], a[3]);
        break;
    case 14:
        (void)fl_wasi_fd_seek(wasi, memory, a[0], wide, a[1], a[2]);
        break;
    case 15:
        (void)fl_wasi_fd_fdstat_get(wasi, memory, a[0], a[1]);
        break;
    case 16:
        (void)fl_wasi_fd_filestat_get(wasi, memory, a[0], a[1]);
        break;
    case 17:
        (void)fl_wasi_fd_tell(wasi, memory, a[0], a[1]);
        break;
    case 18:
        (void)fl_wasi_fd_fdstat_set_flags(wasi, memory, a[0], a[1]);
        break;
    case 19:
        if (a[0] == 1) { /* seldom: it ends the run */
            fl_wasi_proc_exit(wasi, a[1]);
        }
        break;
    case 20:
        (void)fl_wasi_poll_oneoff(wasi, memory, a[0], a[1], a[2], a[3]);
        break;
    default:
        memory.base[a[0] % MEMORY_SIZE] = (uint8_t)a[1]; /* what a module does between calls */
        break;
    }
}

static void log_line(void *user, const char *line, size_t size, bool last)
{
    (void)user;
    (void)last;
    if (strlen(line) > size) {
        abort();
    }
}

/* Some sleeps are ended from outside. */
static bool sleep_for(void *user, uint64_t nanoseconds)
{
    (void)user;
    return nanoseconds % 8u != 7;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fl_wasi wasi;
    static struct fl_env env;
    static char file[] = "0123456789";
    static const struct fl_command command = {
        .name = "n", .args = "a\0", .args_size = 3, .args_count = 2, .inputs = "1 2"};
    struct input input = {data, size};
    struct fl_wasi_memory memory = {calloc(1, MEMORY_SIZE), MEMORY_SIZE};
    uint8_t *output = malloc(64);
    struct fl_wasi_config config = {
        .env = &env,
        .command = size % 2 == 0 ? &command : NULL,
        .endless_output = size % 3 == 0,
        .sleep = sleep_for,
        .files = {{"model", 10, fl_wasi_read_memory, file}, {"m", 10, fl_wasi_read_memory, file}},
        .file_count = 2,
        .output = output,
        .output_capacity_bytes = 64,
        .log = log_line};

    if (memory.base == NULL || output == NULL) {
        abort();
    }
    fl_env_clear(&env);
    (void)fl_env_put(&env, "A", "1");
    fl_wasi_begin(&wasi, &config);
    memory.base[0] = 'm'; /* a path that exists */
    memory.base[8] = 32;  /* and a buffer list at 8: 16 bytes at 32 */
    memory.base[12] = 16;
    while (input.left > 0 && !fl_wasi_ended(&wasi)) {
        call(&wasi, memory, &input);
    }
    fl_wasi_finish(&wasi);
    if (wasi.output_size_bytes > 64) {
        abort();
    }
    free(output);
    free(memory.base);
    return 0;
}
