#include "fl_math.h"

/* ln 2 in two parts; the product of the first with any exponent is exact. */
#define LN2_HIGH 0x1.62e4p-1f
#define LN2_LOW 0x1.7f7d1cp-20f

union view {
    float value;
    uint32_t bits;
};

__attribute__((noinline)) int32_t fl_truncate(float x)
{
    return x > -0x1p31f && x < 0x1p31f ? (int32_t)x : INT32_MIN;
}

/* 2^n for -126 <= n <= 127. */
static float power_of_two(int32_t n)
{
    union view view = {.bits = (uint32_t)(n + 127) << 23};

    return view.value;
}

float fl_exp(float x)
{
    if (x != x) {
        return x;
    }
    if (x > 89.0f) {
        x = 89.0f; /* already infinite */
    }
    if (x < -105.0f) {
        return 0.0f;
    }
    int32_t n = fl_truncate(x * 0x1.715476p+0f + (x < 0.0f ? -0.5f : 0.5f));
    float r = x - (float)n * LN2_HIGH;
    r = r - (float)n * LN2_LOW;

    /* e^r = 1 + r + r^2 p(r) for |r| <= ln(2) / 2; minimax, 4e-9. */
    float p = 0x1.6a1080p-10f;
    p = p * r + 0x1.1245c8p-7f;
    p = p * r + 0x1.55593cp-5f;
    p = p * r + 0x1.555482p-3f;
    p = p * r + 0x1.fffffcp-2f;
    float y = 1.0f + (r + r * r * p);

    /* Two steps where 2^n alone would leave the range; the first is exact. */
    if (n < -126) {
        return y * power_of_two(n + 64) * power_of_two(-64);
    }
    if (n > 127) {
        return y * power_of_two(n - 1) * 2.0f;
    }
    return y * power_of_two(n);
}

float fl_log(float x)
{
    union view view = {.value = x};
    int32_t n = 0;

    if (!(x > 0.0f)) { /* 0, negative or NaN */
        view.bits = x == 0.0f ? 0xff800000 : 0x7fc00000;
        return view.value;
    }
    if (view.bits >= 0x7f800000) {
        return x;
    }
    if (view.bits < 0x00800000) { /* subnormal */
        view.value = x * 0x1p+24f;
        n = -24;
    }
    /* x = 2^n m, with m between 1/sqrt(2) and sqrt(2). */
    uint32_t shifted = view.bits - 0x3f3504f3;
    n += (int32_t)shifted >> 23;
    view.bits = (shifted & 0x7fffff) + 0x3f3504f3;

    /* log(m) = 2 atanh(s) with s = f / (2 + f); p(s^2) is minimax, 9e-10. */
    float f = view.value - 1.0f;
    float s = f / (2.0f + f);
    float z = s * s;
    float p = 0x1.3227bap-2f;
    p = p * z + 0x1.995c5ep-2f;
    p = p * z + 0x1.55557cp-1f;
    p = p * z;

    /* f - (f^2/2 - s (f^2/2 + p)) loses less than 2 s + s p. */
    float h = 0.5f * f * f;
    return (float)n * LN2_HIGH + (f - (h - (s * (h + p) + (float)n * LN2_LOW)));
}
