#include "stream/entry.h"

#include <string.h>

#include "base/io.h"
#include "base/path.h"
#include "stream/blocks.h"

/* Payload of FRAME_ENTRY: this head, then path, target and xattrs without NULs between them. */
struct entry_head {
    uint64_t size;
    int64_t mtime_s;
    uint32_t mtime_ns;
    uint32_t type, node_type;
    uint32_t mode, uid, gid;
    uint32_t dev_major, dev_minor;
    uint32_t xattr_len;
    uint16_t xattr_cnt;
    uint16_t path_len, target_len;
    uint16_t zero;
};

int entry_write(struct frame_gather *out, const struct entry *en, struct err *e)
{
    const struct node *n = &en->node;
    size_t path_len = strlen(en->path);
    size_t target_len = n->target ? strlen(n->target) : 0;
    struct entry_head h = {
        .type = en->type,
        .node_type = n->type,
        .mode = n->mode,
        .uid = n->uid,
        .gid = n->gid,
        .dev_major = n->dev_major,
        .dev_minor = n->dev_minor,
        .mtime_s = n->mtime_s,
        .mtime_ns = n->mtime_ns,
        .size = n->size,
        .xattr_len = n->xattr_len,
        .xattr_cnt = n->xattr_cnt,
        .path_len = (uint16_t)path_len,
        .target_len = (uint16_t)target_len,
    };
    struct iovec v[4] = {
        {&h, sizeof h},
        {(void *)(uintptr_t)en->path, path_len},
        {(void *)(uintptr_t)n->target, target_len},
        {(void *)(uintptr_t)n->xattrs, n->xattr_len},
    };

    return frame_gather_add(out, FRAME_ENTRY, v, 4, e);
}

static int broken(const struct entry *en, const char *what, struct err *e)
{
    return err_set(e, ERR_PEER, "entry '%.100s': %s", en->path, what);
}

static bool has_prefix(const char *name, const char *prefix)
{
    size_t n = strlen(prefix);

    return strncmp(name, prefix, n) == 0 && name[n] != '\0';
}

bool entry_xattr_allowed(const char *name)
{
    if (strlen(name) > NODE_NAME_MAX)
        return false;
    if (has_prefix(name, "trusted."))
        return !has_prefix(name, "trusted.overlay.");
    return has_prefix(name, "user.") || has_prefix(name, "security.") ||
           strcmp(name, "system.posix_acl_access") == 0 || strcmp(name, "system.posix_acl_default") == 0;
}

static bool xattrs_ok(const struct node *n)
{
    struct node_xattr x;
    uint32_t at = 0;

    for (uint16_t i = 0; i < n->xattr_cnt; i++)
        if (!node_xattr_next(n, &at, &x) || !entry_xattr_allowed(x.name))
            return false;
    return at == n->xattr_len;
}

static int node_check(const struct entry *en, struct err *e)
{
    const struct node *n = &en->node;
    bool device = n->type == NODE_CHAR || n->type == NODE_BLOCK;

    if (n->type < NODE_FILE || n->type > NODE_FIFO)
        return broken(en, "unknown type of node", e);
    if (en->path[0] == '\0' && n->type != NODE_DIR)
        return broken(en, "the root is no directory", e);
    if (n->mode & ~07777u)
        return broken(en, "mode has bits beyond 07777", e);
    if (n->uid == UINT32_MAX || n->gid == UINT32_MAX)
        return broken(en, "owner -1", e);
    if (n->mtime_ns >= 1000000000)
        return broken(en, "nanoseconds of a second or more", e);
    if (n->size > INT64_MAX || (n->size && n->type != NODE_FILE))
        return broken(en, "size out of place", e);
    if ((n->type == NODE_SYMLINK) != (en->target[0] != '\0'))
        return broken(en, "target out of place", e);
    if ((n->dev_major || n->dev_minor) && !device)
        return broken(en, "device number out of place", e);
    if (n->type == NODE_CHAR && !n->dev_major && !n->dev_minor)
        return broken(en, "character device 0:0", e);
    if (!xattrs_ok(n))
        return broken(en, "extended attributes are malformed or not allowed", e);
    return 0;
}

