/* exp and log against double precision, and the generator against its authors' numbers. */
#include "fl_math.h"
#include "fl_random.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

static void check(bool good, const char *what, double at)
{
    if (!good && failures++ < 20) {
        printf("%s, at %.9g\n", what, at);
    }
}

/* The error of `got` in units of the last place of `exact`. */
static double error_ulp(float got, double exact)
{
    double least = 0x1p-149;
    double unit = fmax(ldexp(1.0, ilogb(exact) - 23), least);

    return fabs((double)got - exact) / unit;
}

static void test_exp(void)
{
    double worst = 0.0;

    for (float x = -104.0f; x < 88.7f; x += 1.7e-5f) {
        worst = fmax(worst, error_ulp(fl_exp(x), exp((double)x)));
    }
    printf("exp: %.3f ulp\n", worst);
    check(worst < 1.0, "exp is off", worst);
    check(fl_exp(0.0f) == 1.0f, "exp(0)", 0.0);
    check(fl_exp(-110.0f) == 0.0f && fl_exp(-INFINITY) == 0.0f, "exp underflow", -110.0);
    check(isinf(fl_exp(89.0f)) && isinf(fl_exp(INFINITY)), "exp overflow", 89.0);
    check(isnan(fl_exp(NAN)), "exp(NaN)", 0.0);
}

static void test_log(void)
{
    double worst = 0.0;

    for (uint32_t bits = 1; bits < 0x7f800000; bits += 487) {
        float x;

        memcpy(&x, &bits, sizeof x);
        worst = fmax(worst, error_ulp(fl_log(x), log((double)x)));
    }
    for (float x = 0.5f; x < 2.0f; x += 1e-6f) {
        worst = fmax(worst, x == 1.0f ? 0.0 : error_ulp(fl_log(x), log((double)x)));
    }
    printf("log: %.3f ulp\n", worst);
    check(worst < 1.0, "log is off", worst);
    check(fl_log(1.0f) == 0.0f, "log(1)", 1.0);
    check(fl_log(0.0f) == -INFINITY && fl_log(-0.0f) == -INFINITY, "log(0)", 0.0);
    check(isnan(fl_log(-1.0f)) && isnan(fl_log(NAN)), "log(-1)", -1.0);
    check(isinf(fl_log(INFINITY)), "log(inf)", INFINITY);
}

static void test_truncate(void)
{
    static const float exact[] = {0.0f, 1.5f, -1.5f, 16777216.0f, -0.9f, 2147483520.0f};

    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++) {
        check(fl_truncate(exact[i]) == (int32_t)exact[i], "truncate", (double)exact[i]);
    }
    (void)fl_truncate(INFINITY); /* defined, whatever it gives: the sanitizer looks on */
    (void)fl_truncate(NAN);
    (void)fl_truncate(-3e9f);
}

static void test_generator(void)
{
    static const uint32_t known[] = {11520, 0, 5927040, 70819200, 2031721883, 1637235492};
    struct fl_random random = {{1, 2, 3, 4}};
    struct fl_random other;
    double sum = 0.0;

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        check(fl_random_u32(&random) == known[i], "xoshiro128**", (double)i);
    }
    fl_random_seed(&random, 7);
    fl_random_seed(&other, 8);
    check(memcmp(&random, &other, sizeof random) != 0, "seeds 7 and 8 are alike", 7.0);
    for (int i = 0; i < 100000; i++) {
        float unit = fl_random_unit(&random);

        check(unit >= 0.0f && unit < 1.0f, "unit is out of range", (double)unit);
        sum += (double)unit;
    }
    check(fabs(sum / 100000 - 0.5) < 0.005, "unit is not uniform", sum / 100000);
}

/* Every number comes once; and over many draws, every number comes first about as often. */
static void test_permutation(void)
{
    static uint8_t seen[3000];
    static uint32_t first[20];
    struct fl_random random;
    struct fl_permutation permutation;

    fl_random_seed(&random, 1);
    for (uint32_t count = 1; count <= sizeof seen; count++) {
        memset(seen, 0, sizeof seen);
        fl_permutation_draw(&permutation, count, &random);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t at = fl_permutation_at(&permutation, i);

            check(at < count && seen[at] == 0, "not a permutation", (double)count);
            seen[at] = 1;
        }
    }
    for (int i = 0; i < 40000; i++) {
        fl_permutation_draw(&permutation, 20, &random);
        first[fl_permutation_at(&permutation, 0)]++;
    }
    for (int i = 0; i < 20; i++) {
        check(first[i] > 1700 && first[i] < 2300, "an order is preferred", (double)first[i]);
    }
    fl_permutation_draw(&permutation, (uint32_t)1 << 31, &random);
    check(fl_permutation_at(&permutation, 5) < (uint32_t)1 << 31, "the largest", 5.0);
}

int main(void)
{
    test_exp();
    test_log();
    test_truncate();
    test_generator();
    test_permutation();
    printf("%d failures\n", failures);
    return failures != 0;
}
