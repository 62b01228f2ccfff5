#include "fl_check.h"
#include "fl_env.h"

FL_SUITE(env)

FL_TEST(env, variables_lie_one_after_another)
{
    static struct fl_env env;

    fl_env_clear(&env);
    FL_CHECK_INT(fl_env_put(&env, "ROUND_ID", "r-1"), FL_ENV_OK);
    FL_CHECK_INT(fl_env_put(&env, "EMPTY", ""), FL_ENV_OK);
    FL_CHECK_INT(env.count, 2);
    FL_CHECK_INT(env.size, sizeof("ROUND_ID=r-1") + sizeof("EMPTY="));
    FL_CHECK_BYTES(env.text, "ROUND_ID=r-1\0EMPTY=", env.size);
    FL_CHECK_STRING(fl_env_get(&env, "ROUND_ID"), "r-1");
    FL_CHECK_STRING(fl_env_get(&env, "EMPTY"), "");
}

FL_TEST(env, a_name_is_found_only_whole)
{
    static struct fl_env env;

    fl_env_clear(&env);
    FL_CHECK_INT(fl_env_put(&env, "FL_MODEL", "FL=x"), FL_ENV_OK);
    FL_CHECK(fl_env_get(&env, "FL") == NULL);
    FL_CHECK(fl_env_get(&env, "FL_MODEL_URI") == NULL);
    FL_CHECK(fl_env_get(&env, "MODEL") == NULL);
    FL_CHECK_STRING(fl_env_get(&env, "FL_MODEL"), "FL=x");
}

FL_TEST(env, refused)
{
    static struct fl_env env;

    fl_env_clear(&env);
    FL_CHECK_INT(fl_env_put(&env, "", "x"), FL_ENV_BAD_NAME);
    FL_CHECK_INT(fl_env_put(&env, "A=B", "x"), FL_ENV_BAD_NAME);
    FL_CHECK_INT(fl_env_put(&env, "A", "x"), FL_ENV_OK);
    FL_CHECK_INT(fl_env_put(&env, "A", "y"), FL_ENV_TAKEN);
    FL_CHECK_STRING(fl_env_get(&env, "A"), "x");
    FL_CHECK_INT(env.count, 1);
}

FL_TEST(env, it_is_filled_to_the_last_byte_and_not_beyond)
{
    static struct fl_env env;
    static char value[FL_ENV_CAPACITY];

    fl_env_clear(&env);
    memset(value, 'v', sizeof(value));
    value[FL_ENV_CAPACITY - sizeof("A=") + 1] = '\0'; /* one too many */
    FL_CHECK_INT(fl_env_put(&env, "A", value), FL_ENV_FULL);
    FL_CHECK_INT(env.count, 0);
    FL_CHECK_INT(env.size, 0);
    value[FL_ENV_CAPACITY - sizeof("A=")] = '\0';
    FL_CHECK_INT(fl_env_put(&env, "A", value), FL_ENV_OK);
    FL_CHECK_INT(env.size, FL_ENV_CAPACITY);
    FL_CHECK_STRING(fl_env_get(&env, "A"), value);
    FL_CHECK_INT(fl_env_put(&env, "B", ""), FL_ENV_FULL);
    FL_CHECK_INT(env.count, 1);
}

FL_TEST(env, a_value_may_come_in_pieces)
{
    static struct fl_env env;
    size_t cursor;

    fl_env_clear(&env);
    FL_CHECK_INT(fl_env_open(&env, "A", &cursor), FL_ENV_OK);
    FL_CHECK_INT(fl_env_append(&env, &cursor, "12", 2), FL_ENV_OK);
    FL_CHECK_INT(fl_env_append(&env, &cursor, "34", 2), FL_ENV_OK);
    FL_CHECK(fl_env_get(&env, "A") == NULL); /* not yet closed */
    fl_env_close(&env, cursor);
    FL_CHECK_STRING(fl_env_get(&env, "A"), "1234");
}

FL_TEST(env, giving_up_half_way_leaves_nothing)
{
    static struct fl_env env;
    size_t cursor;

    fl_env_clear(&env);
    FL_CHECK_INT(fl_env_open(&env, "A", &cursor), FL_ENV_OK);
    FL_CHECK_INT(fl_env_append(&env, &cursor, "12", 2), FL_ENV_OK);
    FL_CHECK_INT(fl_env_put(&env, "B", "x"), FL_ENV_OK);
    FL_CHECK_INT(env.count, 1);
    FL_CHECK_STRING(fl_env_get(&env, "B"), "x");
}

FL_TEST(env, a_variable_is_replaced)
{
    static struct fl_env env;
    static char variable[FL_ENV_CAPACITY + 1];

    fl_env_clear(&env);
    FL_CHECK_INT(fl_env_set(&env, "A=1"), FL_ENV_OK);
    FL_CHECK_INT(fl_env_set(&env, "B=two"), FL_ENV_OK);
    FL_CHECK_INT(fl_env_set(&env, "A=longer"), FL_ENV_OK);
    FL_CHECK_INT(fl_env_set(&env, "C"), FL_ENV_OK);
    FL_CHECK_INT(env.count, 3);
    FL_CHECK_INT(env.size, 18);
    FL_CHECK_BYTES(env.text, "B=two\0A=longer\0C=", 18);
    FL_CHECK_INT(fl_env_set(&env, "=x"), FL_ENV_BAD_NAME);
    FL_CHECK_INT(fl_env_set(&env, ""), FL_ENV_BAD_NAME);
    /* What is replaced makes room: to the last byte, and one more is refused and changes nothing.
     */
    memset(variable, 'v', sizeof(variable) - 1);
    memcpy(variable, "A=", 2);
    variable[FL_ENV_CAPACITY - 9] = '\0';
    FL_CHECK_INT(fl_env_set(&env, variable), FL_ENV_FULL);
    FL_CHECK_STRING(fl_env_get(&env, "A"), "longer");
    variable[FL_ENV_CAPACITY - 10] = '\0';
    FL_CHECK_INT(fl_env_set(&env, variable), FL_ENV_OK);
    FL_CHECK_INT(env.size, FL_ENV_CAPACITY);
    FL_CHECK_STRING(fl_env_get(&env, "C"), "");
    FL_CHECK_INT(fl_env_set(&env, "D"), FL_ENV_FULL);
}
