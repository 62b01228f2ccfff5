#include "fl_args.h"
#include "fl_check.h"

FL_SUITE(args)

static struct fl_args args;
static struct fl_env env;
static struct fl_command command;
static const char *fault;

/* "a|b|c" as arguments. */
static void set(const char *list)
{
    memset(&args, 0, sizeof(args));
    while (*list != '\0') {
        size_t size = strcspn(list, "|");
        size_t cursor = args.size;

        FL_CHECK(fl_args_append(&args, &cursor, list, size));
        fl_args_close(&args, cursor);
        list += size + (list[size] == '|' ? 1 : 0);
    }
}

static enum fl_args_status options(const char *list)
{
    set(list);
    fl_env_clear(&env);
    FL_CHECK_INT(fl_env_put(&env, "A", "old"), FL_ENV_OK);
    command = (struct fl_command){.function = "task"};
    fault = NULL;
    return fl_args_options(&args, &env, &command, &fault);
}

FL_TEST(args, strings_lie_one_after_another)
{
    size_t cursor;

    set("one|two");
    cursor = args.size;
    FL_CHECK(fl_args_append(&args, &cursor, "th", 2));
    FL_CHECK(fl_args_append(&args, &cursor, "ree", 3));
    FL_CHECK_INT(args.count, 2); /* not yet closed */
    fl_args_close(&args, cursor);
    FL_CHECK_INT(args.count, 3);
    FL_CHECK_INT(args.size, 14);
    FL_CHECK_BYTES(args.text, "one\0two\0three", 14);
}

FL_TEST(args, full_to_the_last_byte)
{
    static char text[FL_ARGS_CAPACITY];
    size_t cursor = 0;

    memset(&args, 0, sizeof(args));
    memset(text, 'x', sizeof(text));
    FL_CHECK(!fl_args_append(&args, &cursor, text, FL_ARGS_CAPACITY));
    FL_CHECK(fl_args_append(&args, &cursor, text, FL_ARGS_CAPACITY - 1));
    FL_CHECK(!fl_args_append(&args, &cursor, "y", 1));
    fl_args_close(&args, cursor);
    cursor = args.size;
    FL_CHECK_INT(cursor, FL_ARGS_CAPACITY);
    FL_CHECK(!fl_args_append(&args, &cursor, "", 0)); /* no room for its NUL */
}

FL_TEST(args, what_is_no_option_is_the_modules)
{
    FL_CHECK_INT(options("in.csv|--invoke|x|-v"), FL_ARGS_OK);
    FL_CHECK_INT(command.args_count, 4);
    FL_CHECK(command.args == args.text);
    FL_CHECK_INT(command.args_size, args.size);
    FL_CHECK_STRING(command.function, "task");
    FL_CHECK(!command.nothing_else);
    FL_CHECK_INT(options(""), FL_ARGS_OK);
    FL_CHECK_INT(command.args_count, 0);
    FL_CHECK_INT(command.args_size, 0);
}

FL_TEST(args, options_in_front_are_ours)
{
    FL_CHECK_INT(options("--invoke|add|--env|B=2=3|--env=C|--|--invoke|x"), FL_ARGS_OK);
    FL_CHECK_STRING(command.function, "add");
    FL_CHECK(command.nothing_else);
    FL_CHECK_STRING(fl_env_get(&env, "B"), "2=3");
    FL_CHECK_STRING(fl_env_get(&env, "C"), "");
    FL_CHECK_INT(command.args_count, 2);
    FL_CHECK_BYTES(command.args, "--invoke\0x", command.args_size);
    FL_CHECK_INT(command.args_size, 11);
    FL_CHECK_INT(options("--invoke=sum"), FL_ARGS_OK);
    FL_CHECK_STRING(command.function, "sum");
    FL_CHECK_INT(options("--invoke"), FL_ARGS_OK); /* without a name it says nothing */
    FL_CHECK_STRING(command.function, "task");
}

FL_TEST(args, a_variable_takes_the_place_of_the_tasks)
{
    FL_CHECK_INT(options("--env=A=new"), FL_ARGS_OK);
    FL_CHECK_STRING(fl_env_get(&env, "A"), "new");
    FL_CHECK_INT(env.count, 1);
}

FL_TEST(args, what_is_refused_is_named)
{
    FL_CHECK_INT(options("--dir=/|x"), FL_ARGS_OPTION);
    FL_CHECK_STRING(fault, "--dir=/");
    FL_CHECK_INT(options("-"), FL_ARGS_OPTION);
    FL_CHECK_INT(options("--inv|x"), FL_ARGS_OPTION);
    FL_CHECK_INT(options("--env"), FL_ARGS_ENV);
    FL_CHECK_INT(options("--env|=x"), FL_ARGS_ENV);
    FL_CHECK_STRING(fault, "--env");
}

FL_TEST(args, an_environment_without_room)
{
    static char value[FL_ENV_CAPACITY + 1];

    FL_CHECK_INT(options(""), FL_ARGS_OK);
    memset(value, 'v', FL_ENV_CAPACITY - sizeof("A=old") - sizeof("B="));
    FL_CHECK_INT(fl_env_put(&env, "B", value), FL_ENV_OK);
    set("--env|C=1");
    FL_CHECK_INT(fl_args_options(&args, &env, &command, &fault), FL_ARGS_ENV_FULL);
    FL_CHECK_STRING(fault, "--env");
    FL_CHECK_STRING(fl_env_get(&env, "B"), value);
}
