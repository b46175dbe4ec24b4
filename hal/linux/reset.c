#include <errno.h>
#include <linux/reboot.h>
#include <linux/watchdog.h>
#include <stdlib.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "hal/linux/linux.h"

#define BOOTSTATUS "/sys/class/watchdog/watchdog0/bootstatus"

/* sysfs first: asking the device itself would start it. A driver that knows no cause says 0. */
static enum reset_cause reset_cause(void)
{
    char text[32];
    long status = linux_watchdog_bootstatus();

    if (io_read_file(BOOTSTATUS, text, sizeof(text)) > 0)
        status = strtol(text, NULL, 0);
    if (status & WDIOF_CARDRESET)
        return RESET_WATCHDOG;
    if (status & WDIOF_POWERUNDER)
        return RESET_POWER_ON;
    return RESET_UNKNOWN;
}

int linux_restart(const char *argument, struct err *e)
{
    sync();
    if (*argument != '\0')
        (void)syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_RESTART2,
                      argument);
    else
        (void)reboot(RB_AUTOBOOT);
    return err_errno(e, "reboot");
}

static int reset_restart(struct err *e)
{
    return linux_restart("", e);
}

const struct reset_ops reset_linux = {.cause = reset_cause, .restart = reset_restart};
