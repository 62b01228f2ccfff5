#include "fl_check.h"
#include "fl_wasi.h"

FL_SUITE(wasi)

#define MEMORY_SIZE 4096u
#define OUT 8u      /* where results go */
#define IOVS 64u    /* where iovec arrays are laid */
#define NAME 256u   /* where paths are laid */
#define BUFFER 512u /* where data goes */
#define END MEMORY_SIZE

static uint8_t bytes[MEMORY_SIZE];
static struct fl_wasi_memory memory;
static struct fl_wasi wasi;
static struct fl_env env;
static uint8_t output[32];
static char model[] = "0123456789";
static char logged[1024];

static void log_line(void *user, const char *line, size_t size, bool last)
{
    FL_CHECK(user == logged);
    FL_CHECK_INT(strlen(line), size);
    strcat(logged, line);
    strcat(logged, last ? "|" : "~");
}

static bool failing_read(void *user, uint32_t offset, uint8_t *out, size_t size)
{
    (void)user;
    (void)offset;
    (void)out;
    (void)size;
    return false;
}

/* A fresh run with "model" of 10 bytes, an empty "data", a "broken" that cannot be read. */
static void begin(void)
{
    struct fl_wasi_config config = {
        .env = &env,
        .files = {{"model", 10, fl_wasi_read_memory, model},
                  {"data", 0, fl_wasi_read_memory, model},
                  {"broken", 5, failing_read, NULL}},
        .file_count = 3,
        .output = output,
        .output_capacity_bytes = sizeof(output),
        .log = log_line,
        .log_user = logged,
    };

    memory.base = bytes;
    memory.size_bytes = MEMORY_SIZE;
    memset(bytes, 0xAA, sizeof(bytes));
    memset(output, 0, sizeof(output));
    logged[0] = '\0';
    fl_env_clear(&env);
    fl_wasi_begin(&wasi, &config);
}

static uint32_t load(uint32_t address)
{
    return (uint32_t)bytes[address] | (uint32_t)bytes[address + 1] << 8 |
           (uint32_t)bytes[address + 2] << 16 | (uint32_t)bytes[address + 3] << 24;
}

static void store(uint32_t address, uint32_t value)
{
    for (uint32_t i = 0; i < 4; i++) {
        bytes[address + i] = (uint8_t)(value >> (8 * i));
    }
}

static void lay_iov(uint32_t index, uint32_t address, uint32_t size)
{
    store(IOVS + 8 * index, address);
    store(IOVS + 8 * index + 4, size);
}

static uint32_t open_path(const char *path, uint32_t flags, uint64_t rights)
{
    memcpy(bytes + NAME, path, strlen(path));
    return fl_wasi_path_open(&wasi, memory, 3, 1, NAME, (uint32_t)strlen(path), flags, rights, 0, 0,
                             OUT);
}

/* Opens `path` for reading; returns its fd. */
static uint32_t open_file(const char *path)
{
    FL_CHECK_INT(open_path(path, 0, 2), FL_WASI_SUCCESS);
    return load(OUT);
}

static uint32_t write_text(uint32_t fd, const char *text)
{
    memcpy(bytes + BUFFER, text, strlen(text));
    lay_iov(0, BUFFER, (uint32_t)strlen(text));
    return fl_wasi_fd_write(&wasi, memory, fd, IOVS, 1, OUT);
}

FL_TEST(wasi, there_are_no_arguments)
{
    begin();
    FL_CHECK_INT(fl_wasi_args_sizes_get(&wasi, memory, OUT, OUT + 4), FL_WASI_SUCCESS);
    FL_CHECK_INT(load(OUT), 0);
    FL_CHECK_INT(load(OUT + 4), 0);
    FL_CHECK_INT(fl_wasi_args_get(&wasi, memory, 0, 0), FL_WASI_SUCCESS);
    FL_CHECK_INT(fl_wasi_args_get(&wasi, memory, END + 1, 0), FL_WASI_FAULT);
}

FL_TEST(wasi, the_environment)
{
    begin();
    FL_CHECK_INT(fl_env_put(&env, "ROUND_ID", "r-1"), FL_ENV_OK);
    FL_CHECK_INT(fl_env_put(&env, "X", ""), FL_ENV_OK);
    FL_CHECK_INT(fl_wasi_environ_sizes_get(&wasi, memory, OUT, OUT + 4), FL_WASI_SUCCESS);
    FL_CHECK_INT(load(OUT), 2);
    FL_CHECK_INT(load(OUT + 4), 13 + 3);
    FL_CHECK_INT(fl_wasi_environ_get(&wasi, memory, IOVS, BUFFER), FL_WASI_SUCCESS);
    FL_CHECK_INT(load(IOVS), BUFFER);
    FL_CHECK_INT(load(IOVS + 4), BUFFER + 13);
    FL_CHECK_INT(load(IOVS + 8), 0xAAAAAAAA);
    FL_CHECK_BYTES(bytes + BUFFER, "ROUND_ID=r-1\0X=\0\xAA", 17);
}

