#include "hal/board.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "hal/linux/linux.h"
#include "hal/linux/tryboot.h"
#include "hal/linux/uboot_vars.h"
#include "kernel.h"
#include "update/record.h"
#include "world.h"

/* The board: the drivers of hal/linux, and what is wrong with them in the known-bad builds. */
static const struct uboot_vars vars[] = {
    [LOADER_SCRIPT] = {UBOOT_RAUC, "", {"", ""}},
    [LOADER_MENDER] = {UBOOT_MENDER, "mender_boot_part", {CUTS_PART_A, CUTS_PART_B}},
    [LOADER_SWUPDATE] = {UBOOT_SWUPDATE, "bootpart", {CUTS_PART_A, CUTS_PART_B}},
};
static struct uboot_env_place env_place = {
    .device = {"/dev/env", "/dev/env"},
    .offset = {0, ENV_GAP},
    .size = ENV_SIZE,
    .lock = UBOOT_ENV_LOCK,
};

static const struct tryboot_place card = {.card = "/dev/env",
                                          .firmware = KERNEL_FIRMWARE,
                                          .partition = {CUTS_PART_A[0] - '0', CUTS_PART_B[0] - '0'}};

/* The driver that this device has, and its place. */
static const struct bootrec_ops *driver;
static const void *place;

static int nothing_synced(int fd, struct err *e)
{
    (void)fd, (void)e;
    return 0;
}

/* BAD_ARM_FIRST: what was to be remembered before the flip, kept back until after it. */
static struct {
    char name[16];
    int copy;
    size_t len;
    uint8_t bytes[RECORD_PAYLOAD_MAX];
} held[16];
static int held_cnt;

static ssize_t bad_read(const char *dir, const char *name, int copy, void *buf, size_t cap, struct err *e)
{
    if (world.bad == BAD_ONE_COPY && copy == 1)
        return 0;
    return store_linux.read(dir, name, copy, buf, cap, e);
}

static int bad_write(const char *dir, const char *name, int copy, const void *buf, size_t len, struct err *e)
{
    if (world.bad == BAD_ARM_FIRST && world_is_installing() && strcmp(name, "state") == 0) {
        ASSERT(held_cnt < (int)(sizeof held / sizeof held[0]) && len <= sizeof held[0].bytes);
        snprintf(held[held_cnt].name, sizeof held[0].name, "%s", name);
        held[held_cnt].copy = copy;
        held[held_cnt].len = len;
        memcpy(held[held_cnt++].bytes, buf, len);
        return 0;
    }
    return store_linux.write(dir, name, world.bad == BAD_ONE_COPY ? 0 : copy, buf, len, e);
}

static int bad_two_writes(const void *arg, const struct bootrec *r, struct err *e)
{
    struct bootrec half;
    struct bootrec_health health;
    int rc = bootrec_uboot.load(arg, &half, &health, e);

    half.first = r->first;
    if (rc == 0)
        rc = bootrec_uboot.store(arg, &half, e);
    return rc < 0 ? rc : bootrec_uboot.store(arg, r, e);
}

/* As the driver does it, but for what is bad: over the copy that is good, or with both slots in order. */
static int bad_driver(const void *arg, const struct bootrec *r, struct err *e)
{
    static const char *const left[] = {"BOOT_A_LEFT", "BOOT_B_LEFT"};
    struct uboot_env env;
    int rc = uboot_env_read(arg, &env, e);

    if (rc == 0)
        rc = uboot_env_set(&env, "BOOT_ORDER", r->first == SLOT_A ? "A B" : "B A", e);
    for (int i = 0; i < SLOT_CNT && rc == 0; i++)
        rc = uboot_env_set(&env, left[i], (const char[2]){(char)('0' + r->left[i]), 0}, e);
    if (world.bad == BAD_SAME_COPY)
        env.newest = 1 - env.newest;
    return rc < 0 ? rc : uboot_env_write(arg, &env, e);
}

/* A slot on trial that is never passed over. */
static int bad_uncounted(const void *arg, const struct bootrec *r, struct err *e)
{
    struct uboot_env env;
    int rc = uboot_env_read(arg, &env, e);

    if (rc == 0)
        rc = uboot_vars_set(env_place.vars, &env, r, e);
    if (rc == 0)
        rc = uboot_env_set(&env, "upgrade_available", "0", e);
    return rc < 0 ? rc : uboot_env_write(arg, &env, e);
}

