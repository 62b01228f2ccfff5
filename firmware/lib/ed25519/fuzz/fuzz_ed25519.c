/* Whatever is verified: it does not hold for another message, nor with another s. */
#include "fl_ed25519.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t signature[FL_ED25519_SIGNATURE_SIZE];
    const uint8_t *key = data;
    const uint8_t *message = data + FL_ED25519_KEY_SIZE + sizeof(signature);

    if (size < FL_ED25519_KEY_SIZE + sizeof(signature)) {
        return 0;
    }
    memcpy(signature, data + FL_ED25519_KEY_SIZE, sizeof(signature));
    size -= FL_ED25519_KEY_SIZE + sizeof(signature);
    if (!fl_ed25519_verify(signature, key, message, size)) {
        return 0;
    }
    if (size > 0 && fl_ed25519_verify(signature, key, message, size - 1)) {
        abort();
    }
    signature[32] ^= 1;
    if (fl_ed25519_verify(signature, key, message, size)) {
        abort();
    }
    return 0;
}
