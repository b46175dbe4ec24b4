/* eMMC and UBI say it in /sys; SD cards, disks and raw flash do not. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "hal/linux/linux.h"
#include "hal/linux/place.h"

static bool file_read(char *out, size_t cap, const char *sys, const char *dir, const char *name,
                      const char *file)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/class/%s/%s/%s", sys, dir, name, file);
    return io_read_file(path, out, cap) > 0;
}

/* "0x02 0x01": 2 is 10 % to 20 %. */
static bool emmc_read(const char *sys, const char *name, struct wear *out)
{
    char text[64], *end;
    /* of a partition: the disk is the folder above */
    bool part = !file_read(text, sizeof text, sys, "block", name, "device/life_time");

    if (part && !file_read(text, sizeof text, sys, "block", name, "../device/life_time"))
        return false;
    for (int i = 0; i < 2; i++) {
        unsigned long value = strtoul(i ? end : text, &end, 16);

        out->used_percent[i] = value <= 11 ? (uint32_t)value * 10 : 0;
    }
    if (file_read(text, sizeof text, sys, "block", name,
                  part ? "../device/pre_eol_info" : "device/pre_eol_info")) {
        unsigned long value = strtoul(text, NULL, 16);

        out->spare = value <= WEAR_SPARE_GONE ? (enum wear_spare)value : WEAR_SPARE_UNKNOWN;
    }
    out->kind = WEAR_EMMC;
    return true;
}

/* A volume is ubi0_1 of the device ubi0. */
static bool ubi_read(const char *sys, const char *name, struct wear *out)
{
    char text[32], device[16];

    snprintf(device, sizeof device, "%.*s", (int)strcspn(name, "_"), name);
    if (!file_read(text, sizeof text, sys, "ubi", device, "max_ec"))
        return false;
    out->erased_max = (uint32_t)strtoul(text, NULL, 10);
    out->kind = WEAR_UBI;
    return true;
}

int wear_linux_read(const char *sys, const char *place, struct wear *out, struct err *e)
{
    char dev[PLACE_DEV_MAX], real[PATH_MAX];
    const char *name;
    int rc = place_device(place, dev, e);

    memset(out, 0, sizeof *out);
    if (rc < 0)
        return rc;
    name = strrchr(realpath(dev, real) ? real : dev, '/') + 1;
    if (emmc_read(sys, name, out) || ubi_read(sys, name, out))
        return 0;
    return err_set(e, ERR_UNSUPPORTED, "%s does not say how worn it is", dev);
}

static int linux_read(const char *place, struct wear *out, struct err *e)
{
    return wear_linux_read("/sys", place, out, e);
}

const struct wear_ops wear_linux = {.read = linux_read};
