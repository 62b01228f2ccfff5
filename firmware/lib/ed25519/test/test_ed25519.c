#include "fl_check.h"
#include "fl_ed25519.h"

FL_SUITE(ed25519)

/* RFC 8032, section 7.1: tests 1, 2, 3 and SHA(abc). */
static const struct {
    const char *key;
    const char *message;
    const char *signature;
} published[] = {
    {
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    },
    {
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    },
    {
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    },
    {
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589"
        "09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    },
};

/* Keys that are none: of small order, not in the one form for their point, or of no point at all.
 */
static const struct {
    const char *name;
    const char *key;
} bad_keys[] = {
    {"zero", "0000000000000000000000000000000000000000000000000000000000000000"},
    {"one", "0100000000000000000000000000000000000000000000000000000000000000"},
    {"minus zero", "0100000000000000000000000000000000000000000000000000000000000080"},
    {"minus one", "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"},
    {"order 8", "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"},
    {"order 8 too", "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"},
    {"p", "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"},
    {"p + 1", "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"},
    {"2^255 - 1", "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"},
    {"no point", "0200000000000000000000000000000000000000000000000000000000000000"},
};

static uint8_t key[FL_ED25519_KEY_SIZE];
static uint8_t signature[FL_ED25519_SIGNATURE_SIZE];
static uint8_t message[64];
static size_t size;

static size_t from_hex(const char *hex, uint8_t *bytes)
{
    static const char digits[] = "0123456789abcdef";
    size_t count = strlen(hex) / 2;

    for (size_t i = 0; i < count; i++) {
        bytes[i] = (uint8_t)((strchr(digits, hex[2 * i]) - digits) * 16 +
                             (strchr(digits, hex[2 * i + 1]) - digits));
    }
    return count;
}

static void take(size_t vector)
{
    (void)from_hex(published[vector].key, key);
    (void)from_hex(published[vector].signature, signature);
    size = from_hex(published[vector].message, message);
}

static bool verified(void)
{
    return fl_ed25519_verify(signature, key, message, size);
}

FL_TEST(ed25519, published_vectors)
{
    for (size_t i = 0; i < sizeof(published) / sizeof(published[0]); i++) {
        take(i);
        FL_CHECK(verified());
    }
}

FL_TEST(ed25519, no_changed_byte_goes_unseen)
{
    take(2);
    for (size_t i = 0; i < sizeof(signature); i++) {
        signature[i] ^= (uint8_t)(1u << (i % 8u));
        FL_CHECK(!verified());
        signature[i] ^= (uint8_t)(1u << (i % 8u));
    }
    for (size_t i = 0; i < sizeof(key); i++) {
        key[i] ^= 0x10;
        FL_CHECK(!verified());
        key[i] ^= 0x10;
    }
    message[1] ^= 1;
    FL_CHECK(!verified());
    message[1] ^= 1;
    size--;
    FL_CHECK(!verified());
    size++;
    FL_CHECK(verified());
}

FL_TEST(ed25519, one_signature_gives_no_other)
{
    /* s plus the order of the base point, as often as that fits into 256 bits, is the same s */
    static const uint8_t order[32] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58,
                                      0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
                                      0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                                      0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x10};

    take(1);
    for (int times = 0; times < 15; times++) {
        unsigned int carry = 0;

        for (size_t i = 0; i < sizeof(order); i++) {
            carry += (unsigned int)signature[32 + i] + order[i];
            signature[32 + i] = (uint8_t)carry;
            carry >>= 8;
        }
        FL_CHECK_INT(carry, 0); /* 16 times the order is a little more than 256 bits hold */
        FL_CHECK(!verified());
    }
}

FL_TEST(ed25519, bad_keys_verify_nothing)
{
    /* R = s B holds for a key of small order with any message that makes k a multiple of 8. */
    for (size_t i = 0; i < sizeof(bad_keys) / sizeof(bad_keys[0]); i++) {
        (void)from_hex(bad_keys[i].key, key);
        memset(signature, 0, sizeof(signature));
        signature[0] = 1; /* the neutral point, and s = 0 */
        for (unsigned int j = 0; j < 32; j++) {
            message[0] = (uint8_t)j;
            size = 1;
            if (verified()) {
                FL_CHECK_FAIL("%s verified something", bad_keys[i].name);
            }
        }
    }
}

FL_TEST(ed25519, a_point_has_one_form)
{
    /* R = 1 + p in place of 1, for s = 0 and a key whose k is anything: refused as bytes differ. */
    take(0);
    memset(signature, 0, sizeof(signature));
    memset(signature, 0xff, 32);
    signature[0] = 0xee;
    signature[31] = 0x7f;
    FL_CHECK(!verified());
}
