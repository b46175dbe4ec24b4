#include "stream/rules.h"

#include <inttypes.h>
#include <string.h>

#define WHITEOUT ".wh."
#define WHITEOUT_LEN 4
#define WHITEOUT_OPAQUE ".wh..wh..opq"
#define WHITEOUT_META ".wh..wh."
/* of the kernel's dev_t */
#define DEV_MAJOR_MAX 0xfff
#define DEV_MINOR_MAX 0xfffff

/* Normalise `in` into `out`. Returns its length, or an error. */
static int path_normalise(const char *in, char out[NODE_PATH_MAX], struct err *e)
{
    size_t len = 0;

    if (in[0] == '\0')
        return err_set(e, ERR_POLICY, "entry with an empty name");
    for (const char *at = in; *at;) {
        size_t part = strcspn(at, "/");

        if (part == 2 && at[0] == '.' && at[1] == '.') {
            char *slash;

            if (len == 0)
                return err_set(e, ERR_POLICY, "%.80s: leaves the root", in);
            out[len] = '\0';
            slash = strrchr(out, '/');
            len = slash ? (size_t)(slash - out) : 0;
        } else if (part > 0 && !(part == 1 && at[0] == '.')) {
            if (part > NODE_NAME_MAX || len + part + 2 > NODE_PATH_MAX)
                return err_set(e, ERR_LIMIT, "%.80s...: name longer than %d or path longer than %d", in,
                               NODE_NAME_MAX, NODE_PATH_MAX - 1);
            if (len)
                out[len++] = '/';
            memcpy(out + len, at, part);
            len += part;
        }
        at += part;
        at += strspn(at, "/");
    }
    out[len] = '\0';
    return (int)len;
}

/* Turn a whiteout's name into its meaning. Returns 1 when the entry means nothing (other tools' marks). */
static int whiteout_apply(struct entry *en, bool is_dir, struct err *e)
{
    char *slash = strrchr(en->path, '/');
    char *name = slash ? slash + 1 : en->path;

    if (strncmp(en->path, WHITEOUT, WHITEOUT_LEN) && !strstr(en->path, "/" WHITEOUT))
        return 0;
    if (strncmp(en->path, WHITEOUT_META, strlen(WHITEOUT_META)) == 0 && strcmp(en->path, WHITEOUT_OPAQUE))
        return 1;
    if (strncmp(name, WHITEOUT, WHITEOUT_LEN))
        return err_set(e, ERR_POLICY, "%.120s: below a whiteout", en->path);
    if (is_dir)
        return err_set(e, ERR_POLICY, "%.120s: a directory named as a whiteout", en->path);
    if (strcmp(name, WHITEOUT_OPAQUE) == 0) {
        en->type = ENTRY_OPAQUE;
        *(slash ? slash : en->path) = '\0';
        return 0;
    }
    if (strncmp(name, WHITEOUT_META, strlen(WHITEOUT_META)) == 0)
        return 1;
    name += WHITEOUT_LEN;
    if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return err_set(e, ERR_POLICY, "%.120s: a whiteout of nothing", en->path);
    en->type = ENTRY_WHITEOUT;
    memmove(name - WHITEOUT_LEN, name, strlen(name) + 1);
    return 0;
}

int rules_begin(struct entry *en, const char *name, bool is_dir, struct err *e)
{
    int rc = path_normalise(name, en->path, e);

    memset(&en->node, 0, sizeof en->node);
    en->type = ENTRY_NODE;
    en->target[0] = '\0';
    en->node.target = en->target;
    en->node.xattrs = en->xattrs;
    if (rc >= 0)
        rc = whiteout_apply(en, is_dir, e);
    if (rc == 0 && en->type == ENTRY_NODE && en->path[0] == '\0' && !is_dir)
        return err_set(e, ERR_POLICY, "the root is not a directory");
    return rc;
}

int rules_target(struct entry *en, const char *target, struct err *e)
{
    if (!target || !target[0] || strlen(target) >= sizeof en->target)
        return err_set(e, ERR_POLICY, "%.120s: link target empty or longer than %d", en->path,
                       NODE_PATH_MAX - 1);
    memcpy(en->target, target, strlen(target) + 1);
    return 0;
}

int rules_hardlink(struct entry *en, const char *target, struct err *e)
{
    char raw[NODE_PATH_MAX];
    int rc = rules_target(en, target, e);

    en->type = ENTRY_HARDLINK;
    if (rc < 0)
        return rc;
    memcpy(raw, en->target, strlen(en->target) + 1);
    rc = path_normalise(raw, en->target, e);
    if (rc == 0)
        return err_set(e, ERR_POLICY, "%.120s: hard link to the root", en->path);
    return rc < 0 ? rc : 0;
}

int rules_device(struct entry *en, uint64_t major, uint64_t minor, struct err *e)
{
    if (major > DEV_MAJOR_MAX || minor > DEV_MINOR_MAX)
        return err_set(e, ERR_POLICY, "%.120s: device number %" PRIu64 ":%" PRIu64 ", Linux has up to %d:%d",
                       en->path, major, minor, DEV_MAJOR_MAX, DEV_MINOR_MAX);
    if (en->node.type == NODE_CHAR && major == 0 && minor == 0)
        return err_set(e, ERR_POLICY, "%.120s: device 0:0 is overlayfs's whiteout", en->path);
    en->node.dev_major = (uint32_t)major;
    en->node.dev_minor = (uint32_t)minor;
    return 0;
}

/* The same attribute twice in one header: readers differ on which one counts. */
static bool xattr_is_there(const struct entry *en, const char *name)
{
    /* in a table of contents they may come before the rest of the node */
    const struct node n = {.xattrs = en->xattrs, .xattr_len = en->node.xattr_len};
    struct node_xattr x;

    for (uint32_t at = 0; node_xattr_next(&n, &at, &x);)
        if (strcmp(x.name, name) == 0)
            return true;
    return false;
}

int rules_xattr(struct entry *en, const char *name, const void *value, size_t len, struct err *e)
{
    uint16_t name_len = (uint16_t)strlen(name);
    uint32_t value_len = (uint32_t)len;
    uint8_t *at = en->xattrs + en->node.xattr_len;

    if (xattr_is_there(en, name))
        return err_set(e, ERR_POLICY, "%.120s: extended attribute %.60s comes twice", en->path, name);
    if (!entry_xattr_allowed(name))
        return err_set(e, ERR_POLICY, "%.120s: extended attribute %.60s is not allowed", en->path, name);
    if (NODE_XATTR_HEAD + name_len + len > ENTRY_XATTR_MAX - en->node.xattr_len)
        return err_set(e, ERR_LIMIT, "%.120s: extended attributes of more than %d bytes", en->path,
                       ENTRY_XATTR_MAX);
    memcpy(at, &name_len, sizeof name_len);
    memcpy(at + 2, &value_len, sizeof value_len);
    memcpy(at + NODE_XATTR_HEAD, name, name_len);
    memcpy(at + NODE_XATTR_HEAD + name_len, value, len);
    en->node.xattr_len += NODE_XATTR_HEAD + name_len + value_len;
    en->node.xattr_cnt++;
    return 0;
}
