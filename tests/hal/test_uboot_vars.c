/* The boot record in other projects' words, and what U-Boot does to it meanwhile. tests/cuts has U-Boot's part in full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hal/linux/uboot_vars.h"

static const struct uboot_env_place place = {.size = 0x1000};
static const struct uboot_vars mender = {UBOOT_MENDER, "mender_boot_part", {"2", "3"}};
static const struct uboot_vars swupdate = {UBOOT_SWUPDATE, "rootpart", {"2", "3"}};
static struct uboot_env env;
static struct err e;

static int setup(void **state)
{
    (void)state;
    return uboot_env_empty(&place, &env, &e);
}

static void put(const char *name, const char *value)
{
    assert_int_equal(uboot_env_set(&env, name, value, &e), 0);
}

static void has(const char *name, const char *value)
{
    const char *got = uboot_env_get(&env, name);

    if (got == NULL || strcmp(got, value) != 0)
        fail_msg("%s is %s, want %s", name, got == NULL ? "absent" : got, value);
}

static void store(const struct uboot_vars *v, enum slot_id first, uint8_t a, uint8_t b)
{
    if (uboot_vars_set(v, &env, &(struct bootrec){first, {a, b}}, &e) < 0)
        fail_msg("%s", e.text);
}

static void expect(const struct uboot_vars *v, enum slot_id first, uint8_t a, uint8_t b)
{
    struct bootrec r;

    if (uboot_vars_get(v, &env, &r, &e) < 0)
        fail_msg("%s", e.text);
    if (r.first != first || r.left[SLOT_A] != a || r.left[SLOT_B] != b)
        fail_msg("first %c, tries %d and %d", 'A' + (int)r.first, r.left[SLOT_A], r.left[SLOT_B]);
}

/* As that agent leaves it: committed, with a count that nobody reads any more. */
static void test_mender_found(void **state)
{
    (void)state;
    put("mender_boot_part", "3");
    put("mender_boot_part_hex", "3");
    put("upgrade_available", "0");
    put("bootcount", "1");
    put("bootlimit", "1");
    expect(&mender, SLOT_B, 0, 1);
    put("upgrade_available", "1");
    put("bootcount", "0");
    expect(&mender, SLOT_B, 1, 1);
    put("bootcount", "1");
    expect(&mender, SLOT_B, 1, 0);
}

static void test_mender_trial(void **state)
{
    (void)state;
    store(&mender, SLOT_B, 3, 3);
    has("mender_boot_part", "3");
    has("mender_boot_part_hex", "3");
    has("upgrade_available", "1");
    has("bootlimit", "3");
    has("bootcount", "0");
    put("bootcount", "2"); /* U-Boot, twice */
    expect(&mender, SLOT_B, 3, 1);
    put("mender_boot_part", "2"); /* altbootcmd */
    put("mender_boot_part_hex", "2");
    put("upgrade_available", "0");
    put("bootcount", "4");
    expect(&mender, SLOT_B, 3, 0);
    store(&mender, SLOT_A, 3, 0);
    expect(&mender, SLOT_A, 3, 0);
    has("mender_boot_part", "2");
    has("upgrade_available", "0");
}

/* Named as after a fall-back, but first: what runs, before another slot was armed. */
static void test_never_armed(void **state)
{
    (void)state;
    store(&mender, SLOT_A, 3, 0);
    expect(&mender, SLOT_A, 3, 0);
    store(&mender, SLOT_A, 3, 3);
    expect(&mender, SLOT_A, 3, 3);
    has("upgrade_available", "1");
}

static void test_swupdate(void **state)
{
    (void)state;
    put("rootpart", "2");
    put("ustate", "0");
    expect(&swupdate, SLOT_A, 3, 0);
    store(&swupdate, SLOT_B, 2, 2);
    has("rootpart", "3");
    has("ustate", "1");
    has("upgrade_available", "1");
    assert_null(uboot_env_get(&env, "mender_boot_part_hex"));
    /* an altbootcmd that goes on counting */
    put("rootpart", "2");
    put("ustate", "3");
    put("bootcount", "0");
    expect(&swupdate, SLOT_B, 2, 0);
    store(&swupdate, SLOT_A, 2, 0);
    has("ustate", "0");
    has("upgrade_available", "0");
}

static void test_hex(void **state)
{
    const struct uboot_vars far = {UBOOT_MENDER, "mender_boot_part", {"9", "12"}};

    (void)state;
    store(&far, SLOT_B, 1, 1);
    has("mender_boot_part", "12");
    has("mender_boot_part_hex", "c");
}

static void test_refused(void **state)
{
    struct bootrec r;

    (void)state;
    assert_int_equal(uboot_vars_get(&mender, &env, &r, &e), ERR_BOOT);
    put("mender_boot_part", "4");
    assert_int_equal(uboot_vars_get(&mender, &env, &r, &e), ERR_BOOT);
    assert_non_null(strstr(e.text, "mender_boot_part is \"4\", want \"2\" or \"3\""));
    assert_int_equal(uboot_vars_set(&mender, &env, &(struct bootrec){SLOT_A, {0, 0}}, &e), ERR_BOOT);
    assert_int_equal(uboot_vars_set(&mender, &env, &(struct bootrec){SLOT_A, {10, 0}}, &e), ERR_BOOT);
}

static void test_booted(void **state)
{
    const struct uboot_vars letters = {UBOOT_SWUPDATE, "slot", {"a", "b"}};
    const struct {
        const struct uboot_vars *v;
        const char *line;
        int slot; /* -1: refused */
    } cases[] = {
        {&uboot_vars_rauc, "quiet slipway.slot=A\n", SLOT_A},
        {&uboot_vars_rauc, "root=/dev/mmcblk0p2 rauc.slot=B quiet\n", SLOT_B},
        {&uboot_vars_rauc, "root=/dev/mmcblk0p2 quiet\n", -1},
        {&mender, "root=/dev/mmcblk0p2 rootwait\n", SLOT_A},
        {&mender, "root=/dev/mmcblk0p3 slipway.slot=A\n", SLOT_A},
        {&mender, "root=/dev/sda3 rootwait", SLOT_B},
        {&mender, "root=PARTUUID=5110a000-02", SLOT_A},
        {&mender, "root=/dev/mmcblk0p12", -1},
        {&mender, "root=/dev/nfs", -1},
        {&mender, "rauc.slot=C root=/dev/mmcblk0p2", -1},
        {&letters, "root=/dev/mmcblk0p2", -1},
        {&letters, "root=/dev/mmcblk0p2 rauc.slot=A", SLOT_A},
        {&mender, "", -1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enum slot_id slot = SLOT_CNT;
        char line[64];
        int rc;

        snprintf(line, sizeof(line), "%s", cases[i].line);
        rc = uboot_vars_booted(cases[i].v, line, &slot, &e);
        if (rc != (cases[i].slot < 0 ? ERR_BOOT : 0) || (rc == 0 && (int)slot != cases[i].slot))
            fail_msg("%s: %d, slot %d", cases[i].line, rc, (int)slot);
    }
}

#define T(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_mender_found), T(test_mender_trial), T(test_never_armed), T(test_swupdate),
        T(test_hex),          T(test_refused),      T(test_booted),
    };

    return cmocka_run_group_tests_name("uboot_vars", tests, NULL, NULL);
}
