/*
 * Runs what comes over standard input and says on standard output how it ended, until the input
 * ends. Both are sequences of u32, little-endian as the host is, followed by bytes:
 *
 *   in    sizes of module, environment, model, data · the four of them
 *   out   end (enum fl_run_end), new edges, sizes of output, detail · the two of them
 *
 * The environment is NAME=VALUE strings, each with its NUL.
 */
#include "coverage.h"
#include "image_store.h"
#include "pipe.h"
#include "wasm_run.h"

#include <posix_board_if.h>
#include <string.h>
#include <zephyr/kernel.h>
#include <zephyr/sys/util.h>

#define FILE_BYTES_MAX 65536

enum part {
    PART_MODULE,
    PART_ENV,
    PART_MODEL,
    PART_DATA,
    PARTS,
};

struct answer {
    uint32_t end;
    uint32_t new_edges;
    uint32_t output_size;
    uint32_t detail_size;
};

static struct {
    struct fl_env env;
    uint8_t module[CONFIG_FL_IMAGE_BYTES_MAX];
    uint8_t model[FILE_BYTES_MAX];
    uint8_t data[FILE_BYTES_MAX];
    uint8_t output[CONFIG_FL_OUTPUT_BYTES_MAX];
} io;

/* Returns false when the input ends, or is none of ours. */
static bool read_parts(uint32_t sizes[PARTS])
{
    uint8_t *const places[PARTS] = {io.module, (uint8_t *)io.env.text, io.model, io.data};
    const size_t capacities[PARTS] = {sizeof(io.module), sizeof(io.env.text), sizeof(io.model),
                                      sizeof(io.data)};

    if (!pipe_read(sizes, PARTS * sizeof(*sizes))) {
        return false;
    }
    for (size_t i = 0; i < PARTS; i++) {
        if (sizes[i] > capacities[i] || !pipe_read(places[i], sizes[i])) {
            return false;
        }
    }
    io.env.size = (uint16_t)sizes[PART_ENV];
    io.env.count = 0;
    for (size_t i = 0; i < sizes[PART_ENV]; i++) {
        io.env.count += io.env.text[i] == '\0' ? 1u : 0u;
    }
    return sizes[PART_ENV] == 0 || io.env.text[sizes[PART_ENV] - 1] == '\0';
}

/* Puts the module where the runtime takes it from, as if it had been fetched. */
static bool store_module(uint32_t size)
{
    struct fl_stream_sink sink;
    uint8_t digest[FL_SHA256_SIZE];

    fl_sha256_of(io.module, size, digest);
    return image_store_write(&sink) == 0 && sink.write(sink.user, 0, io.module, size) &&
           image_store_commit(size, digest) == 0;
}

static bool run_one(const uint32_t sizes[PARTS])
{
    const struct wasm_job job = {
        .env = &io.env,
        .files = {{"model", sizes[PART_MODEL], fl_wasi_read_memory, io.model},
                  {"data", sizes[PART_DATA], fl_wasi_read_memory, io.data}},
        .file_count = 2,
        .output = io.output,
        .output_capacity_bytes = sizeof(io.output),
    };
    struct wasm_outcome outcome;
    struct answer answer;

    if (!store_module(sizes[PART_MODULE])) {
        return false;
    }
    coverage_begin();
    wasm_run(&job, &outcome);
    answer = (struct answer){.end = outcome.end,
                             .new_edges = coverage_end(),
                             .output_size = outcome.output_size_bytes,
                             .detail_size = (uint32_t)strlen(outcome.detail)};
    return pipe_write(&answer, sizeof(answer)) && pipe_write(io.output, answer.output_size) &&
           pipe_write(outcome.detail, answer.detail_size);
}

int main(void)
{
    uint32_t sizes[PARTS];

    pipe_begin();
    while (read_parts(sizes) && run_one(sizes)) {
    }
    posix_exit(0);
    return 0;
}