FL_TEST(wasi, the_environment_may_end_where_the_memory_ends)
{
    begin();
    FL_CHECK_INT(fl_env_put(&env, "A", "1"), FL_ENV_OK);
    FL_CHECK_INT(fl_wasi_environ_get(&wasi, memory, END - 4, OUT), FL_WASI_SUCCESS);
    FL_CHECK_INT(fl_wasi_environ_get(&wasi, memory, OUT, END - 4), FL_WASI_SUCCESS);
    FL_CHECK_INT(fl_wasi_environ_get(&wasi, memory, END - 3, OUT), FL_WASI_FAULT);
    FL_CHECK_INT(fl_wasi_environ_get(&wasi, memory, OUT, END - 3), FL_WASI_FAULT);
    FL_CHECK_INT(fl_wasi_environ_get(&wasi, memory, UINT32_MAX, OUT), FL_WASI_FAULT);
    FL_CHECK_INT(fl_wasi_environ_sizes_get(&wasi, memory, END - 3, OUT), FL_WASI_FAULT);
    FL_CHECK_INT(fl_wasi_environ_sizes_get(&wasi, memory, OUT, END - 3), FL_WASI_FAULT);
}

FL_TEST(wasi, one_directory_is_open_already)
{
    begin();
    FL_CHECK_INT(fl_wasi_fd_prestat_get(&wasi, memory, 3, OUT), FL_WASI_SUCCESS);
    FL_CHECK_INT(load(OUT), 0);
    FL_CHECK_INT(load(OUT + 4), 3);
    FL_CHECK_INT(fl_wasi_fd_prestat_dir_name(&wasi, memory, 3, BUFFER, 3), FL_WASI_SUCCESS);
    FL_CHECK_BYTES(bytes + BUFFER, "/fl\xAA", 4);
    FL_CHECK_INT(fl_wasi_fd_prestat_dir_name(&wasi, memory, 3, BUFFER, 2), FL_WASI_NAMETOOLONG);
    FL_CHECK_INT(fl_wasi_fd_prestat_dir_name(&wasi, memory, 3, END - 2, 3), FL_WASI_FAULT);
    FL_CHECK_INT(fl_wasi_fd_prestat_get(&wasi, memory, 3, END - 7), FL_WASI_FAULT);
    FL_CHECK_INT(fl_wasi_fd_prestat_get(&wasi, memory, 4, OUT), FL_WASI_BADF);
    FL_CHECK_INT(fl_wasi_fd_prestat_get(&wasi, memory, 1, OUT), FL_WASI_BADF);
    FL_CHECK_INT(fl_wasi_fd_prestat_dir_name(&wasi, memory, 4, BUFFER, 3), FL_WASI_BADF);
}

FL_TEST(wasi, a_file_is_read_through_several_buffers_to_its_end)
{
    uint32_t fd;

    begin();
    fd = open_file("model");
    FL_CHECK_INT(fd, FL_WASI_FIRST_FILE_FD);
    lay_iov(0, BUFFER, 3);
    lay_iov(1, BUFFER + 100, 0);
    lay_iov(2, BUFFER + 10, 4);
    FL_CHECK_INT(fl_wasi_fd_read(&wasi, memory, fd, IOVS, 3, OUT), FL_WASI_SUCCESS);
    FL_CHECK_INT(load(OUT), 7);
    FL_CHECK_BYTES(bytes + BUFFER, "012\xAA", 4);
    FL_CHECK_BYTES(bytes + BUFFER + 10, "3456\xAA", 5);
    FL_CHECK_INT(fl_wasi_fd_read(&wasi, memory, fd, IOVS, 3, OUT), FL_WASI_SUCCESS);
    FL_CHECK_INT(load(OUT), 3);
    FL_CHECK_BYTES(bytes + BUFFER, "789", 3);
    FL_CHECK_INT(fl_wasi_fd_read(&wasi, memory, fd, IOVS, 3, OUT), FL_WASI_SUCCESS);
    FL_CHECK_INT(load(OUT), 0);
}

FL_TEST(wasi, reading_at_a_place_leaves_the_position_alone)
{
    uint32_t fd;

    begin();
    fd = open_file("model");
    lay_iov(0, BUFFER, 4);
    FL_CHECK_INT(fl_wasi_fd_pread(&wasi, memory, fd, IOVS, 1, 8, OUT), FL_WASI_SUCCESS);
    FL_CHECK_INT(load(OUT), 2);
    FL_CHECK_BYTES(bytes + BUFFER, "89\xAA", 3);
    FL_CHECK_INT(fl_wasi_fd_pread(&wasi, memory, fd, IOVS, 1, UINT64_MAX, OUT), FL_WASI_SUCCESS);
    FL_CHECK_INT(load(OUT), 0);
    FL_CHECK_INT(fl_wasi_fd_pread(&wasi, memory, fd, IOVS, 1, 1ull << 32, OUT), FL_WASI_SUCCESS);
    FL_CHECK_INT(load(OUT), 0);
    FL_CHECK_INT(fl_wasi_fd_tell(&wasi, memory, fd, OUT), FL_WASI_SUCCESS);
    FL_CHECK_INT(load(OUT), 0);
}

