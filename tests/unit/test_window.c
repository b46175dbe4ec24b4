/* Hours of the day: what is read, what is refused, and how long it is until they begin or end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/window.h"

#define MAX 4

static struct window w[MAX];
static struct err err;

static int parse(const char *text)
{
    memset(w, 0, sizeof w);
    return window_list_parse(text, w, MAX, &err);
}

static void read_well(void **state)
{
    (void)state;
    assert_int_equal(parse(" 22:00-06:00 ,12:00-13:30"), 0);
    assert_int_equal(w[0].from, 22 * 60);
    assert_int_equal(w[0].to, 6 * 60);
    assert_int_equal(w[1].from, 12 * 60);
    assert_int_equal(w[1].to, 13 * 60 + 30);
    assert_int_equal(w[2].from, w[2].to);
    assert_int_equal(parse("1:05-24:00"), 0);
    assert_int_equal(w[0].from, 65);
    assert_int_equal(w[0].to, 0);
    assert_int_equal(parse("0:00-0:01,0:02-0:03,0:04-0:05,0:06-0:07"), 0);
}

static void refused(void **state)
{
    static const char *const bad[] = {"",
                                      "22:00",
                                      "22:00-",
                                      "22-06",
                                      "12:00 - 13:30",
                                      "22:0-6:00",
                                      "22:60-23:00",
                                      "24:01-1:00",
                                      "022:00-6:00",
                                      "22:00-22:00",
                                      "00:00-24:00",
                                      "22:00-06:00,",
                                      ",22:00-06:00",
                                      "22:00-06:00 x",
                                      "22:00-06:00-07:00",
                                      "-1:00-06:00",
                                      "0:00-0:01,0:02-0:03,0:04-0:05,0:06-0:07,0:08-0:09"};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (parse(bad[i]) != ERR_CONFIG)
            fail_msg("not refused: \"%s\"", bad[i]);
}

/* Each minute of a day, against a plain count. */
static void waits(void **state)
{
    bool open[WINDOW_DAY_MIN];

    (void)state;
    assert_int_equal(parse("22:00-06:00, 12:00-13:30, 13:30-14:00"), 0);
    for (unsigned m = 0; m < WINDOW_DAY_MIN; m++) {
        open[m] = m >= 1320 || m < 360 || (m >= 720 && m < 840);
        assert_int_equal(window_is_open(w, MAX, m), open[m]);
    }
    for (unsigned m = 0; m < WINDOW_DAY_MIN; m++) {
        unsigned n = 0;

        while (open[(m + n) % WINDOW_DAY_MIN] == open[m])
            n++;
        assert_int_equal(window_wait(w, MAX, m, !open[m]), n);
        assert_int_equal(window_wait(w, MAX, m, open[m]), 0);
    }
}

static void all_day(void **state)
{
    (void)state;
    assert_int_equal(parse("6:00-18:00,18:00-6:00"), 0);
    assert_int_equal(window_wait(w, MAX, 100, true), 0);
    assert_int_equal(window_wait(w, MAX, 100, false), WINDOW_DAY_MIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_well),
        cmocka_unit_test(refused),
        cmocka_unit_test(waits),
        cmocka_unit_test(all_day),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
