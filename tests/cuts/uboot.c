/* A second opinion on the environment: U-Boot's rules (env/common.c, env_check_redund; env/mmc.c, env_save) and what goes
 * by its variables, written without a look at the agent's driver: the script boards/common/boot.cmd; or U-Boot's own count
 * (common/autoboot.c, drivers/bootcount/bootcount_env.c) with the altbootcmd that Mender's integration has, or one that
 * does what SWUpdate's "best practice" asks of it. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "kernel.h"
#include "versions.h"

#define TEXT_LEN (ENV_SIZE - 5)

static struct {
    int active; /* -1: none was good, defaults */
    uint8_t flags;
    char text[TEXT_LEN];
} env;

static void copy_read(int copy, uint8_t out[ENV_SIZE])
{
    for (uint32_t s = 0; s < ENV_SIZE / MEDIUM_SECTOR; s++)
        memcpy(out + s * MEDIUM_SECTOR,
               medium_bytes(medium.now.nodes[DEV_ENV].sectors[(uint32_t)copy * ENV_GAP / MEDIUM_SECTOR + s]),
               MEDIUM_SECTOR);
}

static bool copy_good(const uint8_t c[ENV_SIZE])
{
    uint32_t crc;

    memcpy(&crc, c, sizeof crc);
    return crc == crc32(0, c + 5, TEXT_LEN);
}

static void env_load(void)
{
    uint8_t c[2][ENV_SIZE];
    bool good[2];

    for (int i = 0; i < 2; i++) {
        copy_read(i, c[i]);
        good[i] = copy_good(c[i]);
    }
    memset(&env, 0, sizeof env);
    env.active = -1;
    if (!good[0] && !good[1])
        return;
    if (good[0] && good[1]) {
        uint8_t a = c[0][4], b = c[1][4];

        env.active = (a == 255 && b == 0) || (!(b == 255 && a == 0) && b > a);
    } else {
        env.active = good[1];
    }
    env.flags = c[env.active][4];
    memcpy(env.text, c[env.active] + 5, TEXT_LEN);
}

void device_write(uint32_t sector, const uint8_t *data, uint32_t sectors)
{
    for (uint32_t s = 0; s < sectors; s++)
        medium_do(&(struct medium_op){.kind = OP_DATA,
                                      .fs = DEV_ENV,
                                      .owner = DEV_ENV,
                                      .node = DEV_ENV,
                                      .at = sector + s,
                                      .id = medium_content(data + s * MEDIUM_SECTOR),
                                      .call_end = s == sectors - 1});
    medium_do(&(struct medium_op){.kind = OP_SYNC, .owner = DEV_ENV, .call_end = true});
}

static void env_save(void)
{
    uint8_t c[ENV_SIZE];
    uint32_t crc;
    int to = env.active == 0 ? 1 : 0;

    memcpy(c + 5, env.text, TEXT_LEN);
    c[4] = ++env.flags;
    crc = (uint32_t)crc32(0, c + 5, TEXT_LEN);
    memcpy(c, &crc, sizeof crc);
    device_write((uint32_t)to * ENV_GAP / MEDIUM_SECTOR, c, ENV_SIZE / MEDIUM_SECTOR);
    env.active = to;
}

static const char *env_get(const char *name)
{
    size_t len = strlen(name);

    for (const char *p = env.text; *p != '\0'; p += strlen(p) + 1)
        if (strncmp(p, name, len) == 0 && p[len] == '=')
            return p + len + 1;
    return "";
}

/* In alphabetical order, as U-Boot exports its hash table; the values here are one line each. */
static void env_set(const char *name, const char *value)
{
    static char out[TEXT_LEN];
    size_t at = 0;
    bool done = false;
    char line[128];
    int len = snprintf(line, sizeof line, "%s=%s", name, value);

    memset(out, 0, sizeof out);
    for (const char *p = env.text; *p != '\0' || !done;) {
        size_t n = strcspn(p, "=");
        int order = *p == '\0' ? 1 : strncmp(p, name, n > strlen(name) ? n : strlen(name));

        if (order >= 0 && !done) {
            memcpy(out + at, line, (size_t)len + 1);
            at += (size_t)len + 1;
            done = true;
        }
        if (*p != '\0' && order != 0) {
            memcpy(out + at, p, strlen(p) + 1);
            at += strlen(p) + 1;
        }
        p += *p != '\0' ? strlen(p) + 1 : 0;
    }
    memcpy(env.text, out, sizeof out);
}

static void default_set(const char *name, const char *value)
{
    if (*env_get(name) == '\0')
        env_set(name, value);
}

/* `for candidate in ${BOOT_ORDER}`: the first one with tries left, one of them taken off. -1: none has any. */
static int candidate_take(void)
{
    char order[64], *save = NULL;

    snprintf(order, sizeof order, "%s", env_get("BOOT_ORDER"));
    for (char *word = strtok_r(order, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save)) {
        char name[80], left[24];
        long n;

        if (strcmp(word, "A") != 0 && strcmp(word, "B") != 0)
            continue;
        snprintf(name, sizeof name, "BOOT_%s_LEFT", word);
        n = strtol(env_get(name), NULL, 10);
        if (n <= 0)
            continue;
        snprintf(left, sizeof left, "%lx", n - 1);
        env_set(name, left);
        return word[0] == 'A' ? SLOT_A : SLOT_B;
    }
    return -1;
}

/* boards/common/boot.cmd up to the kernel. -1: a reset. */
static int script_start(void)
{
    int slot;

    default_set("BOOT_ORDER", "A B");
    default_set("BOOT_A_LEFT", "3");
    default_set("BOOT_B_LEFT", "3");
    slot = candidate_take();
    if (slot < 0) {
        env_set("BOOT_A_LEFT", "3");
        env_set("BOOT_B_LEFT", "3");
    }
    env_save();
    return slot >= 0 && version_slot_has_kernel((enum slot_id)slot) ? slot : -1;
}

