/* The boot record port on the simulated device, the boot loader's model, and drivers that break the contract. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "hal/conform.h"
#include "hal/linux/linux.h"
#include "hal/linux/uboot_vars.h"
#include "hal/sim/fault.h"
#include "hal/sim/sim.h"

static char dir[] = "/tmp/test_bootrec.XXXXXX";

/* The boot environment of a new device, and this process as it is before it asked for its slot. */
static int setup(void **state)
{
    struct err e;

    (void)state;
    unsetenv("SLIPWAY_SIM_SLOT");
    unsetenv("SLIPWAY_SIM_CUT");
    fault_reset();
    return sim_bootenv_make(&e);
}

static void test_sim_conforms(void **state)
{
    const char *wrong = conform_bootrec(&bootrec_sim, NULL);

    (void)state;
    if (wrong != NULL)
        fail_msg("bootrec_sim: %s", wrong);
}

/* The real driver on the simulated device's file, with each project's words. */
static const struct uboot_vars words[] = {
    {UBOOT_RAUC, "", {"", ""}},
    {UBOOT_MENDER, "mender_boot_part", {"2", "3"}},
    {UBOOT_SWUPDATE, "bootpart", {"a", "b"}},
};
static char env_file[64], env_lock[64];
static struct uboot_env_place env_place = {
    .device = {env_file, env_file}, .offset = {0, 0x10000}, .size = 0x4000, .lock = env_lock};

static void test_words_conform(void **state)
{
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        const char *wrong;

        setup(state);
        env_place.vars = &words[i];
        wrong = conform_bootrec(&bootrec_uboot, &env_place);
        if (wrong != NULL)
            fail_msg("words %zu: %s", i, wrong);
    }
}

/* As the driver does it, and then one variable has another value: U-Boot would not fall back, or would at once. */
static const char *spoilt_name, *spoilt_value;

static int bad_store_spoilt(const void *arg, const struct bootrec *r, struct err *e)
{
    const struct uboot_env_place *p = arg;
    struct uboot_env env;
    int rc = uboot_env_read(p, &env, e);

    if (rc == 0)
        rc = uboot_vars_set(p->vars, &env, r, e);
    if (rc == 0)
        rc = uboot_env_set(&env, spoilt_name, spoilt_value, e);
    return rc < 0 ? rc : uboot_env_write(p, &env, e);
}

static void test_broken_words(void **state)
{
    static const char *const spoilt[][2] = {
        {"upgrade_available", "0"}, {"upgrade_available", "1"}, {"bootcount", "0"},
        {"bootlimit", "9"},         {"mender_boot_part", "2"},  {"slipway_first", "A"},
    };
    struct bootrec_ops bad = bootrec_uboot;

    bad.store = bad_store_spoilt;
    env_place.vars = &words[UBOOT_MENDER];
    for (size_t i = 0; i < sizeof(spoilt) / sizeof(spoilt[0]); i++) {
        setup(state);
        spoilt_name = spoilt[i][0];
        spoilt_value = spoilt[i][1];
        if (conform_bootrec(&bad, &env_place) == NULL)
            fail_msg("%s always %s passes", spoilt_name, spoilt_value);
    }
}

static int bad_store_swapped(const void *arg, const struct bootrec *r, struct err *e)
{
    struct bootrec swapped = {r->first, {r->left[SLOT_B], r->left[SLOT_A]}};

    return bootrec_sim.store(arg, &swapped, e);
}

static int bad_store_nothing(const void *arg, const struct bootrec *r, struct err *e)
{
    (void)arg, (void)r, (void)e;
    return 0;
}

static int bad_store_clamps(const void *arg, const struct bootrec *r, struct err *e)
{
    struct bootrec c = *r;

    for (int i = 0; i < SLOT_CNT; i++)
        c.left[i] = c.left[i] > 9 ? 9 : c.left[i];
    return bootrec_sim.store(arg, &c, e);
}

static int bad_load_order(const void *arg, struct bootrec *out, struct bootrec_health *health, struct err *e)
{
    int rc = bootrec_sim.load(arg, out, health, e);

    out->first = SLOT_A;
    return rc;
}

