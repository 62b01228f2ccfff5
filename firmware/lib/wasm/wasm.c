#include "fl_wasm.h"

#define HEADER_SIZE 8 /* "\0asm" and the version */
#define SECTION_START 8
#define LEB_BYTES_MAX 5 /* of 32 bits */

/* Reads an unsigned LEB128 number at `*at`. Returns false when there is none. */
static bool read_u32(const uint8_t *image, size_t size, size_t *at, uint32_t *value)
{
    *value = 0;
    for (unsigned int i = 0; i < LEB_BYTES_MAX && *at < size; i++) {
        uint8_t byte = image[(*at)++];

        *value |= (uint32_t)(byte & 0x7Fu) << (7u * i);
        if (byte < 0x80) {
            return true;
        }
    }
    return false;
}

bool fl_wasm_has_start_section(const uint8_t *image, size_t size)
{
    size_t at = HEADER_SIZE;

    while (at < size) {
        uint8_t id = image[at++];
        uint32_t content_size;

        if (!read_u32(image, size, &at, &content_size) || content_size > size - at) {
            return false;
        }
        if (id == SECTION_START) {
            return true;
        }
        at += content_size;
    }
    return false;
}