FL_TEST(wasi, seeking)
{
    uint32_t fd;

    begin();
    fd = open_file("model");
    FL_CHECK_INT(fl_wasi_fd_seek(&wasi, memory, fd, (uint64_t)-3, 2, OUT), FL_WASI_SUCCESS);
    FL_CHECK_INT(load(OUT), 7);
    FL_CHECK_INT(load(OUT + 4), 0);
    FL_CHECK_INT(fl_wasi_fd_seek(&wasi, memory, fd, 2, 1, OUT), FL_WASI_SUCCESS);
    FL_CHECK_INT(load(OUT), 9);
    FL_CHECK_INT(fl_wasi_fd_seek(&wasi, memory, fd, (uint64_t)-10, 1, OUT), FL_WASI_INVAL);
    FL_CHECK_INT(fl_wasi_fd_seek(&wasi, memory, fd, (uint64_t)INT64_MIN, 1, OUT), FL_WASI_INVAL);
    FL_CHECK_INT(fl_wasi_fd_seek(&wasi, memory, fd, INT64_MAX, 1, OUT), FL_WASI_INVAL);
    FL_CHECK_INT(fl_wasi_fd_seek(&wasi, memory, fd, 0, 3, OUT), FL_WASI_INVAL);
    FL_CHECK_INT(fl_wasi_fd_seek(&wasi, memory, fd, INT64_MAX, 0, OUT), FL_WASI_SUCCESS);
    FL_CHECK_INT(load(OUT + 4), 0x7FFFFFFF);
    lay_iov(0, BUFFER, 4);
    FL_CHECK_INT(fl_wasi_fd_read(&wasi, memory, fd, IOVS, 1, OUT), FL_WASI_SUCCESS);
    FL_CHECK_INT(load(OUT), 0);
    FL_CHECK_INT(fl_wasi_fd_seek(&wasi, memory, fd, 1, 0, END - 7), FL_WASI_FAULT);
    FL_CHECK_INT(fl_wasi_fd_seek(&wasi, memory, 1, 0, 0, OUT), FL_WASI_SPIPE);
    FL_CHECK_INT(fl_wasi_fd_seek(&wasi, memory, 3, 0, 0, OUT), FL_WASI_ISDIR);
    FL_CHECK_INT(fl_wasi_fd_seek(&wasi, memory, 9, 0, 0, OUT), FL_WASI_BADF);
}

FL_TEST(wasi, an_empty_file_is_at_its_end)
{
    uint32_t fd;

    begin();
    fd = open_file("data");
    lay_iov(0, BUFFER, 4);
    FL_CHECK_INT(fl_wasi_fd_read(&wasi, memory, fd, IOVS, 1, OUT), FL_WASI_SUCCESS);
    FL_CHECK_INT(load(OUT), 0);
}

FL_TEST(wasi, a_medium_that_fails_is_an_io_error)
{
    uint32_t fd;

    begin();
    fd = open_file("broken");
    lay_iov(0, BUFFER, 4);
    FL_CHECK_INT(fl_wasi_fd_read(&wasi, memory, fd, IOVS, 1, OUT), FL_WASI_IO);
    FL_CHECK_INT(fl_wasi_fd_pread(&wasi, memory, fd, IOVS, 1, 0, OUT), FL_WASI_IO);
}

FL_TEST(wasi, paths)
{
    static const struct {
        const char *path;
        uint32_t status;
    } cases[] = {
        {"model", FL_WASI_SUCCESS},    {"./model", FL_WASI_SUCCESS}, {".//./data", FL_WASI_SUCCESS},
        {"", FL_WASI_NOENT},           {"mode", FL_WASI_NOENT},      {"models", FL_WASI_NOENT},
        {"sub/model", FL_WASI_NOENT},  {".", FL_WASI_ISDIR},         {"./", FL_WASI_ISDIR},
        {"model/", FL_WASI_NOTDIR},    {"model/x", FL_WASI_NOTDIR},  {"model/.", FL_WASI_NOTDIR},
        {"/model", FL_WASI_PERM},      {"/fl/model", FL_WASI_PERM},  {"..", FL_WASI_PERM},
        {"../fl/model", FL_WASI_PERM}, {"x/../model", FL_WASI_PERM}, {"..model", FL_WASI_NOENT},
        {"model/..", FL_WASI_PERM},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        begin();
        FL_CHECK_INT(open_path(cases[i].path, 0, 2), cases[i].status);
    }
}

FL_TEST(wasi, nothing_can_be_written_or_made)
{
    begin();
    for (uint32_t flags = 0; flags < 16; flags++) {
        bool makes = (flags & ~2u) != 0;

        FL_CHECK_INT(open_path("model", flags, 2), makes        ? FL_WASI_PERM
                                                   : flags == 2 ? FL_WASI_NOTDIR
                                                                : FL_WASI_SUCCESS);
    }
    FL_CHECK_INT(open_path("model", 16, 2), FL_WASI_INVAL);
    FL_CHECK_INT(open_path("model", 0, 2 | 1u << 6), FL_WASI_PERM);
    FL_CHECK_INT(open_path("new", 1, 2), FL_WASI_PERM);
    FL_CHECK_INT(write_text(open_file("model"), "x"), FL_WASI_BADF);
    FL_CHECK_STRING(model, "0123456789");
}

