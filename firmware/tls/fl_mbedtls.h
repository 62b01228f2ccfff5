/*
 * Included by mbed TLS at the end of its configuration: takes out what a client has no use for and
 * Zephyr's options leave in.
 */
#undef MBEDTLS_SSL_SRV_C
#undef MBEDTLS_SELF_TEST
#undef MBEDTLS_SSL_RENEGOTIATION
#undef MBEDTLS_RSA_C
#undef MBEDTLS_PKCS1_V15
#undef MBEDTLS_PKCS1_V21
