/* The ring of the app's output. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>

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

static const char *text(void)
{
    uint64_t at;

    out[app_log_read(&ring_log, 0, out, sizeof out - 1, &at)] = '\0';
    return out;
}

static void lines_bear_their_time(void **state)
{
    static char many[9000];
    const char *at;

    (void)state;
    memset(&ring_log, 0, sizeof ring_log);
    app_log_stamp(&ring_log, 1795438276123, "one\ntw", 6);
    app_log_stamp(&ring_log, 1795438276124, "o\n", 2);
    app_log_stamp(&ring_log, 1795438276125, "\n", 1);
    assert_string_equal(text(), "2026-11-23T12:51:16.123Z one\n2026-11-23T12:51:16.123Z two\n"
                                "2026-11-23T12:51:16.125Z \n");
    memset(&ring_log, 0, sizeof ring_log);
    memset(many, 'x', sizeof many);
    for (size_t i = 0; i < sizeof many; i += 90)
        many[i] = '\n';
    app_log_stamp(&ring_log, 0, many, sizeof many);
    assert_int_equal(ring_log.end, sizeof many + 101 * 25); /* the first line is empty, the last one open */
    at = text();
    for (int i = 0; i < 101; i++, at = strchr(at, '\n') + 1)
        assert_memory_equal(at, "1970-01-01T00:00:00.000Z ", 25);
}

static void lines_are_found_by_their_time(void **state)
{
    const int64_t ms = 1795438276123;
    uint64_t first;

    (void)state;
    memset(&ring_log, 0, sizeof ring_log);
    assert_int_equal(app_log_find(&ring_log, 0), 0);
    app_log_stamp(&ring_log, 0, "before the clock was set\n", 25);
    first = ring_log.end;
    app_log_stamp(&ring_log, ms, "one\n", 4);
    app_log_stamp(&ring_log, ms + 5000, "two\nopen", 8);
    assert_int_equal(app_log_find(&ring_log, 0), 0);
    assert_int_equal(app_log_find(&ring_log, 1), first);
    assert_int_equal(app_log_find(&ring_log, ms), first);
    assert_int_equal(app_log_find(&ring_log, ms + 1), first + 29);
    assert_int_equal(app_log_find(&ring_log, ms + 5000), first + 29);
    assert_int_equal(app_log_find(&ring_log, ms + 5001), ring_log.end);
    for (int i = 0; i < 40; i++) { /* until the first line of the ring is a piece of one */
        app_log_append(&ring_log, pattern, sizeof ring_log.ring / 20 - 1);
        app_log_append(&ring_log, "\n", 1);
    }
    first = ring_log.end;
    app_log_stamp(&ring_log, ms + 9000, "last\n", 5);
    assert_int_equal(app_log_find(&ring_log, ms + 6000), first);
}

static void the_file_outlives_the_agent(void **state)
{
    char path[] = "/tmp/test_sup_log.XXXXXX";
    int fd = mkstemp(path);

    (void)state;
    close(fd);
    memset(&ring_log, 0, sizeof ring_log);
    app_log_open(&ring_log, path); /* empty: begun anew */
    for (size_t i = 0; i < 3; i++)
        app_log_append(&ring_log, pattern, sizeof ring_log.ring / 2);
    app_log_append(&ring_log, "half", 4);
    memcpy(pattern, text(), sizeof ring_log.ring);
    close(ring_log.fd);
    memset(&ring_log, 0, sizeof ring_log);
    app_log_open(&ring_log, path);
    assert_int_equal(ring_log.end, sizeof ring_log.ring / 2 * 3 + 4);
    assert_true(ring_log.line_open);
    text();
    assert_memory_equal(out, pattern, sizeof ring_log.ring);
    close(ring_log.fd);

    assert_int_equal(truncate(path, 1000), 0); /* the known-bad: cut short */
    memset(&ring_log, 0, sizeof ring_log);
    app_log_open(&ring_log, path);
    assert_int_equal(ring_log.end, 0);
    assert_string_equal(text(), "");
    close(ring_log.fd);
    unlink(path);
    memset(&ring_log, 0, sizeof ring_log);
    app_log_open(&ring_log, "/no/such/place");
    app_log_append(&ring_log, "on", 2);
    assert_string_equal(text(), "on");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_ring_gives_nothing),      cmocka_unit_test(reader_goes_on_where_it_was),
        cmocka_unit_test(oldest_bytes_make_room),        cmocka_unit_test(lines_bear_their_time),
        cmocka_unit_test(lines_are_found_by_their_time), cmocka_unit_test(the_file_outlives_the_agent),
    };

    return cmocka_run_group_tests_name("sup_log", tests, NULL, NULL);
}