FL_TEST(wasi, only_the_directory_opens_files)
{
    uint32_t fd;

    begin();
    fd = open_file("model");
    FL_CHECK_INT(fl_wasi_path_open(&wasi, memory, 1, 0, NAME, 5, 0, 2, 0, 0, OUT), FL_WASI_NOTDIR);
    FL_CHECK_INT(fl_wasi_path_open(&wasi, memory, fd, 0, NAME, 5, 0, 2, 0, 0, OUT), FL_WASI_NOTDIR);
    FL_CHECK_INT(fl_wasi_path_open(&wasi, memory, 99, 0, NAME, 5, 0, 2, 0, 0, OUT), FL_WASI_BADF);
    FL_CHECK_INT(fl_wasi_path_open(&wasi, memory, 3, 0, END - 4, 5, 0, 2, 0, 0, OUT),
                 FL_WASI_FAULT);
    FL_CHECK_INT(fl_wasi_path_open(&wasi, memory, 3, 0, NAME, UINT32_MAX, 0, 2, 0, 0, OUT),
                 FL_WASI_FAULT);
    FL_CHECK_INT(fl_wasi_path_open(&wasi, memory, 3, 0, NAME, 5, 0, 2, 0, 0, END - 3),
                 FL_WASI_FAULT);
}

FL_TEST(wasi, files_are_limited_and_slots_come_back)
{
    begin();
    for (uint32_t i = 0; i < FL_WASI_OPEN_MAX; i++) {
        FL_CHECK_INT(open_file("model"), FL_WASI_FIRST_FILE_FD + i);
    }
    FL_CHECK_INT(open_path("model", 0, 2), FL_WASI_MFILE);
    FL_CHECK_INT(fl_wasi_fd_close(&wasi, memory, 6), FL_WASI_SUCCESS);
    FL_CHECK_INT(fl_wasi_fd_close(&wasi, memory, 6), FL_WASI_BADF);
    FL_CHECK_INT(open_file("data"), 6);
    FL_CHECK_INT(fl_wasi_fd_close(&wasi, memory, UINT32_MAX), FL_WASI_BADF);
}

FL_TEST(wasi, what_is_closed_is_gone)
{
    begin();
    for (uint32_t fd = 0; fd < 4; fd++) {
        FL_CHECK_INT(fl_wasi_fd_close(&wasi, memory, fd), FL_WASI_SUCCESS);
        FL_CHECK_INT(fl_wasi_fd_close(&wasi, memory, fd), FL_WASI_BADF);
    }
    FL_CHECK_INT(write_text(1, "x"), FL_WASI_BADF);
    FL_CHECK_INT(open_path("model", 0, 2), FL_WASI_BADF);
    FL_CHECK_INT(fl_wasi_fd_prestat_get(&wasi, memory, 3, OUT), FL_WASI_BADF);
}

FL_TEST(wasi, stdout_is_captured)
{
    begin();
    memcpy(bytes + BUFFER, "hello world", 11);
    lay_iov(0, BUFFER, 5);
    lay_iov(1, BUFFER + 5, 6);
    FL_CHECK_INT(fl_wasi_fd_write(&wasi, memory, 1, IOVS, 2, OUT), FL_WASI_SUCCESS);
    FL_CHECK_INT(load(OUT), 11);
    FL_CHECK_INT(write_text(1, ""), FL_WASI_SUCCESS);
    FL_CHECK_INT(wasi.output_size_bytes, 11);
    FL_CHECK_BYTES(output, "hello world\0", 12);
    FL_CHECK(!fl_wasi_ended(&wasi));
}

FL_TEST(wasi, output_fills_its_buffer_and_ends_the_run_beyond)
{
    begin();
    for (size_t i = 0; i < sizeof(output) / 16; i++) {
        FL_CHECK_INT(write_text(1, "0123456789abcdef"), FL_WASI_SUCCESS);
    }
    FL_CHECK(!fl_wasi_ended(&wasi));
    FL_CHECK_INT(write_text(1, "x"), FL_WASI_NOSPC);
    FL_CHECK(fl_wasi_ended(&wasi));
    FL_CHECK_INT(wasi.end, FL_WASI_OUTPUT_LIMIT);
    FL_CHECK_INT(wasi.output_size_bytes, sizeof(output));
    FL_CHECK_INT(fl_wasi_fd_write(&wasi, memory, 1, IOVS, 0, OUT), FL_WASI_NOSPC);
    /* A later exit does not hide why the run was ended. */
    fl_wasi_proc_exit(&wasi, 0);
    FL_CHECK_INT(wasi.end, FL_WASI_OUTPUT_LIMIT);
}

FL_TEST(wasi, a_write_that_does_not_fit_leaves_no_part_of_it)
{
    begin();
    FL_CHECK_INT(write_text(1, "0123456789abcdef0123456789"), FL_WASI_SUCCESS);
    FL_CHECK_INT(write_text(1, "0123456789"), FL_WASI_NOSPC);
    FL_CHECK_INT(wasi.output_size_bytes, 26);
    FL_CHECK_INT(output[26], 0);
}

