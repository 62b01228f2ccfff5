#include "fl_trust.h"

#include <string.h>

static const char domain[] = "propeller-fl image v1"; /* with its NUL */

enum fl_trust fl_trust_judge(const struct fl_signatures *signatures,
                             const uint8_t image_sha256[FL_SHA256_SIZE],
                             const uint8_t (*keys)[FL_ED25519_KEY_SIZE], size_t key_count)
{
    enum fl_trust found = signatures->count == 0 ? FL_TRUST_UNSIGNED : FL_TRUST_STRANGER;
    uint8_t message[sizeof(domain) + FL_SHA256_SIZE];

    memcpy(message, domain, sizeof(domain));
    memcpy(message + sizeof(domain), image_sha256, FL_SHA256_SIZE);
    for (size_t key = 0; key < key_count; key++) {
        uint8_t digest[FL_SHA256_SIZE];

        fl_sha256_of(keys[key], FL_ED25519_KEY_SIZE, digest);
        for (size_t i = 0; i < signatures->count; i++) {
            const struct fl_signature *signature = &signatures->list[i];

            if (memcmp(signature->key_id, digest, FL_KEY_ID_SIZE) != 0) {
                continue;
            }
            if (fl_ed25519_verify(signature->bytes, keys[key], message, sizeof(message))) {
                return FL_TRUST_OK;
            }
            found = FL_TRUST_OTHER_IMAGE;
        }
    }
    return found;
}

bool fl_key_id_from_hex(const char *hex, size_t size, uint8_t key_id[FL_KEY_ID_SIZE])
{
    char padded[FL_SHA256_HEX_SIZE];
    uint8_t digest[FL_SHA256_SIZE];

    if (size != FL_KEY_ID_HEX_SIZE) {
        return false;
    }
    memset(padded, '0', sizeof(padded));
    memcpy(padded, hex, size);
    if (!fl_sha256_from_hex(padded, sizeof(padded), digest)) {
        return false;
    }
    memcpy(key_id, digest, FL_KEY_ID_SIZE);
    return true;
}
