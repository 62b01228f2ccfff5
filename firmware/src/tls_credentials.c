#include "tls_credentials.h"

#include "fl_base64.h"

#include <errno.h>
#include <string.h>
#include <zephyr/logging/log.h>
#include <zephyr/net/tls_credentials.h>
#include <zephyr/sys/util.h>

LOG_MODULE_REGISTER(fl_tls, CONFIG_FL_LOG_LEVEL);

struct credential {
    const char *key;
    enum tls_credential_type type;
    size_t size_bytes; /* 0: there is none */
    uint8_t der[CONFIG_FL_TLS_CERTIFICATE_BYTES_MAX];
};

static struct credential credentials[] = {
    {.key = "tls_ca", .type = TLS_CREDENTIAL_CA_CERTIFICATE},
    /* Zephyr's name for one's own certificate, whichever side one is on. */
    {.key = "tls_certificate", .type = TLS_CREDENTIAL_SERVER_CERTIFICATE},
    {.key = "tls_key", .type = TLS_CREDENTIAL_PRIVATE_KEY},
};

static const uint8_t built_in_ca[] = {
#if __has_include("fl_tls_ca.inc")
#include "fl_tls_ca.inc"
#endif
};

int tls_credentials_put(const char *key, const char *base64, size_t size)
{
    for (size_t i = 0; i < ARRAY_SIZE(credentials); i++) {
        struct credential *credential = &credentials[i];
        uint8_t piece[FL_BASE64_DECODED_MAX(64)];
        struct fl_base64 decoder;
        size_t used = 0;

        if (strcmp(credential->key, key) != 0) {
            continue;
        }
        credential->size_bytes = 0;
        fl_base64_begin(&decoder);
        for (size_t at = 0; at < size; at += 64) {
            size_t count;

            if (!fl_base64_feed(&decoder, base64 + at, MIN(size - at, 64), piece, &count)) {
                return -EINVAL;
            }
            if (count > sizeof(credential->der) - used) {
                return -ENOSPC;
            }
            memcpy(credential->der + used, piece, count);
            used += count;
        }
        if (!fl_base64_end(&decoder)) {
            return -EINVAL;
        }
        credential->size_bytes = used;
        return 0;
    }
    return -ENOENT;
}

static int add(enum tls_credential_type type, const uint8_t *der, size_t size)
{
    int status = tls_credential_add(FL_TLS_TAG, type, der, size);

    if (status != 0) {
        LOG_ERR("TLS: the credential store refuses one of type %d (%d)", (int)type, status);
    }
    return status;
}

int tls_credentials_register(void)
{
    bool has_ca = credentials[0].size_bytes > 0;
    int status = 0;

    if (!has_ca && sizeof(built_in_ca) > 0) {
        has_ca = true;
        status = add(TLS_CREDENTIAL_CA_CERTIFICATE, built_in_ca, sizeof(built_in_ca));
    }
    for (size_t i = 0; i < ARRAY_SIZE(credentials) && status == 0; i++) {
        if (credentials[i].size_bytes > 0) {
            status = add(credentials[i].type, credentials[i].der, credentials[i].size_bytes);
        }
    }
    if (status == 0 && !has_ca) {
        LOG_ERR("TLS: there is no authority's certificate: set tls_ca, or build with "
                "CONFIG_FL_TLS_CA_FILE");
        status = -ENOENT;
    }
    return status;
}
