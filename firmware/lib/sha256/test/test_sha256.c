#include "fl_check.h"
#include "fl_sha256.h"

FL_SUITE(sha256)

static void check_hex(const uint8_t digest[FL_SHA256_SIZE], const char *expected)
{
    char hex[FL_SHA256_HEX_SIZE + 1];

    fl_sha256_to_hex(digest, hex);
    FL_CHECK_STRING(hex, expected);
}

FL_TEST(sha256, published_vectors)
{
    uint8_t digest[FL_SHA256_SIZE];

    fl_sha256_of("", 0, digest);
    check_hex(digest, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    fl_sha256_of("abc", 3, digest);
    check_hex(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    fl_sha256_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, digest);
    check_hex(digest, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

FL_TEST(sha256, a_million_a)
{
    static const char block[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"; /* 50 */
    struct fl_sha256 hash;
    uint8_t digest[FL_SHA256_SIZE];

    fl_sha256_begin(&hash);
    for (int i = 0; i < 20000; i++) {
        fl_sha256_update(&hash, block, 50);
    }
    fl_sha256_end(&hash, digest);
    check_hex(digest, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

FL_TEST(sha256, any_split_gives_the_same_digest)
{
    uint8_t data[200];
    uint8_t whole[FL_SHA256_SIZE];

    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 7u);
    }
    fl_sha256_of(data, sizeof(data), whole);
    for (size_t split = 0; split <= sizeof(data); split++) {
        struct fl_sha256 hash;
        uint8_t digest[FL_SHA256_SIZE];

        fl_sha256_begin(&hash);
        fl_sha256_update(&hash, data, split);
        fl_sha256_update(&hash, data + split, sizeof(data) - split);
        fl_sha256_end(&hash, digest);
        FL_CHECK(fl_sha256_equal(digest, whole));
    }
}

FL_TEST(sha256, every_length_around_a_block_pads_right)
{
    /* The digest of the digests of 'a' * n for n = 0..129, from another implementation. */
    char data[130];
    struct fl_sha256 all;
    uint8_t digest[FL_SHA256_SIZE];

    memset(data, 'a', sizeof(data));
    fl_sha256_begin(&all);
    for (size_t size = 0; size < sizeof(data); size++) {
        fl_sha256_of(data, size, digest);
        fl_sha256_update(&all, digest, sizeof(digest));
    }
    fl_sha256_end(&all, digest);
    check_hex(digest, "39a48225ae6069c68f7c9f867bf47f4a2e188c3903dd919926b8259a73ecada5");
}

FL_TEST(sha256, hexadecimal_there_and_back)
{
    static const char hex[] = "00ff17e4a5000000000000000000000000000000000000000000000000c0ffee";
    uint8_t digest[FL_SHA256_SIZE];

    FL_CHECK(fl_sha256_from_hex(hex, FL_SHA256_HEX_SIZE, digest));
    FL_CHECK_INT(digest[1], 0xFF);
    FL_CHECK_INT(digest[31], 0xEE);
    check_hex(digest, hex);
}

FL_TEST(sha256, what_is_not_a_digest_is_refused)
{
    static const char good[] = "00ff17e4a5000000000000000000000000000000000000000000000000c0ffee";
    char bad[FL_SHA256_HEX_SIZE + 1];
    uint8_t digest[FL_SHA256_SIZE] = {42};

    FL_CHECK(!fl_sha256_from_hex(good, FL_SHA256_HEX_SIZE - 1, digest));
    FL_CHECK(!fl_sha256_from_hex("", 0, digest));
    for (size_t i = 0; i < FL_SHA256_HEX_SIZE; i++) {
        static const char others[] = "FGg/: ";

        for (size_t k = 0; k < sizeof(others); k++) {
            memcpy(bad, good, sizeof(bad));
            bad[i] = others[k];
            FL_CHECK(!fl_sha256_from_hex(bad, FL_SHA256_HEX_SIZE, digest));
        }
    }
    FL_CHECK_INT(digest[0], 42);
}
