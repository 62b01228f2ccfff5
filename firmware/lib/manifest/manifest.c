#include "fl_manifest.h"

#include "fl_json.h"

#include <string.h>

#define MEMBER "manifest"

struct search {
    bool named; /* the member's name was the last thing */
    bool found;
};

static bool look(void *user, const struct fl_json_event *event)
{
    struct search *search = user;

    if (event->depth != 1) {
        return event->depth > 1 || event->type == FL_JSON_OBJECT_BEGIN ||
               event->type == FL_JSON_OBJECT_END;
    }
    search->found = search->named && event->type == FL_JSON_OBJECT_BEGIN;
    search->named = event->type == FL_JSON_KEY && event->size == sizeof(MEMBER) - 1 &&
                    memcmp(event->text, MEMBER, event->size) == 0;
    return !search->found;
}

bool fl_manifest_is(const uint8_t *data, size_t size)
{
    struct search search = {false, false};
    struct fl_json json;

    fl_json_begin(&json, look, &search);
    (void)fl_json_feed(&json, (const char *)data, size); /* what is no JSON is no manifest */
    return search.found;
}