static int bad_store_one_copy(const void *arg, const struct bootrec *r, struct err *e)
{
    char path[128];
    uint8_t junk[16] = {0};
    int rc = bootrec_sim.store(arg, r, e);
    int fd;

    /* Copy 0 never survives. */
    if (rc < 0 || sim_path("bootenv", path, sizeof(path), e) < 0)
        return rc;
    fd = open(path, O_RDWR);
    for (int i = 0; i < 2; i++) {
        rc = bootrec_sim.store(arg, r, e);
        assert_int_equal(io_pwrite_full(fd, junk, sizeof(junk), 0), 0);
        rc = bootrec_sim.store(arg, r, e);
        assert_int_equal(rc, 0);
    }
    assert_int_equal(io_pwrite_full(fd, junk, sizeof(junk), 0x10000), 0);
    close(fd);
    return 0;
}

static void test_broken(void **state)
{
    struct bootrec_ops bad[] = {bootrec_sim, bootrec_sim, bootrec_sim, bootrec_sim, bootrec_sim};

    bad[0].store = bad_store_swapped;
    bad[1].store = bad_store_nothing;
    bad[2].store = bad_store_clamps;
    bad[3].load = bad_load_order;
    bad[4].store = bad_store_one_copy;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        setup(state);
        if (conform_bootrec(&bad[i], NULL) == NULL)
            fail_msg("broken driver %zu passes", i);
    }
}

static void expect(enum slot_id first, uint8_t a, uint8_t b)
{
    struct bootrec_health health;
    struct bootrec r;
    struct err e;

    assert_int_equal(bootrec_sim.load(NULL, &r, &health, &e), 0);
    assert_int_equal(r.first, first);
    assert_int_equal(r.left[SLOT_A], a);
    assert_int_equal(r.left[SLOT_B], b);
}

static enum slot_id power_on(void)
{
    enum slot_id slot;
    struct err e;

    unsetenv("SLIPWAY_SIM_SLOT");
    assert_int_equal(bootrec_sim.booted(NULL, &slot, &e), 0);
    return slot;
}

static void test_new_device(void **state)
{
    (void)state;
    assert_int_equal(power_on(), SLOT_A);
    expect(SLOT_A, 2, 3);
}

/* Asking again is no second power-on, in this process or a child of it. */
static void test_boots_once(void **state)
{
    enum slot_id slot;
    struct err e;

    (void)state;
    power_on();
    assert_int_equal(bootrec_sim.booted(NULL, &slot, &e), 0);
    assert_int_equal(slot, SLOT_A);
    expect(SLOT_A, 2, 3);
}

static void test_trial_falls_back(void **state)
{
    struct bootrec trial = {SLOT_B, {3, 2}};
    struct err e;

    (void)state;
    assert_int_equal(bootrec_sim.store(NULL, &trial, &e), 0);
    assert_int_equal(power_on(), SLOT_B);
    assert_int_equal(power_on(), SLOT_B);
    assert_int_equal(power_on(), SLOT_A);
    expect(SLOT_B, 2, 0);
}

/* No slot has tries left: A first again, three each, one of them taken. */
/* New tries for all that were in order, and never for a slot that had none at the last store: it may be half written. */
static void test_all_used_up(void **state)
{
    struct bootrec both = {SLOT_B, {1, 1}};
    struct bootrec only_b = {SLOT_B, {0, 1}};
    struct err e;

    (void)state;
    assert_int_equal(bootrec_sim.store(NULL, &both, &e), 0);
    assert_int_equal(power_on(), SLOT_B);
    assert_int_equal(power_on(), SLOT_A);
    assert_int_equal(power_on(), SLOT_B);
    expect(SLOT_B, 3, 2);
    assert_int_equal(bootrec_sim.store(NULL, &only_b, &e), 0);
    for (int i = 0; i < 9; i++)
        assert_int_equal(power_on(), SLOT_B);
}

static void damage(off_t at)
{
    char path[128];
    uint8_t junk[16] = {0x55};
    struct err e;
    int fd;

    assert_int_equal(sim_path("bootenv", path, sizeof(path), &e), 0);
    fd = open(path, O_WRONLY);
    assert_int_equal(io_pwrite_full(fd, junk, sizeof(junk), at), 0);
    close(fd);
}

