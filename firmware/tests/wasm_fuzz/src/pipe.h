/*
 * Standard input and output of the host. Implemented in pipe.c, which is compiled with the host's
 * headers, not Zephyr's: so only plain types cross this line.
 */
#ifndef PIPE_H
#define PIPE_H

#include <stdbool.h>
#include <stddef.h>

/* To be called once, before anything else: what Zephyr prints goes to standard error from then on.
 */
void pipe_begin(void);

/* Reads exactly `size` bytes. Returns false when the input ends before. */
bool pipe_read(void *to, size_t size);

/* Writes all of `size` bytes. Returns false when nobody reads any more. */
bool pipe_write(const void *from, size_t size);

#endif
