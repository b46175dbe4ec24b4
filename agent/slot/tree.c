#include "slot/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "slot/priv.h"

struct slot_tree *slot_tree_new(void)
{
    struct slot_tree *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (s == MAP_FAILED)
        return NULL;
    s->root = s->toc.fd = -1;
    s->want.list.fd = s->want.patch.fd = s->want.patch.source = -1;
    for (int i = 0; i < REUSE_SIDES; i++)
        s->reuse.side[i].toc.fd = s->reuse.side[i].root = -1;
    s->known.toc.fd = -1;
    if (index_new(&s->reuse.index) && claims_new(&s->claims, CONFIG_SLOT_ENTRY_MAX))
        return s;
    munmap(s, sizeof *s);
    return NULL;
}

static void reset(struct slot_tree *s, const struct tree_ops *ops, bool dry)
{
    s->ops = ops;
    s->dry = dry;
    s->range = (struct range_io){.bytes = &s->stats.bytes, .buf = s->io, .dry = dry};
    s->layer_open = s->second = s->parent_known = s->swept = false;
    s->warnings = 0;
    s->layers = s->ordinal = s->pending_cnt = 0;
    memset(&s->stats, 0, sizeof s->stats);
    claims_reset(&s->claims);
    path_dirs_start(&s->dirs, s->root);
    s->lookup.kind = slot_lookup_layer;
}

/* The root is there from the start, without metadata. */
static int claim_root(struct slot_tree *s, struct err *e)
{
    const struct node n = {.type = NODE_DIR, .mode = 0755};
    struct claim *p = claims_put(&s->claims, "", 0, e);
    if (p == NULL)
        return e->code;
    p->upper = UPPER_DIR;
    p->implicit = 1;
    p->present = 1;
    return toc_add(&s->toc, "", &n, NODE_DIR, 0, 0, NULL, &p->toc, e);
}

static int begin(struct slot_tree *s, const char *toc_path, struct err *e)
{
    struct toc *old = &s->reuse.side[REUSE_OLD].toc;
    struct tree_space sp = {0};
    int rc = slot_is_empty(s, e);
    s->fresh = rc > 0;
    if (rc >= 0)
        rc = s->ops->space(s->root, &sp, e);
    if (rc != 0)
        return rc;
    s->bytes_free = sp.bytes_free;
    s->nodes_free = sp.nodes_total > 0 ? sp.nodes_free : UINT64_MAX;
    s->reuse.side[REUSE_OLD].root = s->root;
    if (toc_open(old, toc_path, e) != 0)
        toc_close(old);
    s->reuse.side[REUSE_OLD].cut = old->fd >= 0 && !toc_is_sealed(old);
    s->toc_path = toc_path;
    s->toc_new[0] = '\0';
    if (s->dry) {
        int fd = pieces_file(toc_path, e);
        rc = fd < 0 ? fd : toc_create_fd(&s->toc, fd, CONFIG_SLOT_ENTRY_MAX, e);
    } else {
        if (s->reuse.side[REUSE_OLD].cut)
            snprintf(s->toc_new, sizeof s->toc_new, "%s.new", toc_path);
        rc = toc_create(&s->toc, s->toc_new[0] != '\0' ? s->toc_new : toc_path, CONFIG_SLOT_ENTRY_MAX, e);
    }
    return rc != 0 ? rc : claim_root(s, e);
}

static int open_slot(struct slot_tree *s, const struct tree_ops *ops, const char *place, bool dry,
                     const char *toc_path, struct err *e)
{
    slot_tree_abort(s);
    if (ops->open(place, !dry, &s->root, e) != 0) {
        s->root = -1;
        return err_prefix(e, "slot %s", place);
    }
    reset(s, ops, dry);
    if (begin(s, toc_path, e) == 0)
        return 0;
    slot_tree_abort(s);
    return err_prefix(e, "slot %s", place);
}

int slot_tree_layer_max(const struct tree_ops *ops, const char *place, uint64_t *max, struct err *e)
{
    struct tree_space sp = {0};
    struct err unclosed;
    int root = -1, rc = ops->open(place, false, &root, e);

    if (rc == 0) {
        rc = ops->space(root, &sp, e);
        if (ops->close(root, &unclosed) != 0 && rc == 0) {
            *e = unclosed;
            rc = e->code;
        }
    }
    /* each entry costs up to three blocks of tar */
    *max = sp.bytes_total + (uint64_t)CONFIG_SLOT_ENTRY_MAX * 1536;
    return rc != 0 ? err_prefix(e, "slot %s", place) : 0;
}

int slot_tree_begin(struct slot_tree *s, const struct tree_ops *ops, const char *place, const char *toc_path,
                    struct err *e)
{
    return open_slot(s, ops, place, false, toc_path, e);
}

int slot_tree_look(struct slot_tree *s, const struct tree_ops *ops, const char *place, const char *toc_path,
                   struct err *e)
{
    return open_slot(s, ops, place, true, toc_path, e);
}

int slot_tree_layer(struct slot_tree *s, struct err *e)
{
    ASSERT(s->root >= 0 && !s->layer_open);
    if (s->layers >= SLOT_LAYER_MAX)
        return err_set(e, ERR_LIMIT, "more than %u layers", SLOT_LAYER_MAX);
    s->claims.layer = s->layers++;
    s->layer_open = true;
    s->second = s->parent_known = false;
    s->ordinal = s->pending_cnt = 0;
    s->known.noting = false;
    return slot_want_begin(s, e);
}

