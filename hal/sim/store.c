/* store_linux, with the moments at which a cut leaves something else on the medium. */
#include <stddef.h>

#include "hal/linux/linux.h"
#include "hal/sim/fault.h"
#include "hal/sim/sim.h"

static ssize_t sim_read(const char *dir, const char *name, int copy, void *buf, size_t cap, struct err *e)
{
    return store_linux.read(dir, name, copy, buf, cap, e);
}

static int sim_write(const char *dir, const char *name, int copy, const void *buf, size_t len, struct err *e)
{
    int rc;

    if (fault_point("store.write") < 0)
        return err_errno(e, "%s/%s.%d", dir, name, copy);
    rc = store_linux.write(dir, name, copy, buf, len / 2, e);
    if (rc < 0)
        return rc;
    if (fault_point("store.torn") < 0)
        return err_errno(e, "%s/%s.%d", dir, name, copy);
    rc = store_linux.write(dir, name, copy, buf, len, e);
    if (rc == 0 && fault_point("store.written") < 0)
        return err_errno(e, "%s/%s.%d", dir, name, copy);
    return rc;
}

const struct store_ops store_sim = {.read = sim_read, .write = sim_write};
