#include "fl_ed25519.h"

#include "fl_sha512.h"

#include <string.h>

/*
 * Formulas: RFC 8032, section 5.1; the addition is "add-2008-hwcd-3" of Hisil, Wong, Carter and
 * Dawson, which holds for any two points of this curve, equal ones and the neutral one included.
 *
 * A field element is any number below 2^256, taken modulo p = 2^255 - 19, in words of 32 bits, the
 * lowest first: what overflows comes back as 38, since 2^256 = 38 modulo p. fe_freeze() makes the
 * one form below p.
 */
#define WORDS 8

struct fe {
    uint32_t v[WORDS];
};

/* Extended coordinates: x = X/Z, y = Y/Z, xy = T/Z. */
struct point {
    struct fe x;
    struct fe y;
    struct fe z;
    struct fe t;
};

static const struct fe fe_zero = {{0}};
static const struct fe fe_one = {{1}};
/* -121665/121666, twice that, and a square root of -1 */
static const struct fe fe_d = {{0x135978a3, 0x75eb4dca, 0x4141d8ab, 0x00700a4d, 0x7779e898,
                                0x8cc74079, 0x2b6ffe73, 0x52036cee}};
static const struct fe fe_2d = {{0x26b2f159, 0xebd69b94, 0x8283b156, 0x00e0149a, 0xeef3d130,
                                 0x198e80f2, 0x56dffce7, 0x2406d9dc}};
static const struct fe fe_root = {{0x4a0ea0b0, 0xc4ee1b27, 0xad2fe478, 0x2f431806, 0x3dfbd7a7,
                                   0x2b4d0099, 0x4fc1df0b, 0x2b832480}};
static const struct point base = {
    .x = {{0x8f25d51a, 0xc9562d60, 0x9525a7b2, 0x692cc760, 0xfdd6dc5c, 0xc0a4e231, 0xcd6e53fe,
           0x216936d3}},
    .y = {{0x66666658, 0x66666666, 0x66666666, 0x66666666, 0x66666666, 0x66666666, 0x66666666,
           0x66666666}},
    .z = {{1}},
    .t = {{0xa5b7dda3, 0x6dde8ab3, 0x775152f5, 0x20f09f80, 0x64abe37d, 0x66ea4e8e, 0xd78b7665,
           0x67875f0f}},
};
/* The order of the base point: 2^252 + 27742317777372353535851937790883648493. */
static const uint32_t order[WORDS] = {0x5cf5d3ed, 0x5812631a, 0xa2f79cd6, 0x14def9de,
                                      0x00000000, 0x00000000, 0x00000000, 0x10000000};

/* Adds 38 times `carry`, which is what has overflowed. */
static void fe_fold(struct fe *a, uint64_t carry)
{
    for (int pass = 0; pass < 2; pass++) { /* the second overflows no more */
        carry *= 38;
        for (size_t i = 0; i < WORDS; i++) {
            carry += a->v[i];
            a->v[i] = (uint32_t)carry;
            carry >>= 32;
        }
    }
}

static void fe_add(struct fe *out, const struct fe *a, const struct fe *b)
{
    uint64_t carry = 0;

    for (size_t i = 0; i < WORDS; i++) {
        carry += (uint64_t)a->v[i] + b->v[i];
        out->v[i] = (uint32_t)carry;
        carry >>= 32;
    }
    fe_fold(out, carry);
}

static void fe_sub(struct fe *out, const struct fe *a, const struct fe *b)
{
    uint64_t borrow = 0;

    for (size_t i = 0; i < WORDS; i++) {
        uint64_t difference = (uint64_t)a->v[i] - b->v[i] - borrow;

        out->v[i] = (uint32_t)difference;
        borrow = difference >> 63;
    }
    for (int pass = 0; pass < 2; pass++) { /* as in fe_fold() */
        uint64_t less = borrow * 38;

        borrow = 0;
        for (size_t i = 0; i < WORDS; i++) {
            uint64_t difference = (uint64_t)out->v[i] - less - borrow;

            out->v[i] = (uint32_t)difference;
            borrow = difference >> 63;
            less = 0;
        }
    }
}

static void fe_mul(struct fe *out, const struct fe *a, const struct fe *b)
{
    uint32_t product[2 * WORDS] = {0};
    uint64_t carry = 0;

    for (size_t i = 0; i < WORDS; i++) {
        for (size_t j = 0; j < WORDS; j++) {
            carry += (uint64_t)a->v[i] * b->v[j] + product[i + j];
            product[i + j] = (uint32_t)carry;
            carry >>= 32;
        }
        product[i + WORDS] = (uint32_t)carry;
        carry = 0;
    }
    for (size_t i = 0; i < WORDS; i++) {
        carry += (uint64_t)product[i + WORDS] * 38 + product[i];
        out->v[i] = (uint32_t)carry;
        carry >>= 32;
    }
    fe_fold(out, carry);
}

