/* fl_check.h's macros by way of ztest. */
#ifndef FL_CHECK_ZTEST_H
#define FL_CHECK_ZTEST_H

#include <zephyr/ztest.h>

#define FL_SUITE(suite) ZTEST_SUITE(suite, NULL, NULL, NULL, NULL, NULL);
#define FL_TEST(suite, test) ZTEST(suite, test)
#define FL_CHECK_FAIL(...) zassert_unreachable(__VA_ARGS__)

#endif
