#include "fl_json.h"

/* Exponents beyond this are as good as infinite, and sums with them cannot overflow. */
#define EXPONENT_MAX 1000000000

int fl_json_peek(void)
{
    int byte;

    while ((byte = fl_peek()) == ' ' || byte == '\n' || byte == '\r' || byte == '\t') {
        fl_next();
    }
    return byte;
}

void fl_json_expect(char byte)
{
    char expected[] = {'\'', byte, '\'', '\0'};

    if (fl_json_peek() != byte) {
        fl_expected(expected);
    }
    fl_next();
}

uint32_t fl_json_string(char *text, uint32_t capacity)
{
    uint32_t size = 0;
    bool escaped = false;

    fl_json_expect('"');
    for (;;) {
        int byte = fl_peek();

        if (byte < 0x20) {
            fl_expected("a closing quote");
        }
        fl_next();
        if (byte == '"' && !escaped) {
            break;
        }
        escaped = byte == '\\' && !escaped;
        if (size + 1 < capacity) {
            text[size] = (char)byte;
        }
        size++;
    }
    text[size < capacity ? size : capacity - 1] = '\0';
    return size;
}

static bool is_digit(int byte)
{
    return byte >= '0' && byte <= '9';
}

/* The digits at the cursor, before the decimal point or after it. */
static void digits(struct fl_decimal *decimal, bool fraction)
{
    int byte = fl_peek();

    if (!is_digit(byte)) {
        fl_expected("a digit");
    }
    for (; is_digit(byte); byte = fl_peek()) {
        uint32_t digit = (uint32_t)(byte - '0');

        if (decimal->digits < 1000000000000000000) {
            decimal->digits = decimal->digits * 10 + digit;
            decimal->exponent -= fraction;
        } else {
            decimal->more |= digit != 0;
            decimal->exponent += !fraction;
        }
        fl_next();
    }
}

static void exponent(struct fl_decimal *decimal)
{
    int byte = fl_peek();
    bool negative = byte == '-';
    int64_t value = 0;

    if (byte == '-' || byte == '+') {
        fl_next();
    }
    do {
        byte = fl_peek();
        if (!is_digit(byte)) {
            fl_expected("a digit");
        }
        if (value < EXPONENT_MAX) {
            value = value * 10 + (byte - '0');
        }
        fl_next();
    } while (is_digit(fl_peek()));
    decimal->exponent += negative ? -value : value;
}

void fl_json_number(struct fl_decimal *decimal)
{
    int byte = fl_json_peek();

    *decimal = (struct fl_decimal){.negative = byte == '-'};
    if (byte == '-') {
        fl_next();
        byte = fl_peek();
    }
    if (!is_digit(byte)) {
        fl_expected("a number");
    }
    if (byte == '0') {
        fl_next(); /* a digit after it is found to be no part of this number */
    } else {
        digits(decimal, false);
    }
    if (fl_peek() == '.') {
        fl_next();
        digits(decimal, true);
    }
    byte = fl_peek();
    if (byte == 'e' || byte == 'E') {
        fl_next();
        exponent(decimal);
    }
}

bool fl_json_member(bool first)
{
    if (fl_json_peek() == '}') {
        fl_next();
        if (fl_json_peek() >= 0) {
            fl_expected("the end");
        }
        return false;
    }
    if (!first) {
        fl_json_expect(',');
    }
    return true;
}