static bool node_is_blank(const struct entry_head *h)
{
    return !h->node_type && !h->mode && !h->uid && !h->gid && !h->dev_major && !h->dev_minor && !h->mtime_s &&
           !h->mtime_ns && !h->size && !h->xattr_cnt && !h->xattr_len;
}

static int entry_check(const struct entry *en, const struct entry_head *h, struct err *e)
{
    if (strlen(en->path) != h->path_len || strlen(en->target) != h->target_len)
        return broken(en, "NUL in a name", e);
    if (!path_is_plain(en->path))
        return broken(en, "path is not relative and plain", e);
    if (h->type == ENTRY_NODE)
        return node_check(en, e);
    if (h->type != ENTRY_HARDLINK && h->type != ENTRY_WHITEOUT && h->type != ENTRY_OPAQUE)
        return broken(en, "unknown type of entry", e);
    if (!node_is_blank(h))
        return broken(en, "a node where none belongs", e);
    if ((h->type == ENTRY_HARDLINK) != (h->target_len > 0) || !path_is_plain(en->target))
        return broken(en, "target is not a path or out of place", e);
    if (h->type != ENTRY_OPAQUE && h->path_len == 0)
        return broken(en, "path is empty", e);
    return 0;
}

static void head_to_node(const struct entry_head *h, struct entry *out)
{
    out->type = (enum entry_type)h->type;
    out->node = (struct node){
        .type = (enum node_type)h->node_type,
        .mode = h->mode,
        .uid = h->uid,
        .gid = h->gid,
        .dev_major = h->dev_major,
        .dev_minor = h->dev_minor,
        .mtime_s = h->mtime_s,
        .mtime_ns = h->mtime_ns,
        .size = h->size,
        .target = h->target_len ? out->target : NULL,
        .xattrs = h->xattr_len ? out->xattrs : NULL,
        .xattr_len = h->xattr_len,
        .xattr_cnt = h->xattr_cnt,
    };
}

int entry_pipe_head(struct entry_pipe *p, struct frame *out, struct err *e)
{
    int rc;

    while ((rc = p->read(p, out, sizeof *out, e)) == 0 && (rc = frame_check_head(out, e)) == 0) {
        bool is_block_end = out->type == FRAME_BLOCK_END && out->len == 0 && p->blocks;

        if (out->type == FRAME_CHECKPOINT && p->checkpoint)
            rc = p->checkpoint(p, out->len, e);
        else if (!is_block_end)
            return 0;
        else if (io_write_full(p->back_fd, "", 1) < 0)
            return err_errno(e, "decode");
        if (rc < 0)
            return rc;
    }
    return rc;
}

int entry_pipe_fixed(struct entry_pipe *p, const struct frame *head, void *out, uint32_t len, struct err *e)
{
    if (head->len != len)
        return err_set(e, ERR_PEER, "decode sent %u bytes where %u were expected", head->len, len);
    return p->read(p, out, len, e);
}

int entry_read(struct entry_pipe *p, const struct frame *head, struct entry *out, struct err *e)
{
    struct entry_head h;
    int rc;

    if (head->type != FRAME_ENTRY || head->len < sizeof h)
        return err_set(e, ERR_PEER, "entry: want a head, got frame type %u, length %u", head->type,
                       head->len);
    rc = p->read(p, &h, sizeof h, e);
    if (rc)
        return rc;
    if (h.path_len >= NODE_PATH_MAX || h.target_len >= NODE_PATH_MAX || h.xattr_len > ENTRY_XATTR_MAX ||
        h.zero || head->len != sizeof h + h.path_len + h.target_len + h.xattr_len)
        return err_set(e, ERR_PEER, "entry: lengths %u, %u, %u do not fit a frame of %u bytes", h.path_len,
                       h.target_len, h.xattr_len, head->len);
    out->path[h.path_len] = '\0';
    out->target[h.target_len] = '\0';
    if (h.path_len && (rc = p->read(p, out->path, h.path_len, e)))
        return rc;
    if (h.target_len && (rc = p->read(p, out->target, h.target_len, e)))
        return rc;
    if (h.xattr_len && (rc = p->read(p, out->xattrs, h.xattr_len, e)))
        return rc;
    head_to_node(&h, out);
    return entry_check(out, &h, e);
}

