/* Power-on, as boards/common/boot.cmd does it (sim_bootenv_take), and the power switch. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "hal/sim/sim.h"

#define ARGS_MAX 64

static int booted_tell(enum slot_id slot, struct err *e)
{
    const char *name = slot == SLOT_A ? "A" : "B";
    char path[512];
    int rc = sim_path("booted", path, sizeof(path), e);
    int fd;

    if (rc < 0)
        return rc;
    if (setenv("SLIPWAY_SIM_SLOT", name, 1) < 0)
        return err_errno(e, "SLIPWAY_SIM_SLOT");
    fd = IO_RETRY(open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (fd < 0)
        return err_errno(e, "%s", path);
    if (io_write_full(fd, name, 1) < 0)
        rc = err_errno(e, "%s", path);
    close(fd);
    return rc;
}

int sim_boot(enum slot_id *out, struct err *e)
{
    int rc = sim_bootenv_take(out, e);

    /* As U-Boot does without a good copy: its default environment, which saveenv then stores. */
    if (rc == ERR_BOOT) {
        log_info("sim: %s; starting from defaults", e->text);
        rc = sim_bootenv_make(e);
        if (rc == 0)
            rc = sim_bootenv_take(out, e);
    }
    return rc < 0 ? rc : booted_tell(*out, e);
}

static enum reset_cause sim_cause(void)
{
    const char *cause = getenv("SLIPWAY_SIM_CAUSE");

    if (cause == NULL)
        return RESET_POWER_ON;
    if (strcmp(cause, "software") == 0)
        return RESET_SOFTWARE;
    return strcmp(cause, "watchdog") == 0 ? RESET_WATCHDOG : RESET_UNKNOWN;
}

/* The arguments this process was started with, so that the next life gets the same. */
static int args_read(char *buf, size_t cap, char *argv[ARGS_MAX], struct err *e)
{
    ssize_t len = io_read_file("/proc/self/cmdline", buf, cap);
    int cnt = 0;

    if (len < 0)
        return err_errno(e, "/proc/self/cmdline");
    for (ssize_t at = 0; at < len; at += (ssize_t)strlen(buf + at) + 1) {
        if (cnt == ARGS_MAX - 1)
            return err_set(e, ERR_LIMIT, "more than %d arguments", ARGS_MAX - 1);
        argv[cnt++] = buf + at;
    }
    argv[cnt] = NULL;
    return 0;
}

/* A reboot forgets everything; execv alone would hand files, locks and blocked signals to the next life. */
static void process_forget(void)
{
    sigset_t none;

    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    for (int fd = STDERR_FILENO + 1; fd < 1024; fd++)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static int sim_restart(struct err *e)
{
    static char buf[4096];
    char *argv[ARGS_MAX];
    enum slot_id slot;
    int rc = args_read(buf, sizeof(buf), argv, e);

    if (rc == 0)
        rc = sim_boot(&slot, e);
    if (rc < 0)
        return rc;
    if (setenv("SLIPWAY_SIM_CAUSE", "software", 1) < 0)
        return err_errno(e, "SLIPWAY_SIM_CAUSE");
    log_info("sim: restart, slot %c", slot == SLOT_A ? 'A' : 'B');
    process_forget();
    execv("/proc/self/exe", argv);
    return err_errno(e, "/proc/self/exe");
}

const struct reset_ops reset_sim = {.cause = sim_cause, .restart = sim_restart};
