/*
 * The credentials of the TLS connection to the broker, in Zephyr's store under FL_TLS_TAG: the
 * authority's certificate, and this proplet's own certificate and key where the broker wants them.
 * They come from the build or from the configuration.
 */
#ifndef TLS_CREDENTIALS_H
#define TLS_CREDENTIALS_H

#include <stddef.h>

#define FL_TLS_TAG 0x666c /* "fl" */

/*
 * Keeps what the configuration key ("tls_ca", "tls_certificate", "tls_key") says: DER in base64.
 * Returns 0; -ENOENT: there is no such key; -EINVAL: not base64; -ENOSPC: larger than
 * FL_TLS_CERTIFICATE_BYTES_MAX.
 */
int tls_credentials_put(const char *key, const char *base64, size_t size);

/*
 * Hands them to Zephyr's store. Returns 0; -ENOENT: there is no authority, so that nobody could be
 * trusted; or the store's own negative error.
 */
int tls_credentials_register(void);

#endif
