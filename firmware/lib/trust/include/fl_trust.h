/*
 * Whether a module is signed by a key that is trusted: Ed25519 over what the signature is for and
 * the module's SHA-256. docs/images.md says how signatures are made and travel.
 */
#ifndef FL_TRUST_H
#define FL_TRUST_H

#include "fl_ed25519.h"
#include "fl_sha256.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FL_SIGNATURES_MAX 4   /* of one module */
#define FL_KEY_ID_SIZE 8      /* bytes of a key's id: the first ones of its SHA-256 */
#define FL_KEY_ID_HEX_SIZE 16 /* characters of it in hexadecimal, without a NUL */

struct fl_signature {
    uint8_t key_id[FL_KEY_ID_SIZE];
    uint8_t bytes[FL_ED25519_SIGNATURE_SIZE];
};

struct fl_signatures {
    uint32_t count;
    struct fl_signature list[FL_SIGNATURES_MAX];
};

enum fl_trust {
    FL_TRUST_OK,
    FL_TRUST_UNSIGNED,    /* there is no signature */
    FL_TRUST_STRANGER,    /* there are, but of keys that are not trusted */
    FL_TRUST_OTHER_IMAGE, /* there is one of a trusted key, but of something else */
};

/*
 * Judges a module with the digest `image_sha256`. `keys` are `key_count` public keys, one after
 * another.
 */
enum fl_trust fl_trust_judge(const struct fl_signatures *signatures,
                             const uint8_t image_sha256[FL_SHA256_SIZE],
                             const uint8_t (*keys)[FL_ED25519_KEY_SIZE], size_t key_count);

/*
 * Reads 16 lower-case hexadecimal characters at `hex`. Returns false, with `key_id` in any state,
 * when `size` is not 16 or a character is another.
 */
bool fl_key_id_from_hex(const char *hex, size_t size, uint8_t key_id[FL_KEY_ID_SIZE]);

#endif
