#include "fl_check.h"
#include "fl_topic.h"

FL_SUITE(topic)

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define ID64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const struct {
    struct fl_topic parts;
    const char *topic;
} pairs[] = {
    {{.kind = FL_TOPIC_PROPLET_CREATE}, "control/proplet/create"},
    {{.kind = FL_TOPIC_PROPLET_ALIVE}, "control/proplet/alive"},
    {{.kind = FL_TOPIC_PROPLET_RESULTS}, "control/proplet/results"},
    {{.kind = FL_TOPIC_PROPLET_CREATE_OF, .proplet_id = "p-1"}, "control/proplet/create/p-1"},
    {{.kind = FL_TOPIC_PROPLET_ALIVE_OF, .proplet_id = "p.1"}, "control/proplet/alive/p.1"},
    {{.kind = FL_TOPIC_PROPLET_RESULTS_OF, .proplet_id = ID64}, "control/proplet/results/" ID64},
    {{.kind = FL_TOPIC_TASK_START}, "control/manager/start"},
    {{.kind = FL_TOPIC_TASK_START_OF, .proplet_id = "p-1"}, "control/manager/start/p-1"},
    {{.kind = FL_TOPIC_TASK_STOP}, "control/manager/stop"},
    {{.kind = FL_TOPIC_TASK_STOP_OF, .proplet_id = "p-1"}, "control/manager/stop/p-1"},
    {{.kind = FL_TOPIC_UPDATE, .round_id = "r.1", .proplet_id = "p_1"},
     "fl/rounds/r.1/updates/p_1"},
    {{.kind = FL_TOPIC_ACK, .round_id = ID64, .proplet_id = "p"}, "fl/rounds/" ID64 "/acks/p"},
    {{.kind = FL_TOPIC_ROUND_COMPLETE, .round_id = "r"}, "fl/rounds/r/complete"},
    {{.kind = FL_TOPIC_IMAGE, .name = HEX64}, "fl/images/" HEX64},
    {{.kind = FL_TOPIC_MODEL, .name = "global_model_v12"}, "fl/models/global_model_v12"},
    {{.kind = FL_TOPIC_REGISTRY_REQUEST}, "registry/proplet"},
    {{.kind = FL_TOPIC_REGISTRY_CHUNK}, "registry/server"},
};

static void check_pairs(const char *prefix, const char *written)
{
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        char expected[FL_TOPIC_MAX + 1];
        char out[FL_TOPIC_MAX + 1];
        struct fl_topic parts;
        size_t size;

        strcpy(expected, written);
        strcat(expected, pairs[i].topic);
        size = fl_topic_build(out, sizeof(out), prefix, &pairs[i].parts);
        FL_CHECK_STRING(out, expected);
        FL_CHECK_INT(size, strlen(expected));
        FL_CHECK_INT(fl_topic_match(prefix, out, size, &parts), pairs[i].parts.kind);
        FL_CHECK_INT(parts.kind, pairs[i].parts.kind);
        FL_CHECK_STRING(parts.round_id, pairs[i].parts.round_id);
        FL_CHECK_STRING(parts.proplet_id, pairs[i].parts.proplet_id);
        FL_CHECK_STRING(parts.name, pairs[i].parts.name);
    }
}

FL_TEST(topic, every_kind_there_and_back)
{
    check_pairs(NULL, "");
    check_pairs("", "");
    check_pairs("m/tenant/c/channel", "m/tenant/c/channel/");
}

FL_TEST(topic, the_filter_of_all_own_acks)
{
    const struct fl_topic parts = {.kind = FL_TOPIC_ACKS_OF, .proplet_id = "p-1"};
    char out[64];

    FL_CHECK_INT(fl_topic_build(out, sizeof(out), "x", &parts), 22);
    FL_CHECK_STRING(out, "x/fl/rounds/+/acks/p-1");
}

FL_TEST(topic, a_topic_that_is_none_of_ours)
{
    static const char *const others[] = {
        "",
        "control",
        "control/manager/start/",
        "control/manager/starting",
        "control/manager/start/p/x",
        "control/manager/start/+",
        "/control/manager/start",
        "fl/rounds/start",
        "fl/rounds//acks/p",
        "fl/rounds/r/acks/",
        "fl/rounds/+/acks/p",
        "fl/rounds/r s/acks/p",
        "fl/rounds/../acks/p",
        "fl/rounds/" ID64 "a/acks/p",
        "fl/rounds/r/complete/x",
        "fl/rounds/r/completed",
        "fl/images/abc",
        "fl/images/" HEX64 "0",
        "fl/images/0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
        "fl/models/",
        "fl/models/a/b",
    };
    struct fl_topic parts;

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        FL_CHECK_INT(fl_topic_match(NULL, others[i], strlen(others[i]), &parts), FL_TOPIC_NONE);
        FL_CHECK_STRING(parts.round_id, "");
        FL_CHECK_STRING(parts.proplet_id, "");
    }
}

