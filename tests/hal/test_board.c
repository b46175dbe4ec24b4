/* Clock, identity, serial and watchdog: what the core expects of them, and drivers that break it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "hal/conform.h"
#include "hal/linux/linux.h"
#include "hal/sim/sim.h"

static char dir[] = "/tmp/test_board.XXXXXX";

const char *conform_clock(const struct clock_ops *ops)
{
    const struct timespec nap = {0, 30 * 1000000L};
    uint64_t start = ops->boot_ms();
    uint64_t before = start;
    int64_t wall = ops->wall_s();

    for (int i = 0; i < 1000; i++) {
        uint64_t now = ops->boot_ms();

        if (now < before)
            return "boot_ms goes back";
        before = now;
    }
    nanosleep(&nap, NULL);
    if (ops->boot_ms() - start < 30)
        return "boot_ms counts slower than milliseconds";
    if (ops->boot_ms() - start > 20000)
        return "boot_ms counts faster than milliseconds";
    if (wall < 0 || ops->wall_s() < wall)
        return "wall_s goes back";
    return NULL;
}

static uint64_t bad_stopped(void)
{
    return 12345;
}

static uint64_t bad_seconds(void)
{
    return clock_linux.boot_ms() / 1000;
}

static uint64_t bad_microseconds(void)
{
    return clock_linux.boot_ms() * 1000;
}

static uint64_t bad_backwards(void)
{
    return UINT64_MAX / 2 - clock_linux.boot_ms() * 1000 * (uint64_t)(rand() % 3 + 1);
}

static void test_clock(void **state)
{
    static uint64_t (*const bad[])(void) = {bad_stopped, bad_seconds, bad_microseconds, bad_backwards};
    const char *wrong = conform_clock(&clock_linux);

    (void)state;
    if (wrong != NULL)
        fail_msg("clock_linux: %s", wrong);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct clock_ops ops = {bad[i], clock_linux.wall_s};

        if (conform_clock(&ops) == NULL)
            fail_msg("broken clock %zu passes", i);
    }
}

const char *conform_identity(const struct identity_ops *ops)
{
    char id[128], again[128], small[8];
    struct err e = {0};

    memset(id, '#', sizeof(id));
    if (ops->device_id(id, sizeof(id), &e) != 0)
        return "no device id";
    if (memchr(id, 0, sizeof(id)) == NULL || strlen(id) < 8)
        return "shorter than 8 characters";
    for (const char *c = id; *c != 0; c++)
        if (*c <= ' ' || *c > '~')
            return "not printable, or with spaces";
    if (ops->device_id(again, sizeof(again), &e) != 0 || strcmp(id, again) != 0)
        return "not the same the second time";
    memset(small, '#', sizeof(small));
    if (ops->device_id(small, sizeof(small) - 1, &e) >= 0 || small[7] != '#')
        return "does not heed the size of the buffer";
    return NULL;
}

static int bad_short(char *out, size_t cap, struct err *e)
{
    (void)e;
    snprintf(out, cap, "board");
    return 0;
}

static int bad_spaces(char *out, size_t cap, struct err *e)
{
    if (cap < 16)
        return err_set(e, ERR_LIMIT, "small");
    snprintf(out, cap, "board number 1");
    return 0;
}

static int bad_unstable(char *out, size_t cap, struct err *e)
{
    static int calls;

    if (cap < 16)
        return err_set(e, ERR_LIMIT, "small");
    snprintf(out, cap, "board-%06d", calls++);
    return 0;
}

static int bad_cut(char *out, size_t cap, struct err *e)
{
    (void)e;
    snprintf(out, cap, "board-000001");
    return 0;
}

static void test_identity(void **state)
{
    static int (*const bad[])(char *, size_t, struct err *) = {bad_short, bad_spaces, bad_unstable, bad_cut};
    const char *wrong = conform_identity(&identity_sim);
    char id[128];
    struct err e;

    (void)state;
    if (wrong != NULL)
        fail_msg("identity_sim: %s", wrong);
    /* A container has no serial number, and not always a card or a machine-id. */
    if (identity_linux.device_id(id, sizeof(id), &e) == 0) {
        wrong = conform_identity(&identity_linux);
        if (wrong != NULL)
            fail_msg("identity_linux: %s", wrong);
    } else {
        assert_int_equal(e.code, ERR_ABSENT);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct identity_ops ops = {bad[i]};

        if (conform_identity(&ops) == NULL)
            fail_msg("broken identity %zu passes", i);
    }
}

/* Every byte passes a raw line as it is, both ways, and reading never waits. */
static void test_serial(void **state)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    uint8_t out[256], in[256];
    struct err e = {0};
    int fd;

    (void)state;
    assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    assert_int_equal(serial_linux.open(ptsname(master), 115200, &fd, &e), 0);
    assert_int_equal(read(fd, in, 1), -1);
    assert_int_equal(errno, EAGAIN);
    for (int i = 0; i < 256; i++)
        out[i] = (uint8_t)i;
    assert_int_equal(io_write_full(master, out, sizeof(out)), 0);
    assert_int_equal(io_read_full(fd, in, sizeof(in)), sizeof(in));
    assert_memory_equal(in, out, sizeof(in));
    assert_int_equal(io_write_full(fd, out, sizeof(out)), 0);
    assert_int_equal(io_read_full(master, in, sizeof(in)), sizeof(in));
    assert_memory_equal(in, out, sizeof(in));
    close(fd);

    assert_int_equal(serial_linux.open(ptsname(master), 12345, &fd, &e), ERR_UNSUPPORTED);
    assert_int_equal(serial_linux.open("/dev/null", 115200, &fd, &e), -ENOTTY);
    assert_int_equal(serial_linux.open("/dev/nowhere", 115200, &fd, &e), -ENOENT);
    close(master);
}

static void test_watchdog_sim(void **state)
{
    uint32_t timeout_s = 30;
    char path[128], text[16];
    struct err e;
    int fd;

    (void)state;
    assert_int_equal(watchdog_sim.start(&fd, &timeout_s, &e), 0);
    for (int i = 0; i < 11; i++)
        assert_int_equal(watchdog_sim.feed(fd, &e), 0);
    close(fd);
    assert_int_equal(sim_path("watchdog", path, sizeof(path), &e), 0);
    assert_true(io_read_file(path, text, sizeof(text)) > 0);
    assert_string_equal(text, "11\n");
    unlink(path);
}

static void test_app_root(void **state)
{
    char out[64], want[64];
    struct err e;

    (void)state;
    assert_int_equal(linux_app_root(SLOT_B, out, sizeof(out), &e), 0);
    assert_string_equal(out, "/");
    assert_int_equal(sim_app_root(SLOT_B, out, sizeof(out), &e), 0);
    snprintf(want, sizeof(want), "%s/slot-b", dir);
    assert_string_equal(out, want);
    assert_int_equal(sim_app_root(SLOT_B, out, 5, &e), ERR_LIMIT);
    unsetenv("SLIPWAY_SIM_DIR");
    assert_int_equal(sim_app_root(SLOT_B, out, sizeof(out), &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "SLIPWAY_SIM_DIR is not set"));
    setenv("SLIPWAY_SIM_DIR", dir, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clock),        cmocka_unit_test(test_identity), cmocka_unit_test(test_serial),
        cmocka_unit_test(test_watchdog_sim), cmocka_unit_test(test_app_root),
    };
    int failed;

    if (mkdtemp(dir) == NULL || setenv("SLIPWAY_SIM_DIR", dir, 1) < 0)
        return 1;
    failed = cmocka_run_group_tests_name("board", tests, NULL, NULL);
    rmdir(dir);
    return failed;
}