static void test_damage(void **state)
{
    struct bootrec r = {SLOT_B, {1, 2}};
    struct bootrec_health health;
    struct err e;

    (void)state;
    for (off_t copy = 0; copy < 2; copy++) {
        r.left[SLOT_A] = (uint8_t)(4 + copy);
        assert_int_equal(bootrec_sim.store(NULL, &r, &e), 0);
        assert_int_equal(bootrec_sim.store(NULL, &r, &e), 0);
        damage(copy * 0x10000);
        assert_int_equal(bootrec_sim.load(NULL, &r, &health, &e), 0);
        assert_int_equal(health.copies_good, 1);
        expect(SLOT_B, (uint8_t)(4 + copy), 2);
        assert_int_equal(bootrec_sim.store(NULL, &r, &e), 0); /* mends it */
        assert_int_equal(bootrec_sim.load(NULL, &r, &health, &e), 0);
        assert_int_equal(health.copies_good, 2);
    }
    damage(0);
    damage(0x10000);
    assert_int_equal(bootrec_sim.load(NULL, &r, &health, &e), ERR_BOOT);
    assert_int_equal(bootrec_sim.store(NULL, &r, &e), ERR_BOOT);
    assert_int_equal(power_on(), SLOT_A);
}

/* Cut power at every operation of a store, in a child whose process group the simulator kills: afterwards the record
 * is the old one or the new one. */
static void test_every_cut(void **state)
{
    const struct bootrec old = {SLOT_A, {3, 0}}, new = {SLOT_B, {3, 2}};
    bool cut = true;
    int cuts = 0;

    for (int n = 1; cut; n++) {
        struct bootrec_health health;
        struct bootrec r;
        struct err e;
        char number[16];
        int status;
        pid_t pid;

        setup(state);
        assert_int_equal(bootrec_sim.store(NULL, &old, &e), 0);
        assert_int_equal(bootrec_sim.store(NULL, &old, &e), 0);
        snprintf(number, sizeof(number), "%d", n);
        pid = fork();
        if (pid == 0) {
            setpgid(0, 0);
            setenv("SLIPWAY_SIM_CUT", number, 1);
            fault_reset();
            _exit(bootrec_sim.store(NULL, &new, &e) == 0 ? 0 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        cut = WIFSIGNALED(status);
        cuts += cut;
        assert_int_equal(bootrec_sim.load(NULL, &r, &health, &e), 0);
        if (!(r.first == SLOT_A && r.left[0] == 3 && r.left[1] == 0) &&
            !(r.first == SLOT_B && r.left[0] == 3 && r.left[1] == 2))
            fail_msg("SLIPWAY_SIM_CUT=%d: neither the old record nor the new one", n);
        assert_true(health.copies_good >= 1);
        if (!cut)
            assert_int_equal(r.first, SLOT_B);
    }
    assert_true(cuts >= 3);
}

static int again(void)
{
    struct err e = {0};
    enum slot_id slot;

    if (bootrec_sim.booted(NULL, &slot, &e) != 0)
        return 99;
    if (reset_sim.cause() == RESET_SOFTWARE)
        return slot == SLOT_B && fcntl(100, F_GETFD) < 0 ? 42 : 43;
    if (reset_sim.cause() != RESET_POWER_ON || slot != SLOT_A || dup2(0, 100) < 0)
        return 98;
    if (bootrec_sim.store(NULL, &(struct bootrec){SLOT_B, {3, 1}}, &e) != 0)
        return 97;
    reset_sim.restart(&e);
    return 96;
}

/* This program as an agent that arms slot B and restarts: same arguments, other slot, no open files. */
static void test_restart(void **state)
{
    char *argv[] = {"agent", "with", "", NULL};
    int status;
    pid_t pid = fork();

    (void)state;
    if (pid == 0) {
        execv("/proc/self/exe", argv);
        _exit(95);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
    expect(SLOT_B, 3, 0);
}

#define T(name) cmocka_unit_test_setup(name, setup)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        T(test_sim_conforms), T(test_words_conform), T(test_broken_words),     T(test_broken),
        T(test_new_device),   T(test_boots_once),    T(test_trial_falls_back), T(test_all_used_up),
        T(test_damage),       T(test_every_cut),     T(test_restart),
    };
    static const char *const files[] = {"bootenv", "bootenv.lock", "booted"};
    int failed;

    if (argc == 3 && strcmp(argv[1], "with") == 0 && argv[2][0] == 0)
        return again();
    if (mkdtemp(dir) == NULL || setenv("SLIPWAY_SIM_DIR", dir, 1) < 0)
        return 1;
    snprintf(env_file, sizeof(env_file), "%s/bootenv", dir);
    snprintf(env_lock, sizeof(env_lock), "%s/bootenv.lock", dir);
    failed = cmocka_run_group_tests_name("bootrec", tests, NULL, NULL);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        char path[128];

        snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
    return failed;
}
