#include "fl_check.h"
#include "fl_sha512.h"

FL_SUITE(sha512)

static void check_hex(const uint8_t digest[FL_SHA512_SIZE], const char *expected)
{
    static const char digits[] = "0123456789abcdef";
    char hex[2 * FL_SHA512_SIZE + 1];

    for (size_t i = 0; i < FL_SHA512_SIZE; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15u];
    }
    hex[2 * FL_SHA512_SIZE] = '\0';
    FL_CHECK_STRING(hex, expected);
}

static void hash_of(const void *data, size_t size, uint8_t digest[FL_SHA512_SIZE])
{
    struct fl_sha512 hash;

    fl_sha512_begin(&hash);
    fl_sha512_update(&hash, data, size);
    fl_sha512_end(&hash, digest);
}

FL_TEST(sha512, published_vectors)
{
    uint8_t digest[FL_SHA512_SIZE];

    hash_of("", 0, digest);
    check_hex(digest, "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce"
                      "47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e");
    hash_of("abc", 3, digest);
    check_hex(digest, "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
                      "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f");
}

FL_TEST(sha512, a_hundred_thousand_a)
{
    /* From another implementation. */
    static const char block[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"; /* 50 */
    struct fl_sha512 hash;
    uint8_t digest[FL_SHA512_SIZE];

    fl_sha512_begin(&hash);
    for (int i = 0; i < 2000; i++) {
        fl_sha512_update(&hash, block, 50);
    }
    fl_sha512_end(&hash, digest);
    check_hex(digest, "c7664ff18bbefa5868d1eba38637087ad70e6380013f52f4ce3dd4a98bebd493"
                      "53ce40be1dfddad2259bacdc7bd10e98d44a6a68d5d1091bcd55b47efb5cd50e");
}

FL_TEST(sha512, every_length_around_a_block_pads_right)
{
    /* The digest of the digests of 'a' * n for n = 0..259, from another implementation. */
    char data[260];
    struct fl_sha512 all;
    uint8_t digest[FL_SHA512_SIZE];

    memset(data, 'a', sizeof(data));
    fl_sha512_begin(&all);
    for (size_t size = 0; size < sizeof(data); size++) {
        hash_of(data, size, digest);
        fl_sha512_update(&all, digest, sizeof(digest));
    }
    fl_sha512_end(&all, digest);
    check_hex(digest, "f1ca8427c888b94d32191414922ccc597c73e8f20f7ef91b870d3964ad46ce21"
                      "981d45b8620e4df39e852124b7fceef6b054345759e41f15b262d76c40330bdc");
}

FL_TEST(sha512, any_split_gives_the_same_digest)
{
    uint8_t data[300];
    uint8_t whole[FL_SHA512_SIZE];

    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 7u);
    }
    hash_of(data, sizeof(data), whole);
    for (size_t split = 0; split <= sizeof(data); split++) {
        struct fl_sha512 hash;
        uint8_t digest[FL_SHA512_SIZE];

        fl_sha512_begin(&hash);
        fl_sha512_update(&hash, data, split);
        fl_sha512_update(&hash, data + split, sizeof(data) - split);
        fl_sha512_end(&hash, digest);
        FL_CHECK(memcmp(digest, whole, sizeof(whole)) == 0);
    }
}
