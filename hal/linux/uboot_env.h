/* U-Boot's environment as it stands on a block device or in a file, in two copies:
 *
 *     0      4       5                                     size
 *     +------+-------+-----------------------------+--------+
 *     | crc  | flags | name=value\0 name=value\0 \0 | unused |
 *     +------+-------+-----------------------------+--------+
 *
 * crc is zlib's CRC-32, in the processor's byte order, over everything from 5 to size. flags counts up by one with
 * each write and wraps from 255 to 0; the copy that is one ahead is the newer (U-Boot env/common.c,
 * env_check_redund; libubootenv, FLAGS_INCREMENTAL). Flash without a controller (MTD) marks copies in another way
 * and is refused. One environment at a time is in memory, in this module's buffers.
 */
#ifndef SLIPWAY_HAL_UBOOT_ENV_H
#define SLIPWAY_HAL_UBOOT_ENV_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* What fw_printenv and fw_setenv lock. */
#define UBOOT_ENV_LOCK "/var/lock/fw_printenv.lock"

struct uboot_vars;

struct uboot_env_place {
    const char *device[2]; /* block device or file; may be the same one twice */
    uint64_t offset[2];
    uint32_t size;                 /* of one copy, bytes; at most CONFIG_UBOOT_ENV_MAX */
    const char *lock;              /* lock file, UBOOT_ENV_LOCK on real boards */
    const struct uboot_vars *vars; /* whose variables the script goes by */
};

struct uboot_env {
    int newest;       /* 0 or 1 */
    uint8_t flags;    /* of the newest copy */
    uint8_t good_cnt; /* copies with a right CRC */
    uint32_t size;
};

/* Hold the lock from before read() until after write(). Waits at most 5 s for another holder, then ERR_BOOT. Without
 * a folder for the lock file nobody can lock, and *fd is -1. */
int uboot_env_lock(const struct uboot_env_place *p, int *fd, struct err *e);
void uboot_env_unlock(int fd);

/* Read both copies, keep the newer good one. ERR_BOOT when none is good. */
int uboot_env_read(const struct uboot_env_place *p, struct uboot_env *env, struct err *e);

/* Start with no variables at all, as if copy 1 were the newest. */
int uboot_env_empty(const struct uboot_env_place *p, struct uboot_env *env, struct err *e);

/* The value in memory, NULL when there is none; good until the next call that changes it. */
const char *uboot_env_get(const struct uboot_env *env, const char *name);

/* ERR_BOOT when the environment is full; it is unusable then. */
int uboot_env_set(struct uboot_env *env, const char *name, const char *value, struct err *e);

/* Write over the copy that is not the newest, make it durable, read it back from the medium: ERR_FLASH when it
 * differs. A cut at any moment leaves the newest copy as it was. */
int uboot_env_write(const struct uboot_env_place *p, struct uboot_env *env, struct err *e);

#endif
