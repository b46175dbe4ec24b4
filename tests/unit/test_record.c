/* Records: whatever a cut or a worn cell does to one copy, the other one is found and the bad one is mended. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "update/record.h"

#define LEN 40
#define IMAGE (20 + LEN)

static struct {
    uint8_t bytes[2][256];
    size_t len[2];
    int write_cnt;
    int fail_at;    /* this write fails, having stored only half; 0: none */
    int read_error; /* of this copy; -1: none */
} medium;

static ssize_t fake_read(const char *dir, const char *name, int copy, void *buf, size_t cap, struct err *e)
{
    (void)dir, (void)name;
    if (copy == medium.read_error)
        return err_set(e, -EIO, "copy %d: cell is worn", copy);
    assert_true(medium.len[copy] <= cap);
    memcpy(buf, medium.bytes[copy], medium.len[copy]);
    return (ssize_t)medium.len[copy];
}

static int fake_write(const char *dir, const char *name, int copy, const void *buf, size_t len, struct err *e)
{
    (void)dir, (void)name;
    assert_true(len <= sizeof(medium.bytes[0]));
    if (++medium.write_cnt == medium.fail_at) {
        memcpy(medium.bytes[copy], buf, len / 2);
        return err_set(e, -EIO, "power is gone");
    }
    memcpy(medium.bytes[copy], buf, len);
    medium.len[copy] = len;
    return 0;
}

static const struct store_ops fake = {fake_read, fake_write};
static struct record r;
static uint8_t payload[LEN];
static struct err e;

static struct record fresh(void)
{
    return (struct record){
        .store = &fake, .dir = "/d", .name = "job", .magic = 0x4a4f4231, .version = 2, .len = LEN};
}

static int load_op(void)
{
    return record_load(&r, payload, &e);
}

static int save_op(void)
{
    return record_save(&r, payload, &e);
}

/* What it logs about bad copies is not for the test's output. */
static int quietly(int (*op)(void))
{
    int log = dup(STDERR_FILENO);
    int null = open("/dev/null", O_WRONLY);
    int rc;

    dup2(null, STDERR_FILENO);
    rc = op();
    dup2(log, STDERR_FILENO);
    close(null);
    close(log);
    return rc;
}

/* As after a restart. */
static int reload(void)
{
    r = fresh();
    memset(payload, 0xee, sizeof(payload));
    memset(&e, 0, sizeof(e));
    return quietly(load_op);
}

static void save(uint8_t fill)
{
    memset(payload, fill, sizeof(payload));
    assert_int_equal(record_save(&r, payload, &e), 0);
}

static void expect(uint8_t fill)
{
    for (size_t i = 0; i < LEN; i++)
        assert_int_equal(payload[i], fill);
}

static int setup(void **state)
{
    (void)state;
    memset(&medium, 0, sizeof(medium));
    medium.read_error = -1;
    return 0;
}

static void test_none(void **state)
{
    (void)state;
    assert_int_equal(reload(), 0);
    assert_int_equal(r.newest, -1);
    expect(0);
}

static void test_first_save_writes_both(void **state)
{
    (void)state;
    assert_int_equal(reload(), 0);
    save(7);
    assert_int_equal(reload(), 1);
    assert_int_equal(r.copies_good, 2);
    expect(7);
}

/* After each save either copy alone has it. */
static void test_saves_write_both(void **state)
{
    (void)state;
    reload();
    for (int i = 1; i < 20; i++) {
        save((uint8_t)i);
        assert_memory_equal(medium.bytes[0], medium.bytes[1], IMAGE);
        assert_int_equal(reload(), 1);
        assert_int_equal(r.copies_good, 2);
        expect((uint8_t)i);
    }
}

static void two_saves(void)
{
    setup(NULL);
    reload();
    save(1);
    save(2);
    save(3);
}

/* Cut short or with one bit flipped, wherever it is. */
static void damage_each(int copy)
{
    for (int at = 0; at < IMAGE; at++) {
        for (int flip = 0; flip < 2; flip++) {
            two_saves();
            if (flip)
                medium.bytes[copy][at] ^= 0x10;
            else
                medium.len[copy] = (size_t)at;
            if (reload() != 1 || r.copies_good != 1)
                fail_msg("copy %d, byte %d, flip %d: %s", copy, at, flip, e.text);
            expect(3);
            assert_int_equal(reload(), 1); /* mended */
            assert_int_equal(r.copies_good, 2);
            expect(3);
        }
    }
}

static void test_damaged(void **state)
{
    (void)state;
    damage_each(0);
    damage_each(1);
}

static void test_too_long(void **state)
{
    (void)state;
    two_saves();
    medium.len[r.newest]++;
    assert_int_equal(reload(), 1);
    assert_int_equal(r.copies_good, 1);
    expect(3);
}

