/* Port: a disk slot, a raw partition or volume that receives one filesystem image. */
#ifndef SLIPWAY_HAL_DISK_H
#define SLIPWAY_HAL_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct disk_ops {
    /* Before reach_enter() (base/reach.h): open() works behind it, for this place alone. */
    int (*confine)(const char *place, struct err *e);
    /* Open the device at `place`. A mounted device is refused for writing. *size in bytes; *fd is the caller's. */
    int (*open)(const char *place, bool writable, int *fd, uint64_t *size, struct err *e);
    /* Everything written is on the medium when this returns 0, and the next read comes from there. */
    int (*sync)(int fd, struct err *e);
    int (*close)(int fd, struct err *e);
};

#endif
