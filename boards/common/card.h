/* What a board.c needs to know of the card that boards/common lays out: layout.sfdisk, uboot.config. */
#ifndef SLIPWAY_BOARDS_CARD_H
#define SLIPWAY_BOARDS_CARD_H

#include "hal/linux/uboot_vars.h"

static const struct uboot_env_place card_environment = {
    .device = {"/dev/mmcblk0", "/dev/mmcblk0"},
    .offset = {0x100000, 0x110000},
    .size = 0x4000,
    .lock = UBOOT_ENV_LOCK,
    .vars = &uboot_vars_rauc,
};

#endif
