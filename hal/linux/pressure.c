#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "hal/linux/linux.h"

#define SOME "some avg10="

int pressure_linux_read(const char *path, uint32_t *out_percent, struct err *e)
{
    char text[256];
    const char *at = io_read_file(path, text, sizeof text) > 0 ? strstr(text, SOME) : NULL;

    if (!at)
        return err_set(e, ERR_UNSUPPORTED, "%s does not tell", path);
    *out_percent = (uint32_t)strtoul(at + strlen(SOME), NULL, 10);
    return 0;
}

static int memory(uint32_t *out_percent, struct err *e)
{
    return pressure_linux_read("/proc/pressure/memory", out_percent, e);
}

const struct pressure_ops pressure_linux = {.memory = memory};
