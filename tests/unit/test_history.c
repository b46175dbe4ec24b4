/* The history over the real store driver: newest events, numbers that go on, a lost copy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hal/board.h"
#include "update/history.h"

static char dir[] = "/tmp/test_history_XXXXXX";
static struct history h;
static struct event out[HISTORY_MAX];

static void reopen(void)
{
    memset(&h, 0xee, sizeof h);
    history_open(&h, board.store, dir);
}

static void add(int64_t number)
{
    struct event event = {.when_s = number, .slot = 'A'};

    snprintf(event.what, sizeof event.what, "installed");
    history_add(&h, &event);
}

/* All events from `from` on are numbers first..end-1, read `max` at a time. */
static void expect(uint32_t from, uint32_t first, uint32_t end, size_t max)
{
    size_t n;

    while ((n = history_read(&h, &from, out, max)) > 0) {
        assert_int_equal(from, first);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(out[i].when_s, first++);
        from += (uint32_t)n;
    }
    assert_int_equal(first, end);
}

static void test_ring(void **state)
{
    (void)state;
    reopen();
    expect(0, 0, 0, 5);
    for (uint32_t i = 0; i < 3 * HISTORY_MAX; i++) {
        uint32_t first = i + 1 > HISTORY_MAX ? i + 1 - HISTORY_MAX : 0;

        add(i);
        if (i % 7 == 0)
            reopen();
        expect(0, first, i + 1, 1 + i % HISTORY_MAX);
        expect(i, i, i + 1, HISTORY_MAX);
        expect(i + 1, i + 1, i + 1, HISTORY_MAX);
        expect(UINT32_MAX, i + 1, i + 1, HISTORY_MAX);
    }
}

static void test_one_copy_lost(void **state)
{
    char path[64];

    (void)state;
    for (int copy = 0; copy < 2; copy++) {
        reopen();
        add(1000);
        add(1001);
        snprintf(path, sizeof path, "%s/history.%d", dir, copy);
        assert_int_equal(truncate(path, 100), 0);
        reopen();
        assert_true(h.kept.cnt >= 97);
        assert_true(h.kept.ring[(h.kept.cnt - 1) % HISTORY_MAX].when_s >= 1000);
    }
}

static int clean(void **state)
{
    char path[64];

    (void)state;
    for (int copy = 0; copy < 2; copy++) {
        snprintf(path, sizeof path, "%s/history.%d", dir, copy);
        unlink(path);
    }
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ring),
        cmocka_unit_test(test_one_copy_lost),
    };

    if (!mkdtemp(dir))
        return 1;
    return cmocka_run_group_tests_name("history", tests, NULL, clean);
}
