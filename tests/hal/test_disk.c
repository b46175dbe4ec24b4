/* Conformance of the disk port, on the simulated disk, or on the device that SLIPWAY_TEST_DISK names (its content is
 * lost). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "hal/disk.h"

extern const struct disk_ops disk_sim, disk_linux;

static const struct disk_ops *ops = &disk_sim;
static const char *place;
static struct err e;

static void test_round_trip(void **state)
{
    (void)state;
    static uint8_t in[8192], out[8192];
    uint64_t size = 0;
    int fd = -1;
    memset(in, 0xa5, sizeof in);
    if (ops->open(place, true, &fd, &size, &e) != 0)
        fail_msg("%s", e.text);
    assert_true(size >= sizeof in);
    assert_int_equal(io_pwrite_full(fd, in, sizeof in, (off_t)(size - sizeof in)), 0);
    assert_int_equal(ops->sync(fd, &e), 0);
    assert_int_equal(ops->close(fd, &e), 0);
    uint64_t again = 0;
    assert_int_equal(ops->open(place, false, &fd, &again, &e), 0);
    assert_int_equal(again, size);
    assert_int_equal(io_pread_full(fd, out, sizeof out, (off_t)(size - sizeof out)), sizeof out);
    assert_memory_equal(in, out, sizeof in);
    assert_int_equal(io_pwrite_full(fd, in, 1, 0), -1);
    assert_int_equal(ops->close(fd, &e), 0);
}

static void test_absent(void **state)
{
    (void)state;
    uint64_t size;
    int fd = -1;
    assert_true(ops->open("/dev/no-such-disk", true, &fd, &size, &e) < 0);
    assert_non_null(strstr(e.text, "no-such-disk"));
    assert_int_equal(fd, -1);
    assert_true(ops->open("/dev", true, &fd, &size, &e) < 0);
}

static void test_linux_names(void **state)
{
    (void)state;
    uint64_t size;
    int fd = -1;
    assert_int_equal(disk_linux.open("PARTLABEL=no-such-label-here", true, &fd, &size, &e), ERR_ABSENT);
    assert_int_equal(disk_linux.open("PARTLABEL=", true, &fd, &size, &e), ERR_CONFIG);
    assert_int_equal(disk_linux.open("PARTLABEL=../../x", true, &fd, &size, &e), ERR_CONFIG);
    assert_int_equal(disk_linux.open("slot-b", true, &fd, &size, &e), ERR_CONFIG);
    assert_int_equal(disk_linux.open("/dev/null", true, &fd, &size, &e), ERR_CONFIG);
}

int main(void)
{
    char name[] = "/tmp/slipway-disk-XXXXXX";
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_absent),
                                       cmocka_unit_test(test_linux_names)};
    int fd = mkstemp(name);
    if (fd < 0 || ftruncate(fd, 1 << 20) != 0)
        return 1;
    close(fd);
    place = getenv("SLIPWAY_TEST_DISK");
    ops = place != NULL ? &disk_linux : &disk_sim;
    place = place != NULL ? place : name;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(name);
    return rc;
}