static void test_read_error(void **state)
{
    (void)state;
    two_saves();
    medium.read_error = r.newest;
    assert_int_equal(reload(), 1);
    expect(3);
}

static void test_write_cut(void **state)
{
    (void)state;
    two_saves();
    medium.fail_at = medium.write_cnt + 1;
    memset(payload, 9, sizeof(payload));
    assert_int_equal(record_save(&r, payload, &e), -EIO);
    assert_string_equal(e.text, "record job: power is gone");
    assert_int_equal(reload(), 1);
    expect(3);
}

/* Between the two copies: the new one counts, and the other one is brought up to it. */
static void test_second_write_cut(void **state)
{
    (void)state;
    two_saves();
    medium.fail_at = medium.write_cnt + 2;
    memset(payload, 9, sizeof(payload));
    assert_int_equal(quietly(save_op), 0);
    assert_int_equal(reload(), 1);
    expect(9);
    assert_int_equal(reload(), 1);
    assert_int_equal(r.copies_good, 2);
    medium.len[r.newest] = 0;
    assert_int_equal(reload(), 1);
    expect(9);
}

/* The very first save is cut: there is no record yet. */
static void test_first_write_cut(void **state)
{
    (void)state;
    reload();
    medium.fail_at = 1;
    assert_int_equal(record_save(&r, payload, &e), -EIO);
    medium.len[0] = IMAGE / 2;
    assert_int_equal(reload(), 0);
    save(4);
    assert_int_equal(reload(), 1);
    assert_int_equal(r.copies_good, 2);
}

/* The repair itself is cut: still one good copy, no error. */
static void test_repair_cut(void **state)
{
    (void)state;
    two_saves();
    medium.len[r.newest] = 5;
    medium.fail_at = medium.write_cnt + 1;
    assert_int_equal(reload(), 1);
    expect(3);
    assert_int_equal(reload(), 1);
    expect(3);
}

static void test_none_good(void **state)
{
    (void)state;
    two_saves();
    medium.bytes[0][30] ^= 1;
    medium.len[1] = 3;
    assert_int_equal(reload(), ERR_FORMAT);
    assert_string_equal(e.text, "record job: copy 0: wrong CRC; copy 1: not a job record");
    expect(0);
    save(8); /* and life goes on */
    assert_int_equal(reload(), 1);
    assert_int_equal(r.copies_good, 2);
    expect(8);
}

static void test_other_version(void **state)
{
    (void)state;
    two_saves();
    r = fresh();
    r.version = 3;
    assert_int_equal(record_load(&r, payload, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "version 2, this agent knows 3"));
}

/* Written by an agent that knows one field less, read and written by one that knows it, and read by the first again. */
static void test_payload_grows(void **state)
{
    static uint8_t longer[LEN + 8];

    (void)state;
    two_saves();
    r = fresh();
    r.len = sizeof(longer);
    memset(longer, 0xee, sizeof(longer));
    assert_int_equal(record_load(&r, longer, &e), 1);
    assert_int_equal(r.copies_good, 2);
    assert_int_equal(longer[LEN - 1], 3);
    for (size_t i = LEN; i < sizeof(longer); i++)
        assert_int_equal(longer[i], 0);
    memset(longer, 4, sizeof(longer));
    assert_int_equal(record_save(&r, longer, &e), 0);
    assert_int_equal(reload(), 1);
    assert_int_equal(r.copies_good, 2);
    expect(4);
}

static void test_sequence_wraps(void **state)
{
    (void)state;
    two_saves();
    r.sequence = UINT32_MAX - 2;
    for (uint8_t i = 4; i < 9; i++) {
        save(i);
        save(i); /* both copies are near the wrap */
        assert_int_equal(record_save(&r, memset(payload, i + 100, LEN), &e), 0);
        assert_int_equal(reload(), 1);
        expect((uint8_t)(i + 100));
    }
    assert_true(r.sequence < 20);
}

/* Bytes of the format, so that it does not change unawares. */
static void test_bytes(void **state)
{
    static const uint8_t head[16] = {0x31, 0x42, 0x4f, 0x4a, 2, 0, 0, 0, LEN, 0, 0, 0, 1, 0, 0, 0};

    (void)state;
    reload();
    save(0);
    assert_memory_equal(medium.bytes[0], head, sizeof(head));
    assert_int_equal(medium.len[0], IMAGE);
}

#define T(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_none),
        T(test_first_save_writes_both),
        T(test_saves_write_both),
        T(test_damaged),
        T(test_too_long),
        T(test_read_error),
        T(test_write_cut),
        T(test_second_write_cut),
        T(test_first_write_cut),
        T(test_repair_cut),
        T(test_none_good),
        T(test_other_version),
        T(test_payload_grows),
        T(test_sequence_wraps),
        T(test_bytes),
    };

    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
