/* Users of an image, from its own etc/passwd and etc/group. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "sup/user.h"

static char etc[] = "/tmp/test_sup_user.XXXXXX";
static struct app_user user;
static struct err err;

static void file_write(const char *name, const char *text)
{
    char path[64];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", etc, name);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    fclose(file);
}

static void find(const char *spec)
{
    if (app_user_find(etc, spec, &user, &err))
        fail_msg("%s: %s", spec, err.text);
}

static void assert_ids(const char *spec, unsigned uid, unsigned gid, size_t groups, const char *home)
{
    find(spec);
    assert_int_equal(user.uid, uid);
    assert_int_equal(user.gid, gid);
    assert_int_equal(user.group_cnt, groups);
    assert_string_equal(user.home, home);
}

static void users_are_found(void **state)
{
    (void)state;
    assert_ids("", 0, 0, 0, "/root");
    assert_ids("web", 1000, 1001, 2, "/home/web");
    assert_int_equal(user.groups[0], 20);
    assert_int_equal(user.groups[1], 30);
    assert_ids("1000", 1000, 1001, 2, "/home/web");
    assert_ids("web:disk", 1000, 30, 0, "/home/web");
    assert_ids("web:", 1000, 1001, 2, "/home/web");
    assert_ids("4711", 4711, 0, 0, "/");
    assert_ids("4711:815", 4711, 815, 0, "/");
    assert_ids(":dialout", 0, 20, 0, "/root");
    assert_ids("last", 7, 8, 0, "/");
    assert_ids("007", 7, 8, 0, "/");
}

static void unknown_ones_are_refused(void **state)
{
    static const char *const specs[] = {"we",    "webb",       "broken",      "-1",
                                        "1000x", "4294967296", "web:nogroup", "web:-1",
                                        "huge",  "web:20:30",  "2147483648:0"};

    (void)state;
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++)
        if (!app_user_find(etc, specs[i], &user, &err))
            fail_msg("found: %s", specs[i]);
    assert_int_equal(app_user_find(etc, "ghost", &user, &err), ERR_APP);
    assert_string_equal(err.text, "user \"ghost\" is not in the image's etc/passwd");
    assert_int_equal(app_user_find(etc, "web:ghosts", &user, &err), ERR_APP);
    assert_string_equal(err.text, "group \"ghosts\" is not in the image's etc/group");
}

static void images_without_files_know_ids(void **state)
{
    (void)state;
    assert_int_equal(app_user_find("/nowhere", "", &user, &err), 0);
    assert_int_equal(user.uid, 0);
    assert_string_equal(user.home, "/");
    assert_int_equal(app_user_find("/nowhere", "5:6", &user, &err), 0);
    assert_int_equal(user.gid, 6);
    assert_int_equal(app_user_find("/nowhere", "web", &user, &err), ERR_APP);
}

static void groups_are_bounded(void **state)
{
    static char text[4096];
    size_t n = 0;

    (void)state;
    for (unsigned i = 0; i < APP_GROUP_MAX + 1; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "g%u:x:%u:a,web\n", i, 100 + i);
    file_write("group", text);
    assert_int_equal(app_user_find(etc, "web", &user, &err), ERR_LIMIT);
}

static int set_up(void **state)
{
    static char passwd[8192];
    size_t n;

    (void)state;
    if (!mkdtemp(etc))
        return -1;
    n = (size_t)snprintf(passwd, sizeof passwd,
                         "root:x:0:0:root:/root:/bin/sh\nbroken:x:1\n\n:::::\nhuge:x:4294967297:0::/:\n");
    memset(passwd + n, 'x', 3000); /* a line longer than any buffer */
    snprintf(passwd + n + 3000, sizeof passwd - n - 3000,
             "\nweb:x:1000:1001:Web:/home/web:/bin/sh\nlast:x:7:8::relative:");
    file_write("passwd", passwd);
    file_write("group", "root:x:0:\ndialout:x:20:a,web\ndisk:x:30:web,b\nother:x:40:webb,we\nnogroup:x\n");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (chdir(etc) || unlink("passwd") || unlink("group") || chdir("/"))
        return -1;
    return rmdir(etc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(users_are_found),
        cmocka_unit_test(unknown_ones_are_refused),
        cmocka_unit_test(images_without_files_know_ids),
        cmocka_unit_test(groups_are_bounded),
    };

    return cmocka_run_group_tests_name("sup_user", tests, set_up, tear_down);
}
