/* A second opinion on the environment: U-Boot's rules (env/common.c, env_check_redund; env/mmc.c, env_save) and the
 * script boards/common/boot.cmd, written without a look at the agent's driver. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "kernel.h"
#include "versions.h"

#define BOOTS_MAX 32
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

static void env_save(void)
{
    uint8_t c[ENV_SIZE];
    uint32_t crc;
    int to = env.active == 0 ? 1 : 0;

    memcpy(c + 5, env.text, TEXT_LEN);
    c[4] = ++env.flags;
    crc = (uint32_t)crc32(0, c + 5, TEXT_LEN);
    memcpy(c, &crc, sizeof crc);
    for (uint32_t s = 0; s < ENV_SIZE / MEDIUM_SECTOR; s++)
        medium_do(&(struct medium_op){.kind = OP_DATA,
                                      .fs = DEV_ENV,
                                      .owner = DEV_ENV,
                                      .node = DEV_ENV,
                                      .at = (uint32_t)to * ENV_GAP / MEDIUM_SECTOR + s,
                                      .id = medium_content(c + s * MEDIUM_SECTOR),
                                      .call_end = s == ENV_SIZE / MEDIUM_SECTOR - 1});
    medium_do(&(struct medium_op){.kind = OP_SYNC, .owner = DEV_ENV, .call_end = true});
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

enum slot_id uboot_start(void)
{
    for (;;) {
        int slot;

        if (++world.boots > BOOTS_MAX)
            world_fail("more than %d starts", BOOTS_MAX);
        env_load();
        if (env.active < 0)
            world_fail("U-Boot finds no good copy of its environment");
        default_set("BOOT_ORDER", "A B");
        default_set("BOOT_A_LEFT", "3");
        default_set("BOOT_B_LEFT", "3");
        slot = candidate_take();
        if (slot < 0) {
            env_set("BOOT_A_LEFT", "3");
            env_set("BOOT_B_LEFT", "3");
        }
        env_save();
        if (slot >= 0 && version_slot_has_kernel((enum slot_id)slot))
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
    env_save();
    env_save();
}

void uboot_expect(enum slot_id first, unsigned tries, bool other_may_start)
{
    char own[2] = {first == SLOT_A ? 'A' : 'B', '\0'};
    const char *order, *other;
    bool other_named;

    env_load();
    if (env.active < 0)
        world_fail("at the end the environment has no good copy");
    if (strcmp(env_get("board"), "cuts") != 0 || *env_get("c15_setup") != 'p')
        world_fail("a variable of the board is lost");
    order = *env_get("BOOT_ORDER") != '\0' ? env_get("BOOT_ORDER") : "A B";
    if (order[0] != own[0])
        world_fail("at the end BOOT_ORDER is %s, but slot %s runs", order, own);
    if ((unsigned)strtol(env_get(first == SLOT_A ? "BOOT_A_LEFT" : "BOOT_B_LEFT"), NULL, 10) != tries)
        world_fail("at the end slot %s has not all its tries", own);
    other = env_get(first == SLOT_A ? "BOOT_B_LEFT" : "BOOT_A_LEFT");
    other_named = strchr(order, first == SLOT_A ? 'B' : 'A') != NULL;
    if (!other_may_start && other_named && strcmp(other, "0") != 0)
        world_fail("at the end the other slot may start, and holds no whole version");
}
