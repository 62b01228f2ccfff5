/*
 * Base64 (RFC 4648 section 4: standard alphabet, padded, no line breaks), decoded as it arrives in
 * pieces of any size.
 */
#ifndef FL_BASE64_H
#define FL_BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fl_base64 {
    uint32_t bits;   /* of the group under way */
    uint8_t count;   /* characters of it seen, padding included */
    uint8_t padding; /* '=' seen; once there is one, only its group's rest may follow */
    bool ended;      /* a padded group is complete: nothing may follow */
};

/* Bytes that feeding `size` characters can give at most. */
#define FL_BASE64_DECODED_MAX(size) (((size) + 3) / 4 * 3)

void fl_base64_begin(struct fl_base64 *decoder);

/*
 * Decodes `size` characters into `out` (room for FL_BASE64_DECODED_MAX(size) bytes) and sets
 * `*out_size`. Returns false at a character that cannot stand where it stands; the decoder is then
 * of no further use.
 */
bool fl_base64_feed(struct fl_base64 *decoder, const char *in, size_t size, uint8_t *out,
                    size_t *out_size);

/* Whether what was fed is whole: no group is left open. */
bool fl_base64_end(const struct fl_base64 *decoder);

#endif
