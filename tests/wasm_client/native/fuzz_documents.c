/*
 * Damaged documents: whatever comes in, a client reads it or fails with one line; it never reads or
 * writes where it must not (the sanitizers look on).
 *
 *     fuzz_documents ROUNDS FILE...      each FILE a sound model or data set
 */
#include "fl_dataset.h"
#include "fl_hyper.h"
#include "fl_number.h"
#include "platform_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUES_MAX = 1 << 16 };

static uint64_t state = 88172645463325252;

static uint32_t below(size_t limit)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 16) % limit);
}

/* Reads every tensor into a block of exactly its size. */
static void read_document(void)
{
    static struct fl_document document;

    fl_document_open(&document, "model", "/fl/model", "MODEL_DATA");
    for (uint32_t i = 0; i < document.count; i++) {
        const struct fl_tensor *tensor = &document.tensors[i];

        if (tensor->count <= VALUES_MAX) {
            static float *values;

            free(values); /* that of the round before, if that one failed */
            values = malloc(tensor->count * sizeof *values);
            fl_tensor_read(&document, tensor, values);
        }
    }
}

static void read_dataset(void)
{
    static struct fl_dataset dataset;
    static float *x;
    FL_ARENA(arena, 4096);

    arena.used = 0;
    fl_dataset_open(&dataset, &arena);
    if (dataset.features <= VALUES_MAX) {
        free(x);
        x = malloc(dataset.features * sizeof *x);
        (void)fl_dataset_sample(&dataset, 0, x);
        (void)fl_dataset_sample(&dataset, dataset.samples - 1, x);
    }
}

static char *hyperparams;

static void read_hyperparams(void)
{
    struct fl_hyper hypers[] = {{"lr", 0.5f, 0.0f, 10.0f, false},
                                {"epochs", 1.0f, 1.0f, 9.0f, true}};

    fl_hyper_read(hyperparams, hypers, 2);
}

/* Damages `bytes` in one to four places; returns the new size, at most `size` + 64. */
static size_t damage(uint8_t *bytes, size_t size)
{
    static const uint8_t odd[] = {0x00, 0xff, 0x7f, 0x80, '[',  ']',  '{',  '}',  ',',  '"', '-',
                                  'e',  '9',  0x1b, 0x5f, 0x9f, 0xbf, 0xd8, 0xfb, 0xf9, 0x3b};

    for (uint32_t i = 1 + below(4); i > 0 && size > 0; i--) {
        uint32_t at = below(size);

        switch (below(5)) {
        case 0:
            bytes[at] ^= (uint8_t)(1 << below(8));
            break;
        case 1:
            bytes[at] = odd[below(sizeof odd)];
            break;
        case 2:
            size = at; /* cut off */
            break;
        case 3: { /* leave some out */
            uint32_t gone = 1 + below(size - at);

            memmove(bytes + at, bytes + at + gone, size - at - gone);
            size -= gone;
            break;
        }
        default: { /* say some twice */
            uint32_t more = 1 + below(size - at < 16 ? size - at : 16);

            memmove(bytes + at + more, bytes + at, size - at);
            size += more;
            break;
        }
        }
    }
    return size;
}

static int failures;
static unsigned counts[2];

static void run(const char *file, const uint8_t *bytes, size_t size, bool must_succeed)
{
    static void (*const targets[])(void) = {read_document, read_dataset, read_hyperparams};
    uint8_t *exact = malloc(size > 0 ? size : 1);
    bool any = false;

    memcpy(exact, bytes, size);
    hyperparams = malloc(size + 1);
    memcpy(hyperparams, bytes, size);
    hyperparams[size] = '\0';
    memory_files[0] = (struct memory_file){"/fl/model", exact, size};
    memory_files[1] = (struct memory_file){"/fl/data", exact, size};
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        bool failed = !memory_run(targets[i]);

        counts[failed]++;
        any |= !failed;
        char *end = strchr(memory_stderr, '\n');
        if (failed && (end == NULL || end == memory_stderr)) {
            printf("%s: failed with \"%s\"\n", file, memory_stderr);
            failures++;
        }
    }
    if (must_succeed && !any) {
        printf("%s: is refused although sound: %s", file, memory_stderr);
        failures++;
    }
    free(exact);
    free(hyperparams);
}

int main(int argc, char **argv)
{
    static uint8_t sound[1 << 16];
    static uint8_t bytes[(1 << 16) + 64];
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 0;

    for (int i = 2; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        size_t size = file != NULL ? fread(sound, 1, sizeof sound, file) : 0;

        if (size == 0 || fclose(file) != 0) {
            printf("%s: cannot be read\n", argv[i]);
            return 2;
        }
        run(argv[i], sound, size, true);
        for (long round = 0; round < rounds; round++) {
            memcpy(bytes, sound, size);
            run(argv[i], bytes, damage(bytes, size), false);
        }
    }
    printf("%u read, %u refused, %d failures\n", counts[0], counts[1], failures);
    return failures != 0 || counts[0] == 0 || counts[1] == 0;
}
