/* $SLIPWAY_SIM_ID, or a name made from the simulated device's folder and the host's machine-id, so that each device on
 * each host has its own. */
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "hal/sim/sim.h"

/* FNV-1a: a name, not a secret. */
static uint64_t hash_add(uint64_t h, const char *s)
{
    for (; *s != 0; s++)
        h = (h ^ (uint8_t)*s) * 0x100000001b3u;
    return h;
}

static int sim_device_id(char *out, size_t cap, struct err *e)
{
    const char *given = getenv("SLIPWAY_SIM_ID");
    char dir[512], real[PATH_MAX], machine[64] = "", id[32];
    int rc = sim_path("", dir, sizeof(dir), e);

    if (rc < 0)
        return rc;
    if (given == NULL) {
        if (io_read_file("/etc/machine-id", machine, sizeof(machine)) < 0)
            machine[0] = 0;
        (void)snprintf(id, sizeof(id), "sim-%016llx",
                       (unsigned long long)hash_add(hash_add(0xcbf29ce484222325u, machine),
                                                    realpath(dir, real) != NULL ? real : dir));
        given = id;
    }
    if (strlen(given) < 8 || strlen(given) >= cap)
        return err_set(e, ERR_LIMIT, "device id %s: want 8 to %zu characters", given, cap - 1);
    memcpy(out, given, strlen(given) + 1);
    return 0;
}

const struct identity_ops identity_sim = {.device_id = sim_device_id};
