/* Boot record in U-Boot's environment, in the words that the place has it in (uboot_vars.h). */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "hal/linux/linux.h"
#include "hal/linux/uboot_env.h"
#include "hal/linux/uboot_vars.h"

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
    health->copies_good = env.good_cnt;
    return uboot_vars_get(p->vars, &env, out, e);
}

static int uboot_store(const void *arg, const struct bootrec *r, struct err *e)
{
    const struct uboot_env_place *p = arg;
    struct uboot_env env;
    int lock;
    int rc = uboot_env_lock(p, &lock, e);

    if (rc < 0)
        return rc;
    rc = uboot_env_read(p, &env, e);
    if (rc == 0)
        rc = uboot_vars_set(p->vars, &env, r, e);
    if (rc == 0)
        rc = uboot_env_write(p, &env, e);
    uboot_env_unlock(lock);
    return rc;
}

static int cmdline_slot(const struct uboot_vars *vars, enum slot_id *out, struct err *e)
{
    char line[4096];

    if (io_read_file("/proc/cmdline", line, sizeof(line)) < 0)
        return err_errno(e, "/proc/cmdline");
    return uboot_vars_booted(vars, line, out, e) < 0 ? err_prefix(e, "/proc/cmdline") : 0;
}

static int uboot_booted(const void *arg, enum slot_id *out, struct err *e)
{
    return cmdline_slot(((const struct uboot_env_place *)arg)->vars, out, e);
}

const struct bootrec_ops bootrec_uboot = {
    .caps = {.atomic = true, .copies = 2},
    .load = uboot_load,
    .store = uboot_store,
    .booted = uboot_booted,
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
    f->place.vars = &uboot_vars_configured;
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

static int fw_env_booted(const void *arg, enum slot_id *out, struct err *e)
{
    (void)arg;
    return cmdline_slot(&uboot_vars_configured, out, e);
}

const struct bootrec_ops bootrec_fw_env = {
    .caps = {.atomic = true, .copies = 2},
    .load = fw_env_load,
    .store = fw_env_store,
    .booted = fw_env_booted,
};
