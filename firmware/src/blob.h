/*
 * Bytes that somebody put into this machine's memory or flash from outside: local data, or
 * configuration. A header says what they are, so that an empty place is told from a filled one.
 *
 *   offset  size  what
 *        0     4  "FLB1"
 *        4     4  kind: "data" or "conf"
 *        8     4  size of the payload in bytes, little-endian
 *       12    32  SHA-256 of the payload
 *       44        the payload
 *
 * scripts/fl_blob.py writes it.
 */
#ifndef BLOB_H
#define BLOB_H

#include "fl_sha256.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLOB_HEADER_SIZE 44
#define BLOB_KIND_DATA "data"
#define BLOB_KIND_CONFIG "conf"

/* Reads `size` bytes at `offset` of the place. Returns false when the medium fails. */
typedef bool (*blob_read)(void *user, uint32_t offset, uint8_t *out, size_t size);

/*
 * Looks for a blob of `kind` in a place of `capacity` bytes. Returns 0 and the payload's size;
 * -ENOENT: there is none; -EINVAL: it is of another kind or larger than its place; -EIO: the medium
 * fails; -EBADMSG: the payload is not what the header's digest says.
 */
int blob_find(blob_read read, void *user, uint32_t capacity, const char *kind,
              uint32_t *payload_bytes);

#endif
