/* A node of a file tree: what stands in a directory entry and its inode. Shared by the stream of entries and by the
 * drivers of tree slots. */
#ifndef SLIPWAY_HAL_NODE_H
#define SLIPWAY_HAL_NODE_H

#include <stdbool.h>
#include <stdint.h>

#define NODE_PATH_MAX 4096 /* with the NUL; the kernel's PATH_MAX */
#define NODE_NAME_MAX 255  /* without it */

enum node_type { NODE_FILE = 1, NODE_DIR, NODE_SYMLINK, NODE_CHAR, NODE_BLOCK, NODE_FIFO };

struct node {
    enum node_type type;
    uint32_t mode; /* permission bits, setuid, setgid, sticky: 07777 */
    uint32_t uid, gid;
    uint32_t dev_major, dev_minor; /* NODE_CHAR, NODE_BLOCK */
    int64_t mtime_s;
    uint32_t mtime_ns;
    uint64_t size;      /* NODE_FILE */
    const char *target; /* NODE_SYMLINK */
    /* xattr_cnt times: u16 length of the name, u32 length of the value (host order, unaligned), name, value */
    const uint8_t *xattrs;
    uint32_t xattr_len;
    uint16_t xattr_cnt;
};

#define NODE_XATTR_HEAD 6 /* the two lengths */

struct node_xattr {
    char name[NODE_NAME_MAX + 1];
    const uint8_t *value; /* in the node's xattrs */
    uint32_t value_len;
};

/* The extended attribute at *at, which begins with 0 and is moved behind it. False when there is none there that is
 * whole, with a name of 1 to NODE_NAME_MAX bytes and no NUL. xattr_cnt says how many there ought to be. */
bool node_xattr_next(const struct node *n, uint32_t *at, struct node_xattr *out);

#endif
