/* A board: which drivers it has and where things are. Each boards/<name>/board.c defines the one symbol `board`.
 * Addresses and drivers, no policy. The strings live for ever. */
#ifndef SLIPWAY_HAL_BOARD_H
#define SLIPWAY_HAL_BOARD_H

#include <stddef.h>

#include "hal/bootrec.h"
#include "hal/clock.h"
#include "hal/disk.h"
#include "hal/identity.h"
#include "hal/pressure.h"
#include "hal/reset.h"
#include "hal/secret.h"
#include "hal/serial.h"
#include "hal/store.h"
#include "hal/tree.h"
#include "hal/watchdog.h"
#include "hal/wear.h"

#define BOARD_NEEDS_MAX 4

struct board {
    const char *name;
    struct platform platform;
    const char
        *slots[SLOT_CNT]; /* places, as the tree and disk drivers take them; agent.conf may say otherwise */
    const char *needs[BOARD_NEEDS_MAX]; /* paths without which a tree slot can't boot or manage this board */
    /* Where the app's root is when `slot` is booted; linux_app_root says "/". ERR_LIMIT when `out` is too small. */
    int (*app_root)(enum slot_id slot, char *out, size_t cap, struct err *e);
    const struct tree_ops *tree;
    const struct tree_ops *folder; /* of trees that are folders: those of apps, in the state directory */
    const struct disk_ops *disk;
    const struct bootrec_ops *bootrec;
    const void *bootrec_arg;
    const struct watchdog_ops *watchdog;
    const struct reset_ops *reset;
    const struct clock_ops *clock;
    const struct identity_ops *identity;
    const struct secret_ops *secret;
    const struct serial_ops *serial;
    const struct wear_ops *wear;
    const struct pressure_ops *pressure;
    const struct store_ops *store;
};

extern const struct board board;

#endif
