/* What /sys says of an eMMC and of UBI, and what it does not: a made-up /sys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "hal/linux/linux.h"

static char dir[] = "/tmp/test_wear.XXXXXX";
static struct wear wear;
static struct err err;

/* `path` below /sys, and its folders. */
static void put(const char *path, const char *text)
{
    char whole[512];
    FILE *file;

    snprintf(whole, sizeof whole, "%s/%s", dir, path);
    for (char *at = whole + strlen(dir) + 1; (at = strchr(at, '/')); at++) {
        *at = '\0';
        (void)mkdir(whole, 0755);
        *at = '/';
    }
    file = fopen(whole, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int setup(void **state)
{
    char from[512], to[512];

    (void)state;
    assert_non_null(mkdtemp(dir));
    put("devices/mmc/block/mmcblk0/mmcblk0p3/partition", "3\n");
    put("devices/mmc/block/mmcblk0/device/life_time", "0x02 0x01\n");
    put("devices/mmc/block/mmcblk0/device/pre_eol_info", "0x01\n");
    put("devices/mmc/block/mmcblk1/size", "1\n");
    put("class/block/.keep", "");
    put("class/ubi/ubi0/max_ec", "1234\n");
    for (int i = 0; i < 3; i++) {
        static const char *const names[] = {"mmcblk0", "mmcblk0/mmcblk0p3", "mmcblk1"};
        const char *slash = strrchr(names[i], '/');

        snprintf(from, sizeof from, "../../devices/mmc/block/%s", names[i]);
        snprintf(to, sizeof to, "%s/class/block/%s", dir, slash ? slash + 1 : names[i]);
        assert_int_equal(symlink(from, to), 0);
    }
    return 0;
}

static int teardown(void **state)
{
    char command[64];

    (void)state;
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command);
}

static void emmc(void **state)
{
    static const char *const places[] = {"/dev/mmcblk0", "/dev/mmcblk0p3"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(wear_linux_read(dir, places[i], &wear, &err), 0);
        assert_int_equal(wear.kind, WEAR_EMMC);
        assert_int_equal(wear.used_percent[0], 20);
        assert_int_equal(wear.used_percent[1], 10);
        assert_int_equal(wear.spare, WEAR_SPARE_NORMAL);
    }
}

static void emmc_old_or_odd(void **state)
{
    (void)state;
    put("devices/mmc/block/mmcblk0/device/life_time", "0x0b 0x00\n");
    put("devices/mmc/block/mmcblk0/device/pre_eol_info", "0x03\n");
    assert_int_equal(wear_linux_read(dir, "/dev/mmcblk0p3", &wear, &err), 0);
    assert_int_equal(wear.used_percent[0], 110);
    assert_int_equal(wear.used_percent[1], 0);
    assert_int_equal(wear.spare, WEAR_SPARE_GONE);
    put("devices/mmc/block/mmcblk0/device/life_time", "rubbish");
    put("devices/mmc/block/mmcblk0/device/pre_eol_info", "0xff");
    assert_int_equal(wear_linux_read(dir, "/dev/mmcblk0p3", &wear, &err), 0);
    assert_int_equal(wear.used_percent[0] + wear.used_percent[1] + wear.spare, 0);
}

static void ubi(void **state)
{
    (void)state;
    assert_int_equal(wear_linux_read(dir, "/dev/ubi0_1", &wear, &err), 0);
    assert_int_equal(wear.kind, WEAR_UBI);
    assert_int_equal(wear.erased_max, 1234);
}

static void silent(void **state)
{
    (void)state;
    assert_int_equal(wear_linux_read(dir, "/dev/mmcblk1", &wear, &err), ERR_UNSUPPORTED);
    assert_int_equal(wear_linux_read(dir, "/dev/vda3", &wear, &err), ERR_UNSUPPORTED);
    assert_int_equal(wear_linux_read(dir, "/dev/ubi1_1", &wear, &err), ERR_UNSUPPORTED);
    assert_int_equal(wear.kind, WEAR_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(emmc),
        cmocka_unit_test(emmc_old_or_odd),
        cmocka_unit_test(ubi),
        cmocka_unit_test(silent),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
