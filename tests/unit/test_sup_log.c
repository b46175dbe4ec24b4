/* The ring of the app's output. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sup/log.h"

static struct app_log ring_log;
static char out[sizeof ring_log.ring + 100];
static char pattern[3 * sizeof ring_log.ring];

static void empty_ring_gives_nothing(void **state)
{
    uint64_t at = 99;

    (void)state;
    memset(&ring_log, 0, sizeof ring_log);
    assert_int_equal(app_log_read(&ring_log, 0, out, sizeof out, &at), 0);
    assert_int_equal(at, 0);
    assert_int_equal(app_log_read(&ring_log, 500, out, sizeof out, &at), 0);
    assert_int_equal(at, 0);
}

static void reader_goes_on_where_it_was(void **state)
{
    uint64_t at;

    (void)state;
    memset(&ring_log, 0, sizeof ring_log);
    app_log_append(&ring_log, "hello ", 6);
    app_log_append(&ring_log, "world", 5);
    assert_int_equal(app_log_read(&ring_log, 0, out, 8, &at), 8);
    assert_memory_equal(out, "hello wo", 8);
    assert_int_equal(app_log_read(&ring_log, at + 8, out, 8, &at), 3);
    assert_int_equal(at, 8);
    assert_memory_equal(out, "rld", 3);
    assert_int_equal(app_log_read(&ring_log, UINT64_MAX, out, 8, &at), 0);
    assert_int_equal(at, 11);
}

static void oldest_bytes_make_room(void **state)
{
    static const size_t pieces[] = {
        1, 7, 4096, sizeof ring_log.ring - 1, sizeof ring_log.ring, 2 * sizeof ring_log.ring + 5};
    uint64_t at;

    (void)state;
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = (char)(i * 31 + i / 251);
    for (size_t p = 0; p < sizeof pieces / sizeof pieces[0]; p++) {
        memset(&ring_log, 0, sizeof ring_log);
        for (size_t done = 0; done < sizeof pattern;) {
            size_t part = pieces[p] < sizeof pattern - done ? pieces[p] : sizeof pattern - done;

            app_log_append(&ring_log, pattern + done, part);
            done += part;
        }
        assert_int_equal(ring_log.end, sizeof pattern);
        assert_int_equal(app_log_read(&ring_log, 0, out, sizeof out, &at), sizeof ring_log.ring);
        assert_int_equal(at, sizeof pattern - sizeof ring_log.ring);
        assert_memory_equal(out, pattern + at, sizeof ring_log.ring);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_ring_gives_nothing),
        cmocka_unit_test(reader_goes_on_where_it_was),
        cmocka_unit_test(oldest_bytes_make_room),
    };

    return cmocka_run_group_tests_name("sup_log", tests, NULL, NULL);
}
