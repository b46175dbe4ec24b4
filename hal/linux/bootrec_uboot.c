/* Boot record in U-Boot's environment, in RAUC's variables (boards/common/boot.cmd):
 * BOOT_ORDER "A B", BOOT_A_LEFT, BOOT_B_LEFT. */
#include <ctype.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "hal/linux/linux.h"
#include "hal/linux/uboot_env.h"

#define TRIES_DEFAULT 3
#define TRIES_MAX 9

static const char *const left_names[SLOT_CNT] = {"BOOT_A_LEFT", "BOOT_B_LEFT"};

/* As the script reads it: what is no number counts as 0. Above 9 the record has no words for it. */
static uint8_t left_parse(const char *s)
{
    unsigned n = 0;

    if (s == NULL || *s == 0)
        return TRIES_DEFAULT;
    for (; isdigit((unsigned char)*s) && n <= TRIES_MAX; s++)
        n = n * 10 + (unsigned)(*s - '0');
    return (uint8_t)(n > TRIES_MAX ? TRIES_MAX : n);
}

/* A slot that BOOT_ORDER does not name is never started, so it has no tries. */
static void record_parse(const struct uboot_env *env, struct bootrec *out)
{
    const char *order = uboot_env_get(env, "BOOT_ORDER");
    bool named[SLOT_CNT] = {false, false};
    bool any = false;

    if (order == NULL || *order == 0)
        order = "A B";
    out->first = SLOT_A;
    while (*order != 0) {
        size_t len = strcspn(order, " ");

        if (len == 1 && (*order == 'A' || *order == 'B')) {
            enum slot_id id = *order == 'A' ? SLOT_A : SLOT_B;

            if (!any)
                out->first = id;
            any = named[id] = true;
        }
        order += len + strspn(order + len, " ");
    }
    for (int i = 0; i < SLOT_CNT; i++)
        out->left[i] = named[i] ? left_parse(uboot_env_get(env, left_names[i])) : 0;
}

static int uboot_load(const void *arg, struct bootrec *out, struct bootrec_health *health, struct err *e)
{
    const struct uboot_env_place *p = arg;
    struct uboot_env env;
    int lock;
    int rc = uboot_env_lock(p, &lock, e);

    if (rc < 0)
        return rc;
    rc = uboot_env_read(p, &env, e);
    uboot_env_unlock(lock);
    if (rc < 0)
        return rc;
    record_parse(&env, out);
    health->copies_good = env.good_cnt;
    return 0;
}

/* A slot without tries is not named: the script gives all that are named new tries when none has any left, and this one
 * may be half written. */
static int record_set(struct uboot_env *env, const struct bootrec *r, struct err *e)
{
    static const char *const orders[SLOT_CNT][2] = {{"A", "A B"}, {"B", "B A"}};
    bool both = r->left[slot_other(r->first)] > 0;
    int rc = uboot_env_set(env, "BOOT_ORDER", orders[r->first][both], e);

    for (int i = 0; i < SLOT_CNT && rc == 0; i++) {
        const char digit[2] = {(char)('0' + r->left[i]), 0};

        rc = uboot_env_set(env, left_names[i], digit, e);
    }
    return rc;
}

static int uboot_store(const void *arg, const struct bootrec *r, struct err *e)
{
    const struct uboot_env_place *p = arg;
    struct uboot_env env;
    int lock;
    int rc;

    if ((r->first != SLOT_A && r->first != SLOT_B) || r->left[SLOT_A] > TRIES_MAX ||
        r->left[SLOT_B] > TRIES_MAX)
        return err_set(e, ERR_BOOT, "boot record out of range: first %d, tries %d and %d", (int)r->first,
                       r->left[SLOT_A], r->left[SLOT_B]);
    rc = uboot_env_lock(p, &lock, e);
    if (rc < 0)
        return rc;
    rc = uboot_env_read(p, &env, e);
    if (rc == 0)
        rc = record_set(&env, r, e);
    if (rc == 0)
        rc = uboot_env_write(p, &env, e);
    uboot_env_unlock(lock);
    return rc;
}

/* Any board whose boot script names the slot on the kernel's command line. */
static int cmdline_booted(const void *arg, enum slot_id *out, struct err *e)
{
    static const char key[] = "slipway.slot=";
    char line[4096];
    char *save = NULL;

    (void)arg;
    if (io_read_file("/proc/cmdline", line, sizeof(line)) < 0)
        return err_errno(e, "/proc/cmdline");
    for (char *word = strtok_r(line, " \n", &save); word != NULL; word = strtok_r(NULL, " \n", &save)) {
        const char *value = word + sizeof(key) - 1;

        if (strncmp(word, key, sizeof(key) - 1) != 0)
            continue;
        if (strcmp(value, "A") != 0 && strcmp(value, "B") != 0)
            break;
        *out = *value == 'A' ? SLOT_A : SLOT_B;
        return 0;
    }
    return err_set(e, ERR_BOOT, "/proc/cmdline: no slipway.slot=A or =B; does the boot script pass it?");
}

const struct bootrec_ops bootrec_uboot = {
    .caps = {.atomic = true, .copies = 2},
    .load = uboot_load,
    .store = uboot_store,
    .booted = cmdline_booted,
};

/* --- the same, described by libubootenv's configuration file --------------------------------------------------------- */

struct fw_env {
    char text[2048];
    char device[2][128];
    struct uboot_env_place place;
};

static int fw_env_line(struct fw_env *f, int i, const char *line, struct err *e)
{
    uint64_t size;
    int n = sscanf(line, "%127s %" SCNi64 " %" SCNi64, f->device[i], (int64_t *)&f->place.offset[i],
                   (int64_t *)&size);

    if (n != 3 || size > UINT32_MAX || (i == 1 && size != f->place.size))
        return err_set(e, ERR_CONFIG, "want DEVICE OFFSET SIZE, the size the same in both lines: %.60s",
                       line);
    f->place.device[i] = f->device[i];
    f->place.size = (uint32_t)size;
    return 0;
}

static int fw_env_parse(const char *path, struct fw_env *f, struct err *e)
{
    char *save = NULL;
    int cnt = 0;

    f->place.lock = UBOOT_ENV_LOCK;
    if (io_read_file(path, f->text, sizeof(f->text)) < 0)
        return err_errno(e, "%s", path);
    for (char *line = strtok_r(f->text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
        line += strspn(line, " \t");
        if (*line == '#' || *line == 0)
            continue;
        if (cnt == 2)
            return err_set(e, ERR_CONFIG, "%s: more than two lines", path);
        if (fw_env_line(f, cnt++, line, e) < 0)
            return err_prefix(e, "%s", path);
    }
    if (cnt != 2)
        return err_set(e, ERR_CONFIG, "%s: Slipway needs an environment in two copies, so two lines", path);
    return 0;
}

static int fw_env_load(const void *arg, struct bootrec *out, struct bootrec_health *health, struct err *e)
{
    struct fw_env f;
    int rc = fw_env_parse(arg, &f, e);

    return rc < 0 ? rc : uboot_load(&f.place, out, health, e);
}

static int fw_env_store(const void *arg, const struct bootrec *r, struct err *e)
{
    struct fw_env f;
    int rc = fw_env_parse(arg, &f, e);

    return rc < 0 ? rc : uboot_store(&f.place, r, e);
}

const struct bootrec_ops bootrec_fw_env = {
    .caps = {.atomic = true, .copies = 2},
    .load = fw_env_load,
    .store = fw_env_store,
    .booted = cmdline_booted,
};
