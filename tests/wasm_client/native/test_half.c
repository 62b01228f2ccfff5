/* Reads float32 from stdin; writes the float16 of each to stdout, or ffff where none is near. */
#include "fl.h"

#include <stdio.h>

int main(void)
{
    float value;

    while (fread(&value, sizeof value, 1, stdin) == 1) {
        uint16_t half = fl_fits_half(value) ? (uint16_t)fl_half_of(value) : 0xffff;

        if (fwrite(&half, sizeof half, 1, stdout) != 1) {
            return 1;
        }
    }
    return 0;
}
