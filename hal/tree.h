/* Port: a tree slot, one root filesystem that receives files.
 *
 * Core code works on directory descriptors and names, never on paths, so no symlink of the content is ever followed.
 * After sync() everything done before it survives a cut of power. After close() and open() reads come from the
 * medium, not from memory, if caps.close_drops_cache says so; otherwise the core asks the kernel file by file.
 */
#ifndef SLIPWAY_HAL_TREE_H
#define SLIPWAY_HAL_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hal/node.h"

struct tree_space {
    uint64_t bytes_free, bytes_total;
    uint64_t nodes_free, nodes_total; /* 0 total: the filesystem does not count them */
};

struct tree_caps {
    bool close_drops_cache;
};

struct tree_ops {
    struct tree_caps caps;
    /* Before reach_enter() (base/reach.h): open() works behind it, for this place alone. */
    int (*confine)(const char *place, struct err *e);
    /* Make the filesystem at `place` ("PARTLABEL=slot-b", "/dev/mmcblk0p3", for sim a directory) reachable.
     * Writable trees are never executable or setuid for the agent. *root_fd is the caller's. */
    int (*open)(const char *place, bool writable, int *root_fd, struct err *e);
    /* Takes root_fd back. */
    int (*close)(int root_fd, struct err *e);
    int (*space)(int root_fd, struct tree_space *out, struct err *e);
    /* Create node `name` in dir_fd, which must not hold it. Type, device number and symlink target are set here,
     * the rest by settle(). NODE_FILE: *file_fd is an open, empty, writable file, the caller's. */
    int (*make)(int dir_fd, const char *name, const struct node *n, int *file_fd, struct err *e);
    /* Open regular file `name` to change its content in place; -ENOENT when there is none. *file_fd is the caller's. */
    int (*reopen)(int dir_fd, const char *name, int *file_fd, struct err *e);
    /* Owner, mode, xattrs (others are removed, but for the kernel's own security.selinux), mtime, in an order that
     * loses none of them. file_fd is -1 but for NODE_FILE. */
    int (*settle)(int dir_fd, const char *name, int file_fd, const struct node *n, struct err *e);
    int (*link)(int from_dir_fd, const char *from, int to_dir_fd, const char *to, struct err *e);
    int (*remove)(int dir_fd, const char *name, bool is_dir, struct err *e);
    int (*sync)(int root_fd, struct err *e);
};

#endif
