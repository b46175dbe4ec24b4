/* Where a slot is: "PARTLABEL=slot-b", "PARTUUID=...", "LABEL=...", "/dev/mmcblk0p3". */
#ifndef SLIPWAY_HAL_LINUX_PLACE_H
#define SLIPWAY_HAL_LINUX_PLACE_H

#include <stdbool.h>

#include "base/err.h"

#define PLACE_DEV_MAX 288

/* The device's path. ERR_ABSENT when there is none. */
int place_device(const char *place, char out[PLACE_DEV_MAX], struct err *e);
/* Is this block device mounted anywhere in our mount namespace? */
bool place_is_mounted(const char *dev);

#endif
