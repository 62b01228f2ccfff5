/*
 * Bytes from a file, or from an environment variable in its place; and a cursor over them. Only the
 * first 4 GiB can be reached.
 */
#ifndef FL_SOURCE_H
#define FL_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

struct fl_source {
    const char *name;      /* "model": how errors call it */
    const uint8_t *memory; /* NULL: it is a file */
    uint32_t memory_size;
    uint32_t fd;
};

/*
 * The file at `path`; where there is none, the variable `variable`. Fails (fl_fail) when there is
 * neither, or the file cannot be opened.
 */
void fl_source_open(struct fl_source *source, const char *name, const char *path,
                    const char *variable);

/* A string that lives as long as the source. */
void fl_source_text(struct fl_source *source, const char *name, const char *text);

/* Copies `size` bytes at `offset`. Fails when the source ends before, or cannot be read. */
void fl_source_read(const struct fl_source *source, uint32_t offset, void *bytes, uint32_t size);

/*
 * The cursor. There is one, for one source at a time: a client reads its documents one after the
 * other. It reads ahead, 256 bytes at a time.
 */
void fl_cursor_begin(const struct fl_source *source, uint32_t offset);

/* Where the next byte lies in the source. */
uint32_t fl_cursor_offset(void);

/* The next byte, which stays; -1 at the end. */
int fl_peek(void);

/* The next byte. Fails at the end. */
uint32_t fl_next(void);

/* Goes past `size` bytes. Fails when there are fewer. */
void fl_skip(uint32_t size);

/* Fails with the source's name, the place, and what is expected there. */
_Noreturn void fl_expected(const char *what);

#endif