FL_TEST(wasi, stderr_goes_to_the_log_by_lines)
{
    begin();
    FL_CHECK_INT(write_text(2, "one\ntw"), FL_WASI_SUCCESS);
    FL_CHECK_STRING(logged, "one|");
    FL_CHECK_STRING(wasi.last_line, "one");
    FL_CHECK_INT(write_text(2, "o\n\nlast"), FL_WASI_SUCCESS);
    FL_CHECK_STRING(logged, "one|two||");
    fl_wasi_finish(&wasi);
    FL_CHECK_STRING(logged, "one|two||last|");
    FL_CHECK_STRING(wasi.last_line, "last");
    fl_wasi_finish(&wasi);
    FL_CHECK_STRING(logged, "one|two||last|");
    FL_CHECK_INT(wasi.output_size_bytes, 0);
}

FL_TEST(wasi, a_long_line_comes_in_parts)
{
    char line[2 * FL_WASI_LINE_MAX + 2];
    char expected[sizeof(line) + 8];

    begin();
    memset(line, 'x', sizeof(line));
    line[sizeof(line) - 2] = '\n';
    line[sizeof(line) - 1] = '\0';
    FL_CHECK_INT(write_text(2, line), FL_WASI_SUCCESS);
    memset(expected, 'x', sizeof(expected));
    expected[FL_WASI_LINE_MAX] = '~';
    expected[2 * FL_WASI_LINE_MAX + 1] = '|';
    expected[2 * FL_WASI_LINE_MAX + 2] = '\0';
    FL_CHECK_STRING(logged, expected);
    FL_CHECK_INT(strlen(wasi.last_line), FL_WASI_LINE_MAX);
    /* A line of exactly the limit is one part. */
    logged[0] = '\0';
    line[FL_WASI_LINE_MAX] = '\n';
    line[FL_WASI_LINE_MAX + 1] = '\0';
    FL_CHECK_INT(write_text(2, line), FL_WASI_SUCCESS);
    FL_CHECK_INT(strlen(logged), FL_WASI_LINE_MAX + 1);
    /* The last line keeps its first part, also when it is never ended. */
    line[FL_WASI_LINE_MAX] = 'y';
    FL_CHECK_INT(write_text(2, line), FL_WASI_SUCCESS);
    fl_wasi_finish(&wasi);
    FL_CHECK_INT(wasi.last_line[0], 'x');
}

FL_TEST(wasi, a_flood_of_log_is_cut_and_says_so)
{
    begin();
    /* The memory three times over, without a line's end. */
    memset(bytes, 'x', sizeof(bytes));
    for (uint32_t i = 0; i < 3; i++) {
        lay_iov(i, 0, END);
    }
    wasi.config.log = NULL;
    FL_CHECK_INT(fl_wasi_fd_write(&wasi, memory, 2, IOVS, 3, OUT), FL_WASI_SUCCESS);
    FL_CHECK_INT(load(OUT), 3 * END);
    FL_CHECK_STRING(wasi.last_line, "(8192 bytes left out)");
}

FL_TEST(wasi, no_log_is_fine)
{
    begin();
    wasi.config.log = NULL;
    FL_CHECK_INT(write_text(2, "one\n"), FL_WASI_SUCCESS);
    FL_CHECK_STRING(wasi.last_line, "one");
}

FL_TEST(wasi, stdin_is_at_its_end_and_cannot_be_written)
{
    begin();
    lay_iov(0, BUFFER, 4);
    FL_CHECK_INT(fl_wasi_fd_read(&wasi, memory, 0, IOVS, 1, OUT), FL_WASI_SUCCESS);
    FL_CHECK_INT(load(OUT), 0);
    FL_CHECK_INT(write_text(0, "x"), FL_WASI_BADF);
    FL_CHECK_INT(fl_wasi_fd_read(&wasi, memory, 1, IOVS, 1, OUT), FL_WASI_BADF);
    FL_CHECK_INT(fl_wasi_fd_read(&wasi, memory, 3, IOVS, 1, OUT), FL_WASI_ISDIR);
}

