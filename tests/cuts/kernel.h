/* The system calls of the agent's core, on the simulated medium. The program is linked with --wrap for each of them, so
 * that the drivers and the slot code run as they are:
 *
 *     /data/...             a filesystem
 *     /dev/slot-a, slot-b   disk slots; or, mounted on /run/slipway/slot, tree slots
 *     /dev/env              U-Boot's environment, or the partition with AUTOBOOT.TXT
 *     /proc/cmdline         what the boot loader passed
 *     /firmware/...         what a Raspberry Pi's firmware says
 *
 * A descriptor below KERNEL_FD_FIRST is the host's and goes to the host. What the core logs is kept for a failure's
 * report. poll() with nothing to wait for lets the simulated time pass.
 */
#ifndef SLIPWAY_TESTS_CUTS_KERNEL_H
#define SLIPWAY_TESTS_CUTS_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "hal/sim/medium.h"

#define KERNEL_FD_FIRST 1000
#define KERNEL_FIRMWARE "/firmware"

enum fault_kind {
    FAULT_NONE = 0,
    FAULT_EIO,    /* call `at` fails */
    FAULT_ENOSPC, /* the same, for calls that need room */
    FAULT_EROFS,  /* from call `at` on, /data takes nothing more until the next start */
    FAULT_DEAD,   /* the same, for ever */
    FAULT_ENV,    /* from call `at` on, the agent can't write to U-Boot's environment any more */
    FAULT_FLIP,   /* the `at`th sector that is written to a slot is stored with a flipped bit */
};

struct kernel {
    char cmdline[64];
    uint8_t partition;         /* that a Raspberry Pi's firmware started */
    enum medium_fs guarded[2]; /* of the slot that is booted: a write to it is a failure */
    enum fault_kind fault;
    uint32_t fault_at;
    uint32_t calls;        /* so far that a fault can hit */
    uint32_t slot_sectors; /* written so far */
    bool fault_hit;
    uint64_t now_ms;
    bool no_data_sync, no_dir_sync; /* known-bad: fdatasync, or fsync of a folder, does nothing */
};
extern struct kernel kernel;

/* Power on: no open files, nothing mounted. */
void kernel_start(void);
/* What the core logged since kernel_log_clear(), newest last. */
const char *kernel_log(void);
void kernel_log_clear(void);

/* Given by world.c. They don't return. */
void world_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
void world_restart(bool tryboot) __attribute__((noreturn));
/* Time has passed. */
void world_tick(void);

#endif
