/* slot/disk.c on the simulated disk. */
#include "slot_fake.h"

#include <errno.h>
#include <fcntl.h>

#include "hal/sim/fault.h"
#include "slot/disk.h"

extern const struct disk_ops disk_sim;

#define DISK_LEN (3u << 20)

static char place[64];
static uint8_t data[DISK_LEN + 1];
static struct slot_disk disk;
static struct fake fake;
static struct err e;

static int setup(void **state)
{
    (void)state;
    snprintf(place, sizeof place, "/tmp/slipway-disk-XXXXXX");
    int fd = mkstemp(place);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, DISK_LEN), 0);
    close(fd);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i ^ i >> 9);
    assert_int_equal(slot_disk_begin(&disk, &disk_sim, place, &e), 0);
    assert_int_equal(disk.size, DISK_LEN);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    slot_disk_abort(&disk);
    unlink(place);
    unsetenv("SLIPWAY_SIM_EIO");
    fault_reset();
    return 0;
}

static void write_and_seal(uint64_t len)
{
    if (slot_disk_write(&disk, len, fake_content(&fake, data, len), &e) != 0 ||
        slot_disk_seal(&disk, &e) != 0)
        fail_msg("%s", e.text);
    assert_int_equal(disk.fd, -1);
}

static void test_lengths(void **state)
{
    (void)state;
    static const uint64_t lens[] = {0, 1, 65536, (1u << 20) + 1, DISK_LEN};
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        assert_int_equal(slot_disk_begin(&disk, &disk_sim, place, &e), 0);
        write_and_seal(lens[i]);
        assert_int_equal(slot_disk_verify(&disk, &e), 0);
        assert_int_equal(disk.fd, -1);
    }
}

static void test_only_what_differs(void **state)
{
    (void)state;
    write_and_seal(DISK_LEN);
    data[5] ^= 1;
    data[2000000] ^= 1;
    assert_int_equal(slot_disk_begin(&disk, &disk_sim, place, &e), 0);
    write_and_seal(DISK_LEN);
    assert_int_equal(disk.bytes.written, 2 * 4096);
    assert_int_equal(disk.bytes.kept, DISK_LEN - 2 * 4096);
    assert_int_equal(slot_disk_verify(&disk, &e), 0);
}

static void test_too_big(void **state)
{
    (void)state;
    assert_int_equal(slot_disk_write(&disk, DISK_LEN + 1, fake_content(&fake, data, DISK_LEN + 1), &e),
                     ERR_SPACE);
    assert_non_null(strstr(e.text, "need 3145729 bytes, have 3145728"));
    assert_int_equal(fake.at, 0);
}

static void test_flip_is_seen(void **state)
{
    (void)state;
    write_and_seal(100000);
    int fd = open(place, O_RDWR);
    uint8_t b = data[99999] ^ 1;
    assert_int_equal(pwrite(fd, &b, 1, 99999), 1);
    assert_int_equal(slot_disk_verify(&disk, &e), ERR_FLASH);
    assert_int_equal(pwrite(fd, &data[99999], 1, 99999), 1);
    assert_int_equal(pwrite(fd, &b, 1, 100000), 1); /* behind the image: nobody's business */
    assert_int_equal(slot_disk_verify(&disk, &e), 0);
    assert_int_equal(ftruncate(fd, 99999), 0);
    assert_int_equal(slot_disk_verify(&disk, &e), ERR_FLASH);
    close(fd);
}

static void test_faults(void **state)
{
    (void)state;
    for (int i = 1; i <= 3; i++) {
        char n[16];
        snprintf(n, sizeof n, "%d", i);
        slot_disk_abort(&disk);
        setenv("SLIPWAY_SIM_EIO", n, 1);
        fault_reset();
        int rc = slot_disk_begin(&disk, &disk_sim, place, &e);
        if (rc == 0)
            rc = slot_disk_write(&disk, 10, fake_content(&fake, data, 10), &e);
        if (rc == 0)
            rc = slot_disk_seal(&disk, &e);
        if (rc == 0)
            rc = slot_disk_verify(&disk, &e);
        assert_int_equal(rc, -EIO);
        assert_non_null(strstr(e.text, place));
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_lengths), T(test_too_big), T(test_only_what_differs),
                                       T(test_flip_is_seen), T(test_faults)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
