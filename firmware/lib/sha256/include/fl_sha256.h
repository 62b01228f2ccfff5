/*
 * SHA-256 (FIPS 180-4) over a stream. Small rather than fast: it checks images and updates of a
 * few kilobytes, and needs no crypto library.
 */
#ifndef FL_SHA256_H
#define FL_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FL_SHA256_SIZE 32     /* bytes of a digest */
#define FL_SHA256_HEX_SIZE 64 /* characters of a digest in hexadecimal, without a NUL */

struct fl_sha256 {
    uint32_t state[8];
    uint64_t size_bytes;
    uint8_t block[64];
};

void fl_sha256_begin(struct fl_sha256 *hash);
void fl_sha256_update(struct fl_sha256 *hash, const void *data, size_t size);

/* Writes the digest. `hash` is used up: fl_sha256_begin() starts it anew. */
void fl_sha256_end(struct fl_sha256 *hash, uint8_t digest[FL_SHA256_SIZE]);

/* The digest of `size` bytes at `data`, in one go. */
void fl_sha256_of(const void *data, size_t size, uint8_t digest[FL_SHA256_SIZE]);

/* Writes `digest` as lower-case hexadecimal, with a NUL. */
void fl_sha256_to_hex(const uint8_t digest[FL_SHA256_SIZE], char hex[FL_SHA256_HEX_SIZE + 1]);

/*
 * Reads 64 lower-case hexadecimal characters at `hex`. Returns false, with `digest` untouched,
 * when `size` is not 64 or a character is another (upper case is another: one digest, one name).
 */
bool fl_sha256_from_hex(const char *hex, size_t size, uint8_t digest[FL_SHA256_SIZE]);

bool fl_sha256_equal(const uint8_t a[FL_SHA256_SIZE], const uint8_t b[FL_SHA256_SIZE]);

#endif
