/* Port: what the flash itself says of its age. */
#ifndef SLIPWAY_HAL_WEAR_H
#define SLIPWAY_HAL_WEAR_H

#include <stdint.h>

#include "base/err.h"

enum wear_kind { WEAR_UNKNOWN = 0, WEAR_EMMC, WEAR_UBI };
enum wear_spare { WEAR_SPARE_UNKNOWN = 0, WEAR_SPARE_NORMAL, WEAR_SPARE_LOW, WEAR_SPARE_GONE };

struct wear {
    enum wear_kind kind;
    /* WEAR_EMMC (JESD84-B51, 7.4.43 to 7.4.45). Life used of the two kinds of memory that it has, at most: 10, 20 .. 100, and
     * 110 for more than it was made for; 0: it does not say. Spare: of the blocks that replace bad ones. */
    uint32_t used_percent[2];
    enum wear_spare spare;
    /* WEAR_UBI: erasures that the block has had that had most. The chip's data sheet says how many are good. */
    uint32_t erased_max;
};

struct wear_ops {
    /* Of the device that holds the slot at `place`. ERR_UNSUPPORTED where it does not tell. Reads no flash. */
    int (*read)(const char *place, struct wear *out, struct err *e);
};

#endif