FL_TEST(wasi, every_address_is_checked)
{
    uint32_t fd;

    begin();
    fd = open_file("model");
    for (int reading = 0; reading < 3; reading++) {
        static const uint32_t bad[][2] = {
            {END - 3, 4}, {END + 1, 0}, {UINT32_MAX, 1}, {UINT32_MAX, UINT32_MAX}, {0, END + 1},
        };
        uint32_t status;

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
            lay_iov(0, BUFFER, 1);
            lay_iov(1, bad[i][0], bad[i][1]);
            status = reading == 0   ? fl_wasi_fd_read(&wasi, memory, fd, IOVS, 2, OUT)
                     : reading == 1 ? fl_wasi_fd_pread(&wasi, memory, fd, IOVS, 2, 0, OUT)
                                    : fl_wasi_fd_write(&wasi, memory, 1, IOVS, 2, OUT);
            FL_CHECK_INT(status, FL_WASI_FAULT);
            FL_CHECK_INT(bytes[BUFFER], 0xAA); /* and nothing was done before it was seen */
            FL_CHECK_INT(wasi.output_size_bytes, 0);
        }
    }
    lay_iov(0, BUFFER, 1);
    FL_CHECK_INT(fl_wasi_fd_write(&wasi, memory, 1, IOVS, 1, END - 3), FL_WASI_FAULT);
    FL_CHECK_INT(fl_wasi_fd_read(&wasi, memory, fd, IOVS, 1, END - 3), FL_WASI_FAULT);
    FL_CHECK_INT(fl_wasi_fd_pread(&wasi, memory, fd, IOVS, 1, 0, END - 3), FL_WASI_FAULT);
    FL_CHECK_INT(fl_wasi_fd_write(&wasi, memory, 1, END - 7, 1, OUT), FL_WASI_FAULT);
    FL_CHECK_INT(fl_wasi_fd_write(&wasi, memory, 1, IOVS, 1024, OUT), FL_WASI_FAULT);
    FL_CHECK_INT(fl_wasi_fd_write(&wasi, memory, 1, IOVS, 1025, OUT), FL_WASI_INVAL);
    FL_CHECK_INT(fl_wasi_fd_write(&wasi, memory, 1, IOVS, UINT32_MAX, OUT), FL_WASI_INVAL);
    FL_CHECK_INT(fl_wasi_fd_fdstat_get(&wasi, memory, 1, END - 23), FL_WASI_FAULT);
    FL_CHECK_INT(fl_wasi_fd_filestat_get(&wasi, memory, 1, END - 63), FL_WASI_FAULT);
    FL_CHECK_INT(fl_wasi_args_sizes_get(&wasi, memory, END, OUT), FL_WASI_FAULT);
    FL_CHECK_INT(wasi.output_size_bytes, 0);
}

FL_TEST(wasi, the_last_byte_of_memory_is_usable)
{
    begin();
    bytes[END - 1] = 'z';
    lay_iov(0, END - 1, 1);
    lay_iov(1, END, 0);
    FL_CHECK_INT(fl_wasi_fd_write(&wasi, memory, 1, IOVS, 2, END - 5), FL_WASI_SUCCESS);
    FL_CHECK_INT(output[0], 'z');
    FL_CHECK_INT(load(END - 5), 1);
}

FL_TEST(wasi, a_read_over_its_own_buffer_list_stays_inside)
{
    uint32_t fd;

    begin();
    /* The model's bytes, read as the second buffer, point far outside. */
    fd = open_file("model");
    lay_iov(0, IOVS + 8, 8);
    lay_iov(1, BUFFER, 1);
    FL_CHECK_INT(fl_wasi_fd_read(&wasi, memory, fd, IOVS, 2, OUT), FL_WASI_FAULT);
    FL_CHECK_BYTES(bytes + IOVS + 8, "01234567", 8);
}

FL_TEST(wasi, what_the_memory_was_does_not_matter)
{
    begin();
    memory.size_bytes = 600;
    lay_iov(0, 700, 4);
    FL_CHECK_INT(fl_wasi_fd_write(&wasi, memory, 1, IOVS, 1, OUT), FL_WASI_FAULT);
    memory.size_bytes = MEMORY_SIZE; /* it grew */
    FL_CHECK_INT(fl_wasi_fd_write(&wasi, memory, 1, IOVS, 1, OUT), FL_WASI_SUCCESS);
    memory = (struct fl_wasi_memory){NULL, 0};
    FL_CHECK_INT(fl_wasi_fd_write(&wasi, memory, 1, 0, 0, 0), FL_WASI_FAULT);
}

FL_TEST(wasi, buffers_that_add_up_to_too_much)
{
    begin();
    memory.base = bytes;
    for (uint32_t i = 0; i < 3; i++) {
        lay_iov(i, 0, END);
    }
    FL_CHECK_INT(fl_wasi_fd_write(&wasi, memory, 1, IOVS, 3, OUT), FL_WASI_NOSPC);
    FL_CHECK_INT(wasi.output_size_bytes, 0);
}

FL_TEST(wasi, what_the_descriptors_are)
{
    uint32_t fd;

    begin();
    fd = open_file("model");
    FL_CHECK_INT(fl_wasi_fd_fdstat_get(&wasi, memory, fd, BUFFER), FL_WASI_SUCCESS);
    FL_CHECK_INT(bytes[BUFFER], 4);
    FL_CHECK_INT(load(BUFFER + 8) & 1u << 6, 0);
    FL_CHECK_INT(fl_wasi_fd_fdstat_get(&wasi, memory, 3, BUFFER), FL_WASI_SUCCESS);
    FL_CHECK_INT(bytes[BUFFER], 3);
    FL_CHECK_INT(fl_wasi_fd_fdstat_get(&wasi, memory, 1, BUFFER), FL_WASI_SUCCESS);
    FL_CHECK_INT(bytes[BUFFER], 0);
    FL_CHECK_INT(load(BUFFER + 8), 1u << 6);
    FL_CHECK_INT(bytes[BUFFER + 24], 0xAA);
    FL_CHECK_INT(fl_wasi_fd_fdstat_get(&wasi, memory, 9, BUFFER), FL_WASI_BADF);
    FL_CHECK_INT(fl_wasi_fd_filestat_get(&wasi, memory, fd, BUFFER), FL_WASI_SUCCESS);
    FL_CHECK_INT(bytes[BUFFER + 16], 4);
    FL_CHECK_INT(load(BUFFER + 32), 10);
    FL_CHECK_INT(load(BUFFER + 60), 0);
    FL_CHECK_INT(bytes[BUFFER + 64], 0xAA);
    FL_CHECK_INT(fl_wasi_fd_filestat_get(&wasi, memory, 3, BUFFER), FL_WASI_SUCCESS);
    FL_CHECK_INT(bytes[BUFFER + 16], 3);
    FL_CHECK_INT(fl_wasi_fd_filestat_get(&wasi, memory, 9, BUFFER), FL_WASI_BADF);
}

