/* Reads cases of key, signature, message size (two bytes, lowest first) and message from standard
 * input, and writes 1 or 0 for each. */
#include "fl_ed25519.h"

#include <stdio.h>

int main(void)
{
    static uint8_t head[FL_ED25519_KEY_SIZE + FL_ED25519_SIGNATURE_SIZE + 2];
    static uint8_t message[65536];

    while (fread(head, 1, sizeof(head), stdin) == sizeof(head)) {
        size_t size = head[sizeof(head) - 2] + 256u * head[sizeof(head) - 1];

        if (fread(message, 1, size, stdin) != size) {
            return 1;
        }
        putchar(fl_ed25519_verify(head + FL_ED25519_KEY_SIZE, head, message, size) ? '1' : '0');
    }
    return 0;
}
