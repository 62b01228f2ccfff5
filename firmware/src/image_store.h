/*
 * The one place for a module's image, known by its SHA-256. In RAM, where it serves for one run; or
 * in flash, where it serves until another one comes.
 */
#ifndef IMAGE_STORE_H
#define IMAGE_STORE_H

#include "fl_sha256.h"
#include "fl_stream.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Finds out what is there. Returns 0, or the negative error of the medium. */
int image_store_begin(void);

/* Whether the image of this digest is there, whole. */
bool image_store_has(const uint8_t sha256[FL_SHA256_SIZE]);

/*
 * Forgets what is there and makes the place ready for another image. `sink` takes its bytes, up to
 * CONFIG_FL_IMAGE_BYTES_MAX. Returns 0, or the negative error of the medium.
 */
int image_store_write(struct fl_stream_sink *sink);

/*
 * What the sink took is a whole image of this size and digest. Returns 0, or the negative error of
 * the medium.
 */
int image_store_commit(uint32_t size_bytes, const uint8_t sha256[FL_SHA256_SIZE]);

/* Size of the image that is there; 0 when there is none. */
uint32_t image_store_size(void);

/*
 * Brings the image into RAM for one run, at `*image`, and checks its digest. The run may write to
 * it: where the store is in RAM it then forgets the image, and the next run's is fetched again.
 * Returns 0; -ENOENT: there is none; -EBADMSG: its bytes have changed; or the negative error of the
 * medium.
 */
int image_store_load(uint8_t **image);

#endif