FL_TEST(wasi, flags_change_nothing)
{
    uint32_t fd;

    begin();
    fd = open_file("model");
    FL_CHECK_INT(fl_wasi_fd_fdstat_set_flags(&wasi, memory, fd, 0), FL_WASI_SUCCESS);
    FL_CHECK_INT(fl_wasi_fd_fdstat_set_flags(&wasi, memory, 1, 4), FL_WASI_SUCCESS);
    FL_CHECK_INT(fl_wasi_fd_fdstat_set_flags(&wasi, memory, fd, 32), FL_WASI_INVAL);
    FL_CHECK_INT(fl_wasi_fd_fdstat_set_flags(&wasi, memory, 9, 0), FL_WASI_BADF);
}

/* An import that is listed but missing here does not compile. */
FL_TEST(wasi, every_function_of_the_contract_is_here)
{
    static const struct {
        const char *name;
        void (*function)(void);
    } imports[] = {
#define FL_IMPORT(name, signature, result, parameters) {#name, (void (*)(void))fl_wasi_##name},
#include "../../../../wasm_client/sdk/fl_imports.h"
    };

    for (size_t i = 0; i < sizeof(imports) / sizeof(imports[0]); i++) {
        FL_CHECK(imports[i].function != NULL);
    }
}

FL_TEST(wasi, the_first_exit_counts)
{
    begin();
    FL_CHECK(!fl_wasi_ended(&wasi));
    fl_wasi_proc_exit(&wasi, 3);
    fl_wasi_proc_exit(&wasi, 0);
    FL_CHECK(fl_wasi_ended(&wasi));
    FL_CHECK_INT(wasi.end, FL_WASI_EXITED);
    FL_CHECK_INT(wasi.exit_status, 3);
}

/* a command */

static const struct fl_command echo = {
    .name = "echo", .args = "a b\0", .args_size = 5, .args_count = 2, .inputs = "3 -5"};

FL_TEST(wasi, a_command_finds_its_arguments)
{
    begin();
    wasi.config.command = &echo;
    FL_CHECK_INT(fl_wasi_args_sizes_get(&wasi, memory, OUT, OUT + 4), FL_WASI_SUCCESS);
    FL_CHECK_INT(load(OUT), 5);
    FL_CHECK_INT(load(OUT + 4), 15);
    FL_CHECK_INT(fl_wasi_args_get(&wasi, memory, IOVS, BUFFER), FL_WASI_SUCCESS);
    FL_CHECK_BYTES(bytes + BUFFER, "echo\0a b\0\0003\0-5\0\xAA", 16);
    FL_CHECK_INT(load(IOVS), BUFFER);
    FL_CHECK_INT(load(IOVS + 4), BUFFER + 5);
    FL_CHECK_INT(load(IOVS + 8), BUFFER + 9);
    FL_CHECK_INT(load(IOVS + 12), BUFFER + 10);
    FL_CHECK_INT(load(IOVS + 16), BUFFER + 12);
    FL_CHECK_INT(load(IOVS + 20), 0xAAAAAAAA);
}

FL_TEST(wasi, arguments_may_end_where_the_memory_ends)
{
    begin();
    wasi.config.command = &echo;
    FL_CHECK_INT(fl_wasi_args_get(&wasi, memory, END - 20, OUT), FL_WASI_SUCCESS);
    FL_CHECK_INT(fl_wasi_args_get(&wasi, memory, OUT, END - 15), FL_WASI_SUCCESS);
    FL_CHECK_INT(fl_wasi_args_get(&wasi, memory, END - 15, END - 15), FL_WASI_FAULT);
    FL_CHECK_INT(fl_wasi_args_get(&wasi, memory, END - 19, OUT), FL_WASI_FAULT);
    FL_CHECK_INT(fl_wasi_args_get(&wasi, memory, OUT, END - 14), FL_WASI_FAULT);
    FL_CHECK_INT(fl_wasi_args_get(&wasi, memory, OUT, UINT32_MAX), FL_WASI_FAULT);
    FL_CHECK_INT(fl_wasi_args_sizes_get(&wasi, memory, END - 3, OUT), FL_WASI_FAULT);
}