static bool is_mender(void)
{
    return world.step->loader == LOADER_MENDER;
}

static const char *part_name(void)
{
    return is_mender() ? "mender_boot_part" : "bootpart";
}

static void altbootcmd(void)
{
    const char *other = strcmp(env_get(part_name()), CUTS_PART_A) == 0 ? CUTS_PART_B : CUTS_PART_A;

    env_set(part_name(), other);
    if (is_mender()) {
        env_set("mender_boot_part_hex", other);
        env_set("upgrade_available", "0");
    } else {
        env_set("ustate", "3");
        env_set("bootcount", "0");
        env_set("upgrade_available", "");
    }
    env_save();
}

/* bootcount_inc(), bootcount_error(), bootcmd. In memory bootcount is 1 also when nothing is counted. -1: a reset. */
static int counted_start(void)
{
    long limit = strtol(env_get("bootlimit"), NULL, 10);
    bool counts = strtol(env_get("upgrade_available"), NULL, 10) != 0;
    long count = 1 + (counts ? strtol(env_get("bootcount"), NULL, 10) : 0);
    char number[24];
    int slot;

    snprintf(number, sizeof number, "%ld", count);
    env_set("bootcount", number);
    if (counts)
        env_save();
    if (limit > 0 && count > limit)
        altbootcmd();
    if (is_mender() && strcmp(env_get("mender_boot_part_hex"), env_get("mender_boot_part")) != 0)
        world_fail("mender_boot_part is %s, and mender_boot_part_hex %s", env_get("mender_boot_part"),
                   env_get("mender_boot_part_hex"));
    slot = strcmp(env_get(part_name()), CUTS_PART_B) == 0 ? SLOT_B : SLOT_A;
    if (version_slot_has_kernel((enum slot_id)slot))
        return slot;
    if (strtol(env_get("upgrade_available"), NULL, 10) == 0)
        world_fail("U-Boot stops at its prompt: no kernel in slot %c, and nothing is counted", 'A' + slot);
    return -1;
}

enum slot_id uboot_start(void)
{
    for (;;) {
        int slot;

        if (++world.boots > BOOTS_MAX)
            world_fail("more than %d starts", BOOTS_MAX);
        env_load();
        if (env.active < 0)
            world_fail("U-Boot finds no good copy of its environment");
        slot = world.step->loader == LOADER_SCRIPT ? script_start() : counted_start();
        if (slot >= 0)
            return (enum slot_id)slot;
    }
}

void uboot_factory(void)
{
    static const char others[] = "arch=arm\0baudrate=115200\0board=cuts\0boot_targets=mmc0\0";

    memset(&env, 0, sizeof env);
    env.active = 1;
    memcpy(env.text, others, sizeof others);
    /* as many bytes as it takes for our variables and the last ones to lie in different sectors */
    for (int i = 0; i < 16; i++) {
        char name[16], value[64];

        snprintf(name, sizeof name, "c%02d_setup", i);
        memset(value, 'a' + i, sizeof value - 1);
        value[sizeof value - 1] = '\0';
        env_set(name, value);
    }
    /* for those who have these words; the others don't look */
    env_set("mender_boot_part", CUTS_PART_A);
    env_set("mender_boot_part_hex", CUTS_PART_A);
    env_set("bootpart", CUTS_PART_A);
    env_set("bootlimit", "1");
    env_save();
    env_save();
}

static void script_expect(enum slot_id first, unsigned tries, bool other_may_start)
{
    char own[2] = {first == SLOT_A ? 'A' : 'B', '\0'};
    const char *order = *env_get("BOOT_ORDER") != '\0' ? env_get("BOOT_ORDER") : "A B";
    const char *other = env_get(first == SLOT_A ? "BOOT_B_LEFT" : "BOOT_A_LEFT");
    bool other_named = strchr(order, first == SLOT_A ? 'B' : 'A') != NULL;

    if (order[0] != own[0])
        world_fail("at the end BOOT_ORDER is %s, but slot %s runs", order, own);
    if ((unsigned)strtol(env_get(first == SLOT_A ? "BOOT_A_LEFT" : "BOOT_B_LEFT"), NULL, 10) != tries)
        world_fail("at the end slot %s has not all its tries", own);
    if (!other_may_start && other_named && strcmp(other, "0") != 0)
        world_fail("at the end the other slot may start, and holds no whole version");
}

static void counted_expect(enum slot_id first, unsigned tries, bool other_may_start)
{
    bool counts = strtol(env_get("upgrade_available"), NULL, 10) != 0;

    if (strcmp(env_get(part_name()), first == SLOT_A ? CUTS_PART_A : CUTS_PART_B) != 0)
        world_fail("at the end %s is %s, but slot %c runs", part_name(), env_get(part_name()),
                   'A' + (int)first);
    if (counts && (*env_get("bootcount") != '0' || (unsigned)strtol(env_get("bootlimit"), NULL, 10) != tries))
        world_fail("at the end slot %c has not all its tries", 'A' + (int)first);
    if (!other_may_start && counts)
        world_fail("at the end the other slot may start, and holds no whole version");
}

void uboot_expect(enum slot_id first, unsigned tries, bool other_may_start)
{
    env_load();
    if (env.active < 0)
        world_fail("at the end the environment has no good copy");
    if (strcmp(env_get("board"), "cuts") != 0 || *env_get("c15_setup") != 'p')
        world_fail("a variable of the board is lost");
    if (world.step->loader == LOADER_SCRIPT)
        script_expect(first, tries, other_may_start);
    else
        counted_expect(first, tries, other_may_start);
}
