/*
 * Ed25519 (RFC 8032): verifies signatures, and makes none. Everything it is given is public, so its
 * time may depend on it.
 */
#ifndef FL_ED25519_H
#define FL_ED25519_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FL_ED25519_KEY_SIZE 32       /* bytes of a public key */
#define FL_ED25519_SIGNATURE_SIZE 64 /* bytes of a signature: R and s */

/*
 * Whether `signature` is one of the `size` bytes at `message` by the private key of `public_key`.
 *
 * It is not: when s is not below the order of the base point (else one signature would give
 * another); when R or the key is not in the one form that RFC 8032 has for its point; when the key
 * is a point of small order, for which anybody can sign. R is compared as bytes. Takes about 1.5 KB
 * of stack.
 */
bool fl_ed25519_verify(const uint8_t signature[FL_ED25519_SIGNATURE_SIZE],
                       const uint8_t public_key[FL_ED25519_KEY_SIZE], const void *message,
                       size_t size);

#endif
