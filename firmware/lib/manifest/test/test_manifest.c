#include "fl_check.h"
#include "fl_manifest.h"

FL_SUITE(manifest)

static bool is(const char *text)
{
    return fl_manifest_is((const uint8_t *)text, strlen(text));
}

FL_TEST(manifest, one_is_known_wherever_the_member_stands)
{
    FL_CHECK(is("{\"version\":5,\"manifest\":{\"format\":\"safetensors\",\"parts\":[\"00\"]}}"));
    FL_CHECK(is(" { \"manifest\" : { } , \"version\" : 5 }"));
    FL_CHECK(is("{\"w\":[[1,2],[3,4]],\"b\":{\"manifest\":1},\"manifest\":{"));
    FL_CHECK(is("{\"m\\u0061nifest\":{}}"));
}

FL_TEST(manifest, a_model_is_none)
{
    FL_CHECK(!is("{\"w\":[0.5,-1],\"b\":0.25,\"version\":3}"));
    FL_CHECK(!is("{\"manifest\":[1,2],\"version\":3}"));
    FL_CHECK(!is("{\"manifest\":1,\"w\":{}}"));
    FL_CHECK(!is("{\"w\":{\"manifest\":{}}}"));
    FL_CHECK(!is("{\"w\":[\"manifest\",{}]}"));
    FL_CHECK(!is("{\"manifests\":{}}"));
}

FL_TEST(manifest, nor_is_what_is_no_json)
{
    FL_CHECK(!is(""));
    FL_CHECK(!is("[{\"manifest\":{}}]"));
    FL_CHECK(!is("\"manifest\""));
    FL_CHECK(!is("{\"manifest\":"));
    FL_CHECK(!is("{manifest:{}}"));
    FL_CHECK(!is("\xa2\x61w\x01hmanifest\xa0"));
}