/* As open() with O_TRUNC does on the mounted partition: for a moment the file is empty. */
static int bad_truncated(const struct bootrec *r, struct err *e)
{
    uint8_t dir[MEDIUM_SECTOR];
    int fd = open(card.card, O_RDWR);
    int rc = 0;

    if (fd < 0 || io_pread_full(fd, dir, sizeof dir, 2 * sizeof dir) < 0)
        return err_errno(e, "%s", card.card);
    for (int len = 0; len < 2 && rc == 0; len++) {
        dir[32 + 29] = (uint8_t)len;
        if (io_pwrite_full(fd, dir, sizeof dir, 2 * sizeof dir) < 0 || fsync(fd) < 0)
            rc = err_errno(e, "%s", card.card);
    }
    close(fd);
    return rc < 0 ? rc : driver->store(place, r, e);
}

static int bad_store(const void *arg, const struct bootrec *r, struct err *e)
{
    int rc = world.bad == BAD_TWO_WRITES                                 ? bad_two_writes(arg, r, e)
             : world.bad == BAD_SAME_COPY || world.bad == BAD_NAMES_BOTH ? bad_driver(arg, r, e)
             : world.bad == BAD_NO_COUNT                                 ? bad_uncounted(arg, r, e)
             : world.bad == BAD_TRUNCATED                                ? bad_truncated(r, e)
                                                                         : driver->store(place, r, e);

    for (int i = 0; rc == 0 && i < held_cnt; i++)
        rc = store_linux.write(WORLD_STATE_DIR, held[i].name, held[i].copy, held[i].bytes, held[i].len, e);
    held_cnt = 0;
    return rc;
}

static int booted(const void *arg, enum slot_id *out, struct err *e)
{
    (void)arg;
    return driver->booted(place, out, e);
}

static int load(const void *arg, struct bootrec *out, struct bootrec_health *health, struct err *e)
{
    (void)arg;
    return driver->load(place, out, health, e);
}

static uint64_t boot_ms(void)
{
    return kernel.now_ms;
}

static int64_t wall_s(void)
{
    return 1700000000;
}

static struct tree_ops tree;
static struct disk_ops disk;
static struct bootrec_ops bootrec = {.load = load, .store = bad_store, .booted = booted};
static struct reset_ops reset;
static const struct clock_ops clock_cuts = {.boot_ms = boot_ms, .wall_s = wall_s};
static const struct store_ops store = {.read = bad_read, .write = bad_write};

/* As of a kernel that does not count. */
static int no_pressure(uint32_t *out_percent, struct err *e)
{
    (void)out_percent;
    return err_set(e, ERR_UNSUPPORTED, "no pressure");
}

static const struct pressure_ops pressure = {.memory = no_pressure};

const struct board board = {
    .name = "cuts",
    .platform = {"linux", "arm", "v7"},
    .slots = {"/dev/slot-a", "/dev/slot-b"},
    .needs = {"boot/kernel", "usr/agentd"},
    .app_root = linux_app_root,
    .tree = &tree,
    .disk = &disk,
    .bootrec = &bootrec,
    .bootrec_arg = &env_place,
    .reset = &reset,
    .clock = &clock_cuts,
    .store = &store,
    .pressure = &pressure,
};

void board_init(void)
{
    tree = tree_linux;
    disk = disk_linux;
    if (world.bad == BAD_NO_SLOT_SYNC) {
        tree.sync = nothing_synced;
        disk.sync = nothing_synced;
    }
    kernel.no_data_sync = world.bad == BAD_NO_DATA_SYNC;
    kernel.no_dir_sync = world.bad == BAD_NO_DIR_SYNC;
    held_cnt = 0;
    if (world.step != NULL && world.step->loader == LOADER_TRYBOOT) {
        driver = &bootrec_tryboot;
        place = &card;
        reset = reset_tryboot;
    } else {
        driver = &bootrec_uboot;
        place = &env_place;
        reset = reset_linux;
        env_place.vars = &vars[world.step ? world.step->loader : LOADER_SCRIPT];
    }
    bootrec.caps = driver->caps;
}
