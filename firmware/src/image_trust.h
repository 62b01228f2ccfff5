/*
 * Whether a module may run: where CONFIG_FL_REQUIRE_SIGNATURE, only if a key that was built in has
 * signed it.
 */
#ifndef IMAGE_TRUST_H
#define IMAGE_TRUST_H

#include "fl_trust.h"

#include <stdint.h>

#ifdef CONFIG_FL_REQUIRE_SIGNATURE
enum fl_trust image_trust_judge(const uint8_t *image, uint32_t size,
                                const struct fl_signatures *signatures);
#else
static inline enum fl_trust image_trust_judge(const uint8_t *image, uint32_t size,
                                              const struct fl_signatures *signatures)
{
    (void)image;
    (void)size;
    (void)signatures;
    return FL_TRUST_OK;
}
#endif

#endif
