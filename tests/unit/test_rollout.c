/* When a device's turn is: by its place, the ramp and the most; and who has none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/rollout.h"

#define START 1800000000
#define FLEET 20000

static struct err err;

static int turn(const struct rollout *r, int device, int64_t now_s)
{
    char id[32];

    memset(&err, 0, sizeof err);
    snprintf(id, sizeof id, "device-%d", device);
    return rollout_turn(r, "v7", id, "stable", now_s, &err);
}

/* Hundredths of a percent of the fleet. */
static int reached(const struct rollout *r, int64_t now_s)
{
    int cnt = 0;

    for (int i = 0; i < FLEET; i++)
        cnt += turn(r, i, now_s) == 0;
    return cnt * 10000 / FLEET;
}

static void nothing_said(void **state)
{
    (void)state;
    assert_int_equal(reached(&(struct rollout){.max = 100}, 0), 10000);
}

static void not_before_the_start(void **state)
{
    const struct rollout r = {.start_s = START, .max = 100};

    (void)state;
    assert_int_equal(reached(&r, START - 1), 0);
    assert_int_equal(reached(&r, START), 10000);
    assert_int_equal(turn(&r, 1, START - 100), ERR_HELD);
    assert_int_equal(err.after_s, 100);
    assert_non_null(strstr(err.text, "its turn is at 2027-01-15 08:00:00 UTC"));
}

static void along_the_ramp(void **state)
{
    const struct rollout r = {.start_s = START, .ramp_s = 1000, .max = 100};

    (void)state;
    for (int at = 0; at <= 1000; at += 50)
        assert_in_range(reached(&r, START + at) + 150, at * 10, at * 10 + 300);
    assert_int_equal(reached(&r, START + 1000), 10000);
}

static void each_at_its_time_and_for_ever(void **state)
{
    const struct rollout r = {.start_s = START, .ramp_s = 86400, .max = 100};

    (void)state;
    for (int i = 0; i < 500; i++) {
        int64_t at = START;

        if (turn(&r, i, at) != 0)
            at += err.after_s;
        assert_int_equal(turn(&r, i, at), 0);
        assert_true(at == START || turn(&r, i, at - 1) == ERR_HELD);
        assert_int_equal(turn(&r, i, at + 1000000000), 0);
    }
}

static void no_more_than_the_most(void **state)
{
    const struct rollout r = {.ramp_s = 1000, .max = 5};

    (void)state;
    assert_in_range(reached(&r, START), 400, 600);
    for (int i = 0; i < FLEET; i++)
        if (turn(&r, i, START) != 0)
            assert_int_equal(err.after_s, ROLLOUT_NEVER);
}

/* How many of those that come first do so with the other salt, too; in hundredths of a percent of the fleet. */
static int first_in_both(const struct rollout *a, const struct rollout *b)
{
    int cnt = 0;

    for (int i = 0; i < FLEET; i++)
        cnt += turn(a, i, START) == 0 && turn(b, i, START) == 0;
    return cnt * 10000 / FLEET;
}

static void a_salt_keeps_the_order(void **state)
{
    const struct rollout a = {.max = 10, .salt = "canaries"}, more = {.max = 30, .salt = "canaries"},
                         b = {.max = 10, .salt = "others"};

    (void)state;
    assert_int_equal(first_in_both(&a, &more), reached(&a, START));
    assert_in_range(first_in_both(&a, &b), 50, 200);
}

static void the_version_stands_in_for_a_salt(void **state)
{
    const struct rollout none = {.max = 10}, same = {.max = 10, .salt = "v7"};

    (void)state;
    assert_int_equal(first_in_both(&none, &same), reached(&none, START));
}

static void channels(void **state)
{
    static const char *const with[] = {"stable", "beta, stable", "stable,beta", "edge,  stable ,beta"};
    static const char *const without[] = {"beta", "stabl", "stables", "beta,edge"};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct rollout r = {.max = 100};

        snprintf(r.channels, sizeof r.channels, "%s", with[i]);
        assert_int_equal(turn(&r, 1, START), 0);
        snprintf(r.channels, sizeof r.channels, "%s", without[i]);
        assert_int_equal(turn(&r, 1, START), ERR_HELD);
        assert_int_equal(err.after_s, ROLLOUT_NEVER);
        assert_non_null(strstr(err.text, "this device is of stable"));
    }
}

static void a_start_at_the_end_of_time(void **state)
{
    const struct rollout r = {.start_s = INT64_MAX / 2, .ramp_s = UINT32_MAX, .max = 100};

    (void)state;
    assert_int_equal(turn(&r, 1, 0), ERR_HELD);
    assert_int_equal(err.after_s, ROLLOUT_NEVER - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_said),
        cmocka_unit_test(not_before_the_start),
        cmocka_unit_test(along_the_ramp),
        cmocka_unit_test(each_at_its_time_and_for_ever),
        cmocka_unit_test(no_more_than_the_most),
        cmocka_unit_test(a_salt_keeps_the_order),
        cmocka_unit_test(the_version_stands_in_for_a_salt),
        cmocka_unit_test(channels),
        cmocka_unit_test(a_start_at_the_end_of_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
