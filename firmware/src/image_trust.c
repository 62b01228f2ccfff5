#include "image_trust.h"

/* One row a key, from CONFIG_FL_TRUSTED_KEYS_FILE. */
static const uint8_t keys[][FL_ED25519_KEY_SIZE] = {
#include "fl_trusted_keys.inc"
};

enum fl_trust image_trust_judge(const uint8_t *image, uint32_t size,
                                const struct fl_signatures *signatures)
{
    uint8_t digest[FL_SHA256_SIZE];

    fl_sha256_of(image, size, digest);
    return fl_trust_judge(signatures, digest, keys, sizeof(keys) / sizeof(keys[0]));
}