int slot_tree_layer_end(struct slot_tree *s, bool *again, struct err *e)
{
    ASSERT(s->layer_open);
    s->layer_open = false;
    *again = !s->second && s->pending_cnt > 0;
    for (uint32_t i = 0; s->second && i < s->pending_cnt; i++)
        if (s->pending[i].made == 0)
            return err_set(e, ERR_STATE, "the layer was not the same the second time");
    return *again ? 0 : slot_known_mark(s, NULL, e);
}

int slot_tree_layer_again(struct slot_tree *s, struct err *e)
{
    ASSERT(s->root >= 0 && !s->layer_open && s->pending_cnt > 0);
    s->layer_open = s->second = true;
    s->ordinal = 0;
    return slot_want_begin(s, e);
}

/* The TOC takes the name of the one that the last try left. */
static int take_name(struct slot_tree *s, struct err *e)
{
    if (s->toc_new[0] == '\0')
        return 0;
    if (rename(s->toc_new, s->toc_path) != 0 || syncfs(s->toc.fd) != 0)
        return err_errno(e, "TOC: %s", s->toc_path);
    s->toc_new[0] = '\0';
    return 0;
}

int slot_tree_sync(struct slot_tree *s, struct err *e)
{
    int rc = s->ops->sync(s->root, e);
    if (rc == 0)
        rc = toc_sync(&s->toc, e);
    if (rc == 0 && s->known.noting)
        rc = toc_sync(&s->known.toc, e);
    return rc != 0 ? rc : take_name(s, e);
}

/* --- seal ------------------------------------------------------------------------------------------------------- */

/* Also the pass that sums the TOC up. */
static int settle_dirs(struct slot_tree *s, struct err *e)
{
    struct toc_item it;
    uint64_t pos = 0;
    int rc;
    s->stats.nodes = s->toc.live;
    while ((rc = toc_next(&s->toc, &pos, &it, e)) > 0) {
        if (toc_is_live(&it) && (it.r.flags & TOC_WANTED) != 0)
            return err_set(e, ERR_STATE, "%s: its content never came", it.path);
        if (!toc_is_live(&it) || it.r.type != NODE_DIR)
            continue;
        struct node n = toc_node(&it);
        memcpy(s->path, it.path, it.r.path_len + 1u);
        rc = slot_settle_changed(s, s->path, -1, &n, e);
        if (rc != 0)
            return rc;
    }
    return rc;
}

static int lookup_slot(struct path_lookup *l, const char *path, char *target, struct err *e)
{
    struct slot_tree *s = (struct slot_tree *)((char *)l - offsetof(struct slot_tree, lookup));
    struct stat st;
    int dir = path_dirs_open(&s->dirs, path, path_parent_len(path), e);
    if (dir == -ENOENT)
        return PATH_ABSENT;
    if (dir < 0)
        return dir;
    if (fstatat(dir, path_name(path), &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? PATH_ABSENT : err_errno(e, "stat");
    if (!S_ISLNK(st.st_mode))
        return S_ISDIR(st.st_mode) ? PATH_DIR : PATH_OTHER;
    ssize_t n = readlinkat(dir, path_name(path), target, NODE_PATH_MAX - 1);
    if (n < 0)
        return err_errno(e, "readlink");
    target[n] = '\0';
    return PATH_LINK;
}

/* Links are followed as the running system will follow them: inside the slot's root. */
static int check_need(struct slot_tree *s, const char *need, struct err *e)
{
    char found[NODE_PATH_MAX], unused[NODE_PATH_MAX];
    s->lookup.kind = lookup_slot;
    int rc = path_resolve(&s->lookup, need, true, found, e);
    if (rc != 0)
        return err_prefix(e, "needed file %s", need);
    int kind = found[0] == '\0' ? PATH_DIR : lookup_slot(&s->lookup, found, unused, e);
    if (kind < 0)
        return err_prefix(e, "needed file %s", need);
    return kind == PATH_ABSENT ? err_set(e, ERR_POLICY, "the image lacks %s, which this slot needs", need)
                               : 0;
}

static int seal(struct slot_tree *s, const char *const *needs, int needs_cnt, struct err *e)
{
    int rc = s->fresh ? 0 : slot_sweep(s, e);
    if (rc == 0)
        rc = settle_dirs(s, e);
    for (int i = 0; rc == 0 && i < needs_cnt && needs[i] != NULL && needs[i][0] != '\0'; i++)
        rc = check_need(s, needs[i], e);
    if (rc == 0)
        rc = toc_seal(&s->toc, e);
    if (rc == 0)
        rc = take_name(s, e);
    slot_ring_drop(s);
    path_dirs_drop(&s->dirs);
    if (rc == 0)
        rc = s->ops->sync(s->root, e);
    return rc;
}

int slot_tree_seal(struct slot_tree *s, const char *const *needs, int needs_cnt, struct err *e)
{
    ASSERT(s->root >= 0 && !s->layer_open && !s->dry);
    int rc = seal(s, needs, needs_cnt, e);
    if (rc == 0) {
        int root = s->root;
        s->root = -1;
        rc = s->ops->close(root, e);
    }
    if (rc != 0)
        err_prefix(e, "seal");
    slot_tree_abort(s);
    return rc != 0 ? e->code : 0;
}

void slot_tree_abort(struct slot_tree *s)
{
    struct err e;
    slot_ring_drop(s);
    slot_want_drop(s);
    slot_reuse_drop(s);
    slot_known_drop(s);
    path_dirs_drop(&s->dirs);
    toc_close(&s->toc);
    if (s->root >= 0 && s->ops->close(s->root, &e) != 0)
        log_warning("slot: %s", e.text);
    s->root = -1;
    s->layer_open = false;
    s->scrub = NULL;
}

void slot_tree_stats(const struct slot_tree *s, struct slot_tree_stats *out)
{
    *out = s->stats;
}
