#include <stdio.h>
#include <stdlib.h>

#include "hal/sim/sim.h"

int sim_path(const char *name, char *out, size_t cap, struct err *e)
{
    const char *dir = getenv("SLIPWAY_SIM_DIR");
    int n;

    if (dir == NULL || *dir == 0)
        return err_set(e, ERR_CONFIG, "SLIPWAY_SIM_DIR is not set: the folder that is the simulated device");
    n = snprintf(out, cap, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= cap)
        return err_set(e, ERR_LIMIT, "path of %s in SLIPWAY_SIM_DIR is too long", name);
    return 0;
}

int sim_app_root(enum slot_id slot, char *out, size_t cap, struct err *e)
{
    return sim_path(board.slots[slot], out, cap, e);
}
