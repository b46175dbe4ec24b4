/* The boot record of a real board, bootrec_uboot, on the file `bootenv`. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "hal/linux/linux.h"
#include "hal/linux/uboot_vars.h"
#include "hal/sim/fault.h"
#include "hal/sim/sim.h"

#define COPY_SIZE 0x4000
#define COPY_GAP 0x10000
#define TRIES 3

struct sim_env {
    char file[512];
    char lock[512];
    struct uboot_env_place place;
};

static int sim_env_find(struct sim_env *s, struct err *e)
{
    int rc = sim_path("bootenv", s->file, sizeof(s->file), e);

    if (rc == 0)
        rc = sim_path("bootenv.lock", s->lock, sizeof(s->lock), e);
    s->place =
        (struct uboot_env_place){{s->file, s->file}, {0, COPY_GAP}, COPY_SIZE, s->lock, &uboot_vars_rauc};
    return rc;
}

static int sim_load(const void *arg, struct bootrec *out, struct bootrec_health *health, struct err *e)
{
    struct sim_env s;
    int rc = sim_env_find(&s, e);

    (void)arg;
    return rc < 0 ? rc : bootrec_uboot.load(&s.place, out, health, e);
}

/* What a cut in the middle of a write leaves: half of the older copy is gone. */
static int tear_older(const struct uboot_env_place *p, struct err *e)
{
    static const uint8_t junk[COPY_SIZE / 2] = {0};
    struct uboot_env env;
    int rc = uboot_env_read(p, &env, e);
    int fd;

    if (rc < 0)
        return rc;
    fd = IO_RETRY(open(p->device[0], O_WRONLY | O_CLOEXEC));
    if (fd < 0)
        return err_errno(e, "%s", p->device[0]);
    if (io_pwrite_full(fd, junk, sizeof(junk), (off_t)p->offset[1 - env.newest]) < 0)
        rc = err_errno(e, "%s", p->device[0]);
    close(fd);
    return rc;
}

/* `write` changes the environment, and every moment of that can be the last. */
static int write_faulty(int (*write)(const struct uboot_env_place *p, const struct bootrec *r, struct err *e),
                        const struct bootrec *r, struct err *e)
{
    struct sim_env s;
    int rc = sim_env_find(&s, e);

    if (rc < 0)
        return rc;
    if (fault_point("bootrec.store") < 0)
        return err_errno(e, "%s", s.file);
    rc = tear_older(&s.place, e);
    if (rc < 0)
        return rc;
    if (fault_point("bootrec.torn") < 0)
        return err_errno(e, "%s", s.file);
    rc = write(&s.place, r, e);
    if (rc == 0 && fault_point("bootrec.stored") < 0)
        return err_errno(e, "%s", s.file);
    return rc;
}

static int driver_write(const struct uboot_env_place *p, const struct bootrec *r, struct err *e)
{
    return bootrec_uboot.store(p, r, e);
}

static int sim_store(const void *arg, const struct bootrec *r, struct err *e)
{
    (void)arg;
    return write_faulty(driver_write, r, e);
}

/* The script stores its counts and leaves the order as it is. */
static int script_write(const struct uboot_env_place *p, const struct bootrec *r, struct err *e)
{
    static const char *const names[SLOT_CNT] = {"BOOT_A_LEFT", "BOOT_B_LEFT"};
    struct uboot_env env;
    int rc = uboot_env_read(p, &env, e);

    for (int i = 0; i < SLOT_CNT && rc == 0; i++)
        rc = uboot_env_set(&env, names[i], (const char[2]){(char)('0' + r->left[i]), 0}, e);
    return rc < 0 ? rc : uboot_env_write(p, &env, e);
}

/* Those that BOOT_ORDER names get new tries. */
static int script_renew(struct bootrec *r, struct err *e)
{
    struct uboot_env env;
    struct sim_env s;
    const char *order;
    int rc = sim_env_find(&s, e);

    if (rc == 0)
        rc = uboot_env_read(&s.place, &env, e);
    if (rc < 0)
        return rc;
    order = uboot_env_get(&env, "BOOT_ORDER");
    r->left[SLOT_A] = order == NULL || strchr(order, 'A') != NULL ? TRIES : 0;
    r->left[SLOT_B] = order == NULL || strchr(order, 'B') != NULL ? TRIES : 0;
    return 0;
}

int sim_bootenv_take(enum slot_id *out, struct err *e)
{
    struct bootrec_health health;
    struct bootrec r;
    int rc = sim_load(NULL, &r, &health, e);

    if (rc == 0 && r.left[SLOT_A] == 0 && r.left[SLOT_B] == 0)
        rc = script_renew(&r, e);
    if (rc < 0)
        return rc;
    *out = r.first;
    if (r.left[r.first] == 0)
        *out = slot_other(r.first);
    r.left[*out]--;
    return write_faulty(script_write, &r, e);
}

static int sim_booted(const void *arg, enum slot_id *out, struct err *e)
{
    const char *slot = getenv("SLIPWAY_SIM_SLOT");

    (void)arg;
    if (slot == NULL || *slot == 0)
        return sim_boot(out, e);
    if ((slot[0] != 'A' && slot[0] != 'B') || slot[1] != 0)
        return err_set(e, ERR_BOOT, "SLIPWAY_SIM_SLOT=%s: want A or B", slot);
    *out = slot[0] == 'A' ? SLOT_A : SLOT_B;
    return 0;
}

const struct bootrec_ops bootrec_sim = {
    .caps = {.atomic = true, .copies = 2},
    .load = sim_load,
    .store = sim_store,
    .booted = sim_booted,
};

int sim_bootenv_make(struct err *e)
{
    struct uboot_env env;
    struct sim_env s;
    int fd;
    int rc = sim_env_find(&s, e);

    if (rc < 0)
        return rc;
    fd = IO_RETRY(open(s.file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    if (fd < 0)
        return err_errno(e, "%s", s.file);
    close(fd);
    rc = uboot_env_empty(&s.place, &env, e);
    if (rc == 0)
        rc = uboot_env_write(&s.place, &env, e);
    return rc < 0 ? rc : uboot_env_write(&s.place, &env, e);
}
