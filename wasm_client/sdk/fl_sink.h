/* Bytes on their way to stdout or stderr, a buffer at a time: hosts may log write by write. */
#ifndef FL_SINK_H
#define FL_SINK_H

#include <stdint.h>

/* From here on bytes go to `fd`. What has not been flushed is dropped: the run has failed. */
void fl_sink_begin(uint32_t fd);

/*
 * Fails (fl_fail) when stdout cannot be written. Where stderr cannot there is nobody left to tell;
 * the exit status remains.
 */
void fl_sink_flush(void);

/* The lowest eight bits of `byte`. Flushes when there is no room; so do the others. */
void fl_put(uint32_t byte);

void fl_put_all(const void *bytes, uint32_t size);

/* A number in decimal. */
void fl_put_u32(uint32_t value);

#endif
