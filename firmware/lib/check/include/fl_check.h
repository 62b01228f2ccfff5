/*
 * What the core's tests are written with. A test file is one suite:
 *
 *   FL_SUITE(topic)
 *   FL_TEST(topic, a_name) { FL_CHECK(1 + 1 == 2); }
 *
 * Compiled as it is, a test file is a program that runs its suite and returns 0 when all is well.
 * With FL_CHECK_HEADER defined, the macros come from that header instead: so the same files run
 * under another test framework.
 */
#ifndef FL_CHECK_H
#define FL_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#ifdef FL_CHECK_HEADER
#include FL_CHECK_HEADER
#else

#include <stdio.h>
#include <stdlib.h>

struct fl_check_test {
    const char *name;
    void (*run)(void);
    struct fl_check_test *next;
};

static struct fl_check_test *fl_check_tests;

/* Every test puts itself on the list before main() starts. */
#define FL_TEST(suite, test)                                                                       \
    static void suite##_##test(void);                                                              \
    static struct fl_check_test fl_check_##test = {#suite "." #test, suite##_##test, NULL};        \
    __attribute__((constructor)) static void fl_check_add_##test(void)                             \
    {                                                                                              \
        struct fl_check_test **end = &fl_check_tests;                                              \
        while (*end != NULL) {                                                                     \
            end = &(*end)->next;                                                                   \
        }                                                                                          \
        *end = &fl_check_##test;                                                                   \
    }                                                                                              \
    static void suite##_##test(void)

#define FL_SUITE(suite)                                                                            \
    int main(void)                                                                                 \
    {                                                                                              \
        unsigned int count = 0;                                                                    \
        for (struct fl_check_test *test = fl_check_tests; test != NULL; test = test->next) {       \
            printf("%s\n", test->name);                                                            \
            fflush(stdout);                                                                        \
            test->run();                                                                           \
            count++;                                                                               \
        }                                                                                          \
        printf("%u tests passed\n", count);                                                        \
        return count > 0 ? 0 : 1;                                                                  \
    }

#define FL_CHECK_FAIL(...)                                                                         \
    do {                                                                                           \
        printf("%s:%d: ", __FILE__, __LINE__);                                                     \
        printf(__VA_ARGS__);                                                                       \
        printf("\n");                                                                              \
        exit(1);                                                                                   \
    } while (0)

#endif

#define FL_CHECK(condition)                                                                        \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            FL_CHECK_FAIL("not so: %s", #condition);                                               \
        }                                                                                          \
    } while (0)

/* Two integers are equal. */
#define FL_CHECK_INT(actual, expected)                                                             \
    do {                                                                                           \
        long long fl_actual = (long long)(actual);                                                 \
        long long fl_expected = (long long)(expected);                                             \
        if (fl_actual != fl_expected) {                                                            \
            FL_CHECK_FAIL("%s is %lld, not %lld", #actual, fl_actual, fl_expected);                \
        }                                                                                          \
    } while (0)

/* Two strings are equal. */
#define FL_CHECK_STRING(actual, expected)                                                          \
    do {                                                                                           \
        const char *fl_actual = (actual);                                                          \
        const char *fl_expected = (expected);                                                      \
        if (fl_actual == NULL || strcmp(fl_actual, fl_expected) != 0) {                            \
            FL_CHECK_FAIL("%s is \"%s\", not \"%s\"", #actual,                                     \
                          fl_actual == NULL ? "(null)" : fl_actual, fl_expected);                  \
        }                                                                                          \
    } while (0)

/* `size` bytes are equal. */
#define FL_CHECK_BYTES(actual, expected, size)                                                     \
    do {                                                                                           \
        if (memcmp((actual), (expected), (size)) != 0) {                                           \
            FL_CHECK_FAIL("%s does not hold the bytes of %s", #actual, #expected);                 \
        }                                                                                          \
    } while (0)

#endif