FL_TEST(wasi, of_endless_output_the_end_is_kept)
{
    begin();
    wasi.config.endless_output = true;
    FL_CHECK_INT(write_text(1, "0123456789abcdef0123456789"), FL_WASI_SUCCESS);
    FL_CHECK_INT(wasi.output_size_bytes, 26);
    FL_CHECK_INT(write_text(1, "ABCDEFGH"), FL_WASI_SUCCESS);
    FL_CHECK_INT(load(OUT), 8);
    FL_CHECK_INT(wasi.output_size_bytes, sizeof(output));
    FL_CHECK_BYTES(output, "23456789abcdef0123456789ABCDEFGH", sizeof(output));
    FL_CHECK_INT(write_text(1, "0123456789abcdefghijklmnopqrstuvwxyz"), FL_WASI_SUCCESS);
    FL_CHECK_INT(load(OUT), 36);
    FL_CHECK_BYTES(output, "456789abcdefghijklmnopqrstuvwxyz", sizeof(output));
    FL_CHECK(!fl_wasi_ended(&wasi));
}

/* sleeping */

static uint64_t slept;
static bool woken; /* from outside */

static bool sleep_for(void *user, uint64_t nanoseconds)
{
    FL_CHECK(user == &slept);
    slept = nanoseconds;
    return !woken;
}

static void begin_sleeping(void)
{
    begin();
    wasi.config.sleep = sleep_for;
    wasi.config.sleep_user = &slept;
    slept = 1;
    woken = false;
}

/* A subscription at BUFFER: `kind` 0 is a clock. */
static void subscribe(uint32_t index, uint32_t user, uint32_t kind, uint64_t timeout)
{
    uint32_t at = BUFFER + 48 * index;

    memset(bytes + at, 0, 48);
    store(at, user);
    store(at + 8, kind);
    store(at + 16, 1); /* the monotonic clock */
    store(at + 24, (uint32_t)timeout);
    store(at + 28, (uint32_t)(timeout >> 32));
}

#define EVENTS 1024u

static uint32_t poll(uint32_t count)
{
    return fl_wasi_poll_oneoff(&wasi, memory, BUFFER, EVENTS, count, OUT);
}

FL_TEST(wasi, a_sleep_lasts_until_the_first_clock)
{
    begin_sleeping();
    subscribe(0, 7, 0, 9000000000u);
    subscribe(1, 8, 0, 5000000000u);
    subscribe(2, 9, 0, 5000000000u);
    FL_CHECK_INT(poll(3), FL_WASI_SUCCESS);
    FL_CHECK_INT(slept, 5000000000);
    FL_CHECK_INT(load(OUT), 2);
    FL_CHECK_INT(load(EVENTS), 8);
    FL_CHECK_INT(load(EVENTS + 8), 0); /* no error, a clock */
    FL_CHECK_INT(load(EVENTS + 32), 9);
    FL_CHECK_INT(load(EVENTS + 64), 0xAAAAAAAA);
}

FL_TEST(wasi, a_stream_is_always_ready)
{
    begin_sleeping();
    subscribe(0, 7, 0, 1000);
    subscribe(1, 8, 2, 0);
    FL_CHECK_INT(poll(2), FL_WASI_SUCCESS);
    FL_CHECK_INT(slept, 0);
    FL_CHECK_INT(load(OUT), 1);
    FL_CHECK_INT(load(EVENTS), 8);
    FL_CHECK_INT(bytes[EVENTS + 10], 2);
}

FL_TEST(wasi, events_may_lie_where_the_subscriptions_do)
{
    begin_sleeping();
    subscribe(0, 7, 0, 5);
    subscribe(1, 8, 0, 5);
    FL_CHECK_INT(fl_wasi_poll_oneoff(&wasi, memory, BUFFER, BUFFER + 20, 2, OUT), FL_WASI_SUCCESS);
    FL_CHECK_INT(load(OUT), 2);
    FL_CHECK_INT(load(BUFFER + 20), 7);
    FL_CHECK_INT(load(BUFFER + 52), 8);
}

FL_TEST(wasi, a_sleep_that_is_ended_from_outside_ends_the_run)
{
    begin_sleeping();
    woken = true;
    subscribe(0, 7, 0, 5);
    (void)poll(1);
    FL_CHECK(fl_wasi_ended(&wasi));
    FL_CHECK_INT(wasi.end, FL_WASI_STOPPED);
    FL_CHECK_INT(load(EVENTS), 0xAAAAAAAA);
}

FL_TEST(wasi, what_cannot_be_waited_for)
{
    begin_sleeping();
    subscribe(0, 7, 0, 5);
    FL_CHECK_INT(poll(0), FL_WASI_INVAL);
    FL_CHECK_INT(poll(FL_WASI_SUBSCRIPTIONS_MAX + 1), FL_WASI_INVAL);
    FL_CHECK_INT(fl_wasi_poll_oneoff(&wasi, memory, END - 47, EVENTS, 1, OUT), FL_WASI_FAULT);
    FL_CHECK_INT(fl_wasi_poll_oneoff(&wasi, memory, BUFFER, END - 31, 1, OUT), FL_WASI_FAULT);
    FL_CHECK_INT(fl_wasi_poll_oneoff(&wasi, memory, BUFFER, EVENTS, 1, END - 3), FL_WASI_FAULT);
    bytes[BUFFER + 40] = 1; /* a point in time */
    FL_CHECK_INT(poll(1), FL_WASI_INVAL);
    FL_CHECK_INT(slept, 1);
    FL_CHECK_INT(load(OUT), 0xAAAAAAAA);
}
