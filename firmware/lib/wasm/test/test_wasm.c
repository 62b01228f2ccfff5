#include "fl_check.h"
#include "fl_wasm.h"

#include <string.h>

FL_SUITE(wasm)

#define HEADER "\0asm\1\0\0\0"
#define CUSTOM "\0\3\1a\7" /* named "a", with a byte that would be the id of exports */
#define TYPES "\1\4\1\x60\0\0"
#define START "\x08\1\0"

#define HAS_START(bytes) fl_wasm_has_start_section((const uint8_t *)(bytes), sizeof(bytes) - 1)

FL_TEST(wasm, a_start_section_is_found_wherever_it_stands)
{
    FL_CHECK(HAS_START(HEADER START));
    FL_CHECK(HAS_START(HEADER TYPES CUSTOM START));
    FL_CHECK(HAS_START(HEADER CUSTOM START TYPES));
}

FL_TEST(wasm, its_id_inside_another_section_is_none)
{
    FL_CHECK(!HAS_START(HEADER "\0\3\x08\1\0"));
    FL_CHECK(!HAS_START(HEADER TYPES CUSTOM));
    FL_CHECK(!HAS_START(HEADER));
}

FL_TEST(wasm, sizes_may_take_more_bytes_than_they_need)
{
    FL_CHECK(HAS_START(HEADER "\1\x84\x80\x80\x80\0\1\x60\0\0" START));
    FL_CHECK(HAS_START(HEADER "\x08\x81\0\0"));
}

FL_TEST(wasm, what_is_cut_off_is_left_to_the_interpreter)
{
    FL_CHECK(!HAS_START(""));
    FL_CHECK(!HAS_START("\0asm"));
    FL_CHECK(!HAS_START(HEADER "\x08"));
    FL_CHECK(!HAS_START(HEADER "\x08\1"));
    FL_CHECK(!HAS_START(HEADER "\1\xff\xff\xff\xff\x0f" START));
    FL_CHECK(!HAS_START(HEADER "\1\xff\xff\xff\xff\xff\xff" START));
}