/* What came is not what was expected: decode's own error, or none of its frames. */
static int content_refused(struct content *c, const struct frame *head, struct err *e)
{
    struct err from;
    int rc;

    if (head->type != FRAME_ERR)
        return err_set(e, ERR_PEER, "content: unexpected frame type %u", head->type);
    rc = entry_pipe_fixed(c->pipe, head, &from, sizeof from, e);
    c->refused = rc == 0;
    return rc ? rc : frame_take_err(&from, e);
}

static int lent_read(struct content *c, const struct frame *head, struct err *e)
{
    struct lent lent;
    int rc = entry_pipe_fixed(c->pipe, head, &lent, sizeof lent, e);

    if (rc)
        return rc;
    if (lent.at > BLOCKS_LEN || lent.len > BLOCKS_LEN - lent.at)
        return err_set(e, ERR_PEER, "content: %u bytes lent at %u, of %u", lent.len, lent.at, BLOCKS_LEN);
    c->lent = c->pipe->blocks + lent.at;
    c->in_frame = lent.len;
    return 0;
}

/* Make in_frame > 0 while left > 0. */
static int content_next(struct content *c, struct err *e)
{
    struct frame head;
    int rc;

    if (c->in_frame > 0)
        return 0;
    rc = entry_pipe_head(c->pipe, &head, e);
    if (rc)
        return rc;
    c->lent = NULL;
    c->in_frame = head.len;
    if (head.type == FRAME_LENT && c->pipe->blocks)
        rc = lent_read(c, &head, e);
    else if (head.type != FRAME_DATA)
        rc = content_refused(c, &head, e);
    if (rc == 0 && (c->in_frame == 0 || c->in_frame > c->left))
        rc = err_set(e, ERR_PEER, "content: frame of %u bytes, %llu are left of the file", c->in_frame,
                     (unsigned long long)c->left);
    return rc;
}

/* Of the present frame. */
static int64_t frame_move(struct content *c, int fd, uint64_t len, struct err *e)
{
    if (!c->lent)
        return c->pipe->move(c->pipe, fd, len, e);
    if (io_write_full(fd, c->lent, len) < 0)
        return err_errno(e, "write");
    return (int64_t)len;
}

static int frame_copy(struct content *c, void *buf, uint32_t len, struct err *e)
{
    if (!c->lent)
        return c->pipe->read(c->pipe, buf, len, e);
    memcpy(buf, c->lent, len);
    return 0;
}

static void frame_passed(struct content *c, uint32_t len)
{
    if (c->lent)
        c->lent += len;
    c->in_frame -= len;
    c->left -= len;
}

int content_move(struct content *c, int fd, uint64_t len, struct err *e)
{
    while (len > 0) {
        int64_t n = content_next(c, e);

        if (n)
            return (int)n;
        n = frame_move(c, fd, len < c->in_frame ? len : c->in_frame, e);
        if (n < 0)
            return (int)n;
        frame_passed(c, (uint32_t)n);
        len -= (uint64_t)n;
    }
    return 0;
}

int content_read(struct content *c, void *buf, uint32_t len, struct err *e)
{
    uint8_t *at = buf;

    while (len > 0) {
        uint32_t n;
        int rc = content_next(c, e);

        if (rc)
            return rc;
        n = len < c->in_frame ? len : c->in_frame;
        rc = frame_copy(c, at, n, e);
        if (rc)
            return rc;
        frame_passed(c, n);
        at += n;
        len -= n;
    }
    return 0;
}

int content_end(struct content *c, struct entry_end *out, struct err *e)
{
    uint8_t waste[4096];
    struct frame head;
    int rc;

    while (c->left > 0) {
        rc = content_read(c, waste, c->left < sizeof waste ? (uint32_t)c->left : (uint32_t)sizeof waste, e);
        if (rc)
            return rc;
    }
    rc = entry_pipe_head(c->pipe, &head, e);
    if (rc == 0 && head.type != FRAME_ENTRY_END)
        rc = content_refused(c, &head, e);
    return rc ? rc : entry_pipe_fixed(c->pipe, &head, out, sizeof *out, e);
}
