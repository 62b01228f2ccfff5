#include "wasi_private.h"

#include "fl_text.h"

#include <string.h>

/* Hands on what the line buffer holds. */
static void flush_line(struct fl_wasi *wasi, bool last)
{
    wasi->line[wasi->line_size] = '\0';
    if (!wasi->line_continues && wasi->line_size > 0) {
        memcpy(wasi->last_line, wasi->line, wasi->line_size + 1u);
    }
    if (wasi->config.log != NULL) {
        wasi->config.log(wasi->config.log_user, wasi->line, wasi->line_size, last);
    }
    wasi->line_continues = !last;
    wasi->line_size = 0;
}

static void write_log(struct fl_wasi *wasi, const uint8_t *bytes, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++) {
        if (bytes[i] == '\n') {
            flush_line(wasi, true);
            continue;
        }
        if (wasi->line_size == FL_WASI_LINE_MAX) {
            flush_line(wasi, false);
        }
        wasi->line[wasi->line_size++] = (char)bytes[i];
    }
}

/* Says in a line of its own that `size` bytes did not reach the log. */
static void note_left_out(struct fl_wasi *wasi, uint32_t size)
{
    struct fl_text text;

    fl_wasi_finish(wasi);
    fl_text_begin(&text, wasi->line, sizeof(wasi->line));
    fl_text_put(&text, "(");
    fl_text_put_u64(&text, size);
    fl_text_put(&text, " bytes left out)");
    wasi->line_size = (uint32_t)text.size;
    flush_line(wasi, true);
}

static void write_output(struct fl_wasi *wasi, const uint8_t *bytes, uint32_t size)
{
    uint32_t capacity = wasi->config.output_capacity_bytes;
    uint32_t room = capacity - wasi->output_size_bytes;

    if (FL_ARGS_SUPPORTED && size > capacity) { /* without a limit, of which the end is kept */
        bytes += size - capacity;
        size = capacity;
    }
    if (FL_ARGS_SUPPORTED && size > room) {
        wasi->output_size_bytes -= size - room;
        memmove(wasi->config.output, wasi->config.output + (size - room), wasi->output_size_bytes);
    }
    memcpy(wasi->config.output + wasi->output_size_bytes, bytes, size);
    wasi->output_size_bytes += size;
}

void fl_wasi_finish(struct fl_wasi *wasi)
{
    if (wasi->line_size > 0 || wasi->line_continues) {
        flush_line(wasi, true);
    }
}

uint32_t fl_wasi_fd_write(struct fl_wasi *wasi, struct fl_wasi_memory memory, uint32_t fd,
                          uint32_t iovs_at, uint32_t iov_count, uint32_t written_out)
{
    struct fl_wasi_open_file *file;
    struct wasi_iovs iovs;
    uint8_t *written = wasi_at(memory, written_out, 4);
    uint32_t log_left = FL_WASI_LOG_CALL_MAX;
    uint32_t status;

    if (wasi_kind(wasi, fd, &file) != WASI_KIND_STREAM || fd == WASI_FD_STDIN) {
        return FL_WASI_BADF;
    }
    status = wasi_iovs_check(&iovs, memory, iovs_at, iov_count);
    if (status != FL_WASI_SUCCESS) {
        return status;
    }
    if (written == NULL) {
        return FL_WASI_FAULT;
    }
    if (fd == WASI_FD_STDOUT) {
        uint32_t room = wasi->config.output_capacity_bytes - wasi->output_size_bytes;

        if (wasi->end == FL_WASI_RUNNING && !wasi->config.endless_output &&
            iovs.total_bytes > room) {
            wasi->end = FL_WASI_OUTPUT_LIMIT;
        }
        if (fl_wasi_ended(wasi)) {
            return FL_WASI_NOSPC;
        }
    }
    for (uint32_t i = 0; i < iov_count; i++) {
        uint32_t size;
        const uint8_t *bytes = wasi_iovs_buffer(&iovs, i, &size);

        if (bytes == NULL) {
            return FL_WASI_FAULT;
        }
        if (fd == WASI_FD_STDOUT) {
            write_output(wasi, bytes, size);
        } else {
            size = size < log_left ? size : log_left;
            log_left -= size;
            write_log(wasi, bytes, size);
        }
    }
    if (fd == WASI_FD_STDERR && iovs.total_bytes > FL_WASI_LOG_CALL_MAX) {
        note_left_out(wasi, iovs.total_bytes - FL_WASI_LOG_CALL_MAX);
    }
    wasi_store_u32(written, iovs.total_bytes);
    return FL_WASI_SUCCESS;
}