/* base to the power of 2^(8 * 31) * top + 2^(8 * 31) - 256 + low: all bytes between are 255. */
static void fe_power(struct fe *out, const struct fe *a, unsigned int top, unsigned int low)
{
    struct fe power = fe_one;

    for (int bit = 255; bit >= 0; bit--) {
        unsigned int byte = bit >= 248 ? top : bit < 8 ? low : 0xffu;

        fe_mul(&power, &power, &power);
        if (((byte >> (bit % 8)) & 1u) != 0) {
            fe_mul(&power, &power, a);
        }
    }
    *out = power;
}

static void fe_freeze(struct fe *a)
{
    struct fe more;
    uint64_t carry = (uint64_t)(a->v[7] >> 31) * 19;

    a->v[7] &= 0x7fffffffu;
    for (size_t i = 0; i < WORDS; i++) {
        carry += a->v[i];
        a->v[i] = (uint32_t)carry;
        carry >>= 32;
    }
    /* It is below 2^255 + 19 now, so p comes off once at most: where adding 19 makes bit 255. */
    carry = 19;
    for (size_t i = 0; i < WORDS; i++) {
        carry += a->v[i];
        more.v[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if ((more.v[7] >> 31) != 0) {
        more.v[7] &= 0x7fffffffu;
        *a = more;
    }
}

static bool fe_equal(const struct fe *a, const struct fe *b)
{
    struct fe difference;

    fe_sub(&difference, a, b);
    fe_freeze(&difference);
    return memcmp(&difference, &fe_zero, sizeof(difference)) == 0;
}

static void load_words(uint32_t *words, size_t count, const uint8_t *bytes)
{
    for (size_t i = 0; i < count; i++) {
        words[i] = (uint32_t)bytes[4 * i] | ((uint32_t)bytes[4 * i + 1] << 8) |
                   ((uint32_t)bytes[4 * i + 2] << 16) | ((uint32_t)bytes[4 * i + 3] << 24);
    }
}

static void point_add(struct point *out, const struct point *p, const struct point *q)
{
    struct fe a, b, c, d, e;

    fe_sub(&a, &p->y, &p->x);
    fe_sub(&b, &q->y, &q->x);
    fe_mul(&a, &a, &b);
    fe_add(&b, &p->y, &p->x);
    fe_add(&c, &q->y, &q->x);
    fe_mul(&b, &b, &c);
    fe_mul(&c, &p->t, &q->t);
    fe_mul(&c, &c, &fe_2d);
    fe_mul(&d, &p->z, &q->z);
    fe_add(&d, &d, &d);
    fe_sub(&e, &b, &a);
    fe_add(&b, &b, &a); /* H */
    fe_sub(&a, &d, &c); /* F */
    fe_add(&c, &d, &c); /* G */
    fe_mul(&out->x, &e, &a);
    fe_mul(&out->y, &c, &b);
    fe_mul(&out->t, &e, &b);
    fe_mul(&out->z, &a, &c);
}

/* Reads a point in the one form that it has. */
static bool point_read(struct point *out, const uint8_t bytes[32])
{
    struct fe y = fe_zero;
    struct fe u, v, w;
    uint32_t sign = bytes[31] >> 7;

    load_words(y.v, WORDS, bytes);
    y.v[7] &= 0x7fffffffu;
    out->y = y;
    fe_freeze(&y);
    if (memcmp(&y, &out->y, sizeof(y)) != 0) {
        return false; /* not below p */
    }
    /* x^2 = u / v */
    fe_mul(&w, &y, &y);
    fe_sub(&u, &w, &fe_one);
    fe_mul(&v, &w, &fe_d);
    fe_add(&v, &v, &fe_one);
    /* x = u v^3 (u v^7)^((p - 5) / 8), or that times the root of -1 */
    fe_mul(&w, &v, &v);
    fe_mul(&w, &w, &v);
    fe_mul(&out->x, &w, &u);
    fe_mul(&w, &w, &out->x);
    fe_mul(&w, &w, &v);
    fe_power(&w, &w, 0x0f, 0xfd);
    fe_mul(&out->x, &out->x, &w);
    fe_mul(&w, &out->x, &out->x);
    fe_mul(&w, &w, &v);
    if (!fe_equal(&w, &u)) {
        fe_add(&w, &w, &u);
        if (!fe_equal(&w, &fe_zero)) {
            return false; /* no point of the curve has this y */
        }
        fe_mul(&out->x, &out->x, &fe_root);
    }
    fe_freeze(&out->x);
    if ((out->x.v[0] & 1u) != sign) {
        if (fe_equal(&out->x, &fe_zero)) {
            return false; /* there is no -0 */
        }
        fe_sub(&out->x, &fe_zero, &out->x);
    }
    out->z = fe_one;
    fe_mul(&out->t, &out->x, &y);
    return true;
}

static void point_write(uint8_t bytes[32], const struct point *p)
{
    struct fe inverse, x, y;

    fe_power(&inverse, &p->z, 0x7f, 0xeb); /* p - 2 */
    fe_mul(&x, &p->x, &inverse);
    fe_mul(&y, &p->y, &inverse);
    fe_freeze(&x);
    fe_freeze(&y);
    y.v[7] |= x.v[0] << 31;
    for (size_t i = 0; i < 32; i++) {
        bytes[i] = (uint8_t)(y.v[i / 4] >> (8 * (i % 4)));
    }
}

/* Whether 8 p is the neutral point: then p says nothing of who knows its logarithm. */
static bool is_small(const struct point *p)
{
    struct point multiple = *p;

    for (int i = 0; i < 3; i++) {
        point_add(&multiple, &multiple, &multiple);
    }
    return fe_equal(&multiple.x, &fe_zero);
}

static bool is_below_order(const uint32_t number[WORDS])
{
    for (size_t i = WORDS; i-- > 0;) {
        if (number[i] != order[i]) {
            return number[i] < order[i];
        }
    }
    return false;
}

/* The number in `bytes`, the lowest first, modulo the order of the base point: bit by bit. */
static void reduce(uint32_t out[WORDS], const uint8_t bytes[FL_SHA512_SIZE])
{
    memset(out, 0, WORDS * sizeof(out[0]));
    for (size_t bit = 8u * FL_SHA512_SIZE; bit-- > 0;) {
        uint32_t carry = ((uint32_t)bytes[bit / 8] >> (bit % 8)) & 1u;

        for (size_t i = 0; i < WORDS; i++) { /* twice something below 2^253 */
            uint32_t top = out[i] >> 31;

            out[i] = (out[i] << 1) | carry;
            carry = top;
        }
        if (!is_below_order(out)) {
            uint64_t borrow = 0;

            for (size_t i = 0; i < WORDS; i++) {
                uint64_t difference = (uint64_t)out[i] - order[i] - borrow;

                out[i] = (uint32_t)difference;
                borrow = difference >> 63;
            }
        }
    }
}

bool fl_ed25519_verify(const uint8_t signature[FL_ED25519_SIGNATURE_SIZE],
                       const uint8_t public_key[FL_ED25519_KEY_SIZE], const void *message,
                       size_t size)
{
    struct point minus_key, both, sum;
    struct fl_sha512 hash;
    uint8_t digest[FL_SHA512_SIZE];
    uint32_t s[WORDS], k[WORDS];

    load_words(s, WORDS, signature + 32);
    if (!is_below_order(s) || !point_read(&minus_key, public_key) || is_small(&minus_key)) {
        return false;
    }
    fe_sub(&minus_key.x, &fe_zero, &minus_key.x);
    fe_sub(&minus_key.t, &fe_zero, &minus_key.t);

    fl_sha512_begin(&hash);
    fl_sha512_update(&hash, signature, 32);
    fl_sha512_update(&hash, public_key, FL_ED25519_KEY_SIZE);
    fl_sha512_update(&hash, message, size);
    fl_sha512_end(&hash, digest);
    reduce(k, digest);

    /* R = s B - k A, both products at once. Nothing of this is secret, so time may depend on it. */
    point_add(&both, &base, &minus_key);
    memset(&sum, 0, sizeof(sum));
    sum.y = fe_one;
    sum.z = fe_one;
    for (size_t bit = 253; bit-- > 0;) {
        bool with_base = ((s[bit / 32] >> (bit % 32)) & 1u) != 0;
        bool with_key = ((k[bit / 32] >> (bit % 32)) & 1u) != 0;

        point_add(&sum, &sum, &sum);
        if (with_base || with_key) {
            point_add(&sum, &sum, !with_key ? &base : !with_base ? &minus_key : &both);
        }
    }
    point_write(digest, &sum);
    return memcmp(digest, signature, 32) == 0;
}
