/* An eMMC whose life the file `life_time` of the device tells, in the words of /sys; without one, flash that does not tell. */
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "hal/sim/sim.h"

static int sim_read(const char *place, struct wear *out, struct err *e)
{
    char path[256], text[32], *end;

    (void)place;
    memset(out, 0, sizeof *out);
    if (sim_path("life_time", path, sizeof path, e) < 0)
        return e->code;
    if (io_read_file(path, text, sizeof text) <= 0)
        return err_set(e, ERR_UNSUPPORTED, "there is no %s", path);
    out->kind = WEAR_EMMC;
    out->used_percent[0] = 10 * (uint32_t)strtoul(text, &end, 16);
    out->used_percent[1] = 10 * (uint32_t)strtoul(end, NULL, 16);
    out->spare = WEAR_SPARE_NORMAL;
    return 0;
}

const struct wear_ops wear_sim = {.read = sim_read};
