/*
 * SHA-512 (FIPS 180-4) over a stream, for Ed25519. Small rather than fast: it hashes some hundred
 * bytes.
 */
#ifndef FL_SHA512_H
#define FL_SHA512_H

#include <stddef.h>
#include <stdint.h>

#define FL_SHA512_SIZE 64 /* bytes of a digest */

struct fl_sha512 {
    uint64_t state[8];
    uint64_t size_bytes;
    uint8_t block[128];
};

void fl_sha512_begin(struct fl_sha512 *hash);
void fl_sha512_update(struct fl_sha512 *hash, const void *data, size_t size);

/* Writes the digest. `hash` is used up: fl_sha512_begin() starts it anew. */
void fl_sha512_end(struct fl_sha512 *hash, uint8_t digest[FL_SHA512_SIZE]);

#endif
