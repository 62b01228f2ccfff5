#include "fl_sha256.h"

#include <string.h>

#define BLOCK_SIZE 64u
#define LENGTH_AT 56u /* the bit count takes the last 8 bytes of the last block */

static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate_right(uint32_t word, unsigned int count)
{
    return (word >> count) | (word << (32u - count));
}

static uint32_t load_be32(const uint8_t *bytes)
{
    return ((uint32_t)bytes[0] << 24) | ((uint32_t)bytes[1] << 16) | ((uint32_t)bytes[2] << 8) |
           (uint32_t)bytes[3];
}

static void store_be32(uint8_t *bytes, uint32_t word)
{
    bytes[0] = (uint8_t)(word >> 24);
    bytes[1] = (uint8_t)(word >> 16);
    bytes[2] = (uint8_t)(word >> 8);
    bytes[3] = (uint8_t)word;
}

static void compress(uint32_t state[8], const uint8_t block[BLOCK_SIZE])
{
    uint32_t schedule[16]; /* a window of the 64 words: 192 bytes of stack less */
    uint32_t v[8];

    for (size_t i = 0; i < 16; i++) {
        schedule[i] = load_be32(block + 4 * i);
    }
    memcpy(v, state, sizeof(v));
    for (unsigned int i = 0; i < 64; i++) {
        uint32_t sum1 = rotate_right(v[4], 6) ^ rotate_right(v[4], 11) ^ rotate_right(v[4], 25);
        uint32_t choice = (v[4] & v[5]) ^ (~v[4] & v[6]);
        uint32_t sum0 = rotate_right(v[0], 2) ^ rotate_right(v[0], 13) ^ rotate_right(v[0], 22);
        uint32_t majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
        uint32_t t1;

        if (i >= 16) {
            uint32_t w15 = schedule[(i + 1) % 16];
            uint32_t w2 = schedule[(i + 14) % 16];

            schedule[i % 16] += (rotate_right(w15, 7) ^ rotate_right(w15, 18) ^ (w15 >> 3)) +
                                schedule[(i + 9) % 16] +
                                (rotate_right(w2, 17) ^ rotate_right(w2, 19) ^ (w2 >> 10));
        }
        t1 = v[7] + sum1 + choice + round_constants[i] + schedule[i % 16];
        memmove(v + 1, v, 7 * sizeof(v[0]));
        v[4] += t1;
        v[0] = t1 + sum0 + majority;
    }
    for (unsigned int i = 0; i < 8; i++) {
        state[i] += v[i];
    }
}

void fl_sha256_begin(struct fl_sha256 *hash)
{
    static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

    memcpy(hash->state, initial, sizeof(initial));
    hash->size_bytes = 0;
}

void fl_sha256_update(struct fl_sha256 *hash, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    size_t filled = (size_t)(hash->size_bytes % BLOCK_SIZE);

    hash->size_bytes += size;
    while (size > 0) {
        size_t piece = BLOCK_SIZE - filled;

        if (filled == 0 && size >= BLOCK_SIZE) {
            compress(hash->state, bytes);
        } else {
            piece = piece < size ? piece : size;
            memcpy(hash->block + filled, bytes, piece);
            filled += piece;
            if (filled == BLOCK_SIZE) {
                compress(hash->state, hash->block);
                filled = 0;
            }
        }
        bytes += piece;
        size -= piece;
    }
}

void fl_sha256_end(struct fl_sha256 *hash, uint8_t digest[FL_SHA256_SIZE])
{
    uint64_t bits = hash->size_bytes * 8u;
    size_t filled = (size_t)(hash->size_bytes % BLOCK_SIZE);

    hash->block[filled++] = 0x80;
    if (filled > LENGTH_AT) {
        memset(hash->block + filled, 0, BLOCK_SIZE - filled);
        compress(hash->state, hash->block);
        filled = 0;
    }
    memset(hash->block + filled, 0, LENGTH_AT - filled);
    store_be32(hash->block + LENGTH_AT, (uint32_t)(bits >> 32));
    store_be32(hash->block + LENGTH_AT + 4, (uint32_t)bits);
    compress(hash->state, hash->block);
    for (size_t i = 0; i < 8; i++) {
        store_be32(digest + 4 * i, hash->state[i]);
    }
}

void fl_sha256_of(const void *data, size_t size, uint8_t digest[FL_SHA256_SIZE])
{
    struct fl_sha256 hash;

    fl_sha256_begin(&hash);
    fl_sha256_update(&hash, data, size);
    fl_sha256_end(&hash, digest);
}

void fl_sha256_to_hex(const uint8_t digest[FL_SHA256_SIZE], char hex[FL_SHA256_HEX_SIZE + 1])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < FL_SHA256_SIZE; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15u];
    }
    hex[FL_SHA256_HEX_SIZE] = '\0';
}

static int hex_value(char digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    if (digit >= 'a' && digit <= 'f') {
        return digit - 'a' + 10;
    }
    return -1;
}

bool fl_sha256_from_hex(const char *hex, size_t size, uint8_t digest[FL_SHA256_SIZE])
{
    uint8_t read[FL_SHA256_SIZE];

    if (size != FL_SHA256_HEX_SIZE) {
        return false;
    }
    for (size_t i = 0; i < FL_SHA256_SIZE; i++) {
        int high = hex_value(hex[2 * i]);
        int low = hex_value(hex[2 * i + 1]);

        if (high < 0 || low < 0) {
            return false;
        }
        read[i] = (uint8_t)(high * 16 + low);
    }
    memcpy(digest, read, sizeof(read));
    return true;
}

bool fl_sha256_equal(const uint8_t a[FL_SHA256_SIZE], const uint8_t b[FL_SHA256_SIZE])
{
    return memcmp(a, b, FL_SHA256_SIZE) == 0;
}
