/*
 * A model that is too large for one message is published as a manifest: a JSON object in which
 * "manifest" is an object, and not an array as a tensor of that name would be. A board has no room
 * for such a model, and must say so instead of giving the manifest to a module.
 */
#ifndef FL_MANIFEST_H
#define FL_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a proplet reports about such a model. */
#define FL_MANIFEST_DETAIL "too_large: the model is published in parts"

/*
 * Whether the whole document `data` is a manifest. False for anything else, JSON or not. Reads no
 * further than the member's beginning; takes some 150 bytes of stack.
 */
bool fl_manifest_is(const uint8_t *data, size_t size);

#endif