FL_TEST(topic, the_size_counts_and_not_a_nul)
{
    struct fl_topic parts;

    FL_CHECK_INT(fl_topic_match(NULL, "registry/serverXX", 15, &parts), FL_TOPIC_REGISTRY_CHUNK);
    FL_CHECK_INT(fl_topic_match(NULL, "registry/server", 14, &parts), FL_TOPIC_NONE);
}

FL_TEST(topic, a_topic_must_lie_under_the_prefix)
{
    static const char *const others[] = {
        "registry/server",     "m/a/registry/server", "m/tregistry/server", "m/t", "m/t/",
        "m/tt/registry/server"};
    struct fl_topic parts;

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        FL_CHECK_INT(fl_topic_match("m/t", others[i], strlen(others[i]), &parts), FL_TOPIC_NONE);
    }
}

FL_TEST(topic, what_cannot_be_built)
{
    char out[FL_TOPIC_MAX + 1] = "x";
    struct fl_topic parts = {.kind = FL_TOPIC_NONE};

    FL_CHECK_INT(fl_topic_build(out, sizeof(out), NULL, &parts), 0);
    FL_CHECK_STRING(out, "");
    parts.kind = FL_TOPIC_UPDATE;
    FL_CHECK_INT(fl_topic_build(out, sizeof(out), NULL, &parts), 0);
    strcpy(parts.round_id, "r");
    strcpy(parts.proplet_id, "#");
    FL_CHECK_INT(fl_topic_build(out, sizeof(out), NULL, &parts), 0);
    strcpy(parts.proplet_id, "p");
    FL_CHECK_INT(fl_topic_build(out, 22, NULL, &parts), 21);
    FL_CHECK_INT(fl_topic_build(out, 21, NULL, &parts), 0);
    FL_CHECK_STRING(out, "");
    parts.kind = FL_TOPIC_IMAGE;
    strcpy(parts.name, "abc");
    FL_CHECK_INT(fl_topic_build(out, sizeof(out), NULL, &parts), 0);
}

FL_TEST(topic, the_longest_topic_fits)
{
    char prefix[FL_TOPIC_PREFIX_MAX + 1];
    char out[FL_TOPIC_MAX + 1];
    struct fl_topic parts = {.kind = FL_TOPIC_UPDATE, .round_id = ID64, .proplet_id = ID64};

    memset(prefix, 'a', FL_TOPIC_PREFIX_MAX);
    prefix[64] = '/';
    prefix[FL_TOPIC_PREFIX_MAX] = '\0';
    FL_CHECK(fl_topic_prefix_valid(prefix));
    FL_CHECK_INT(fl_topic_build(out, sizeof(out), prefix, &parts), FL_TOPIC_MAX);
}

FL_TEST(topic, ids)
{
    static const char *const good[] = {"a", "A-z_0.9", "...a", "-", "_", ID64};
    static const char *const bad[] = {"",  ".",   "..",       "a/b", "a+",
                                      "#", "a b", "\xC3\xA9", "a\n", ID64 "a"};

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        FL_CHECK(fl_id_valid(good[i], strlen(good[i])));
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        FL_CHECK(!fl_id_valid(bad[i], strlen(bad[i])));
    }
    FL_CHECK(!fl_id_valid("a\0", 2));
}

FL_TEST(topic, prefixes)
{
    char prefix[FL_TOPIC_PREFIX_MAX + 2];

    FL_CHECK(fl_topic_prefix_valid(""));
    FL_CHECK(fl_topic_prefix_valid("m/tenant/c/channel"));
    FL_CHECK(!fl_topic_prefix_valid("/"));
    FL_CHECK(!fl_topic_prefix_valid("/m"));
    FL_CHECK(!fl_topic_prefix_valid("m/"));
    FL_CHECK(!fl_topic_prefix_valid("m//c"));
    FL_CHECK(!fl_topic_prefix_valid("m/+/c"));
    FL_CHECK(!fl_topic_prefix_valid("m/../c"));
    memset(prefix, 'a', FL_TOPIC_PREFIX_MAX + 1);
    prefix[64] = '/';
    prefix[FL_TOPIC_PREFIX_MAX + 1] = '\0';
    FL_CHECK(!fl_topic_prefix_valid(prefix));
}
