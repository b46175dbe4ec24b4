/* What an entry of a layer means (agent/DESIGN.md, "Stacking").
 *
 * The path is first made literal: links of the same layer are followed inside that layer's root. Then the claims say
 * whether an upper layer hides it. Hidden nodes still count within their layer: later entries may go through a hidden
 * symlink, or link to a hidden file.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "slot/priv.h"

#define WARNINGS_MAX 8 /* of an install: the log is not an image's to fill */

/* Add the record of a node that stands (or will stand) at the claim's path. */
static int note(struct slot_tree *s, struct claim *p, const char *path, const struct node *n, uint8_t type,
                uint8_t flags, struct err *e)
{
    if ((flags & TOC_HIDDEN) == 0)
        p->present = 1;
    return toc_add(&s->toc, path, n, type, flags, 0, NULL, &p->toc, e);
}

static const struct node implicit_dir = {.type = NODE_DIR, .mode = 0755};

static bool hides_inside(const struct claim *p)
{
    return p != NULL && (p->upper == UPPER_OTHER || p->upper == UPPER_GONE || p->upper == UPPER_CLOSED);
}

static bool is_nondir(const struct claim *p)
{
    return p->own != OWN_NONE && p->own != OWN_DIR;
}

/* A symlink's record may be a hard link to the one that has the target. */
static int read_link_target(struct slot_tree *s, const struct claim *p, char *target, struct err *e)
{
    struct toc_item it;
    int rc = toc_read(&s->toc, p->toc, &it, e);
    if (rc == 0 && it.r.type == TOC_HARDLINK) {
        const struct claim *first = claims_find(&s->claims, it.target, it.r.target_len);
        rc =
            first != NULL ? toc_read(&s->toc, first->toc, &it, e) : err_set(e, ERR_POLICY, "link to nothing");
    }
    if (rc != 0)
        return rc;
    if (it.r.type != NODE_SYMLINK || it.r.target_len == 0)
        return err_set(e, ERR_POLICY, "%s: symlink without target", it.path);
    memcpy(target, it.target, it.r.target_len + 1u);
    return 0;
}

int slot_lookup_layer(struct path_lookup *l, const char *path, char *target, struct err *e)
{
    struct slot_tree *s = (struct slot_tree *)((char *)l - offsetof(struct slot_tree, lookup));
    const struct claim *p = claims_find(&s->claims, path, strlen(path));
    if (p == NULL || p->own == OWN_NONE)
        return PATH_ABSENT;
    if (p->own == OWN_DIR)
        return PATH_DIR;
    if (p->own != OWN_SYMLINK)
        return PATH_OTHER;
    int rc = read_link_target(s, p, target, e);
    return rc != 0 ? rc : PATH_LINK;
}

/* Directory `path` belongs to the present layer from now on; make it where it shows. */
static int own_dir(struct slot_tree *s, const char *path, size_t len, bool hidden, struct claim *p,
                   struct err *e)
{
    bool is_new = p->own == OWN_NONE;
    char buf[NODE_PATH_MAX];
    p->own = OWN_DIR;
    if (!is_new || hidden || p->upper != UPPER_NONE)
        return 0;
    memcpy(buf, path, len);
    buf[len] = '\0';
    int rc = slot_place(s, buf, &implicit_dir, NULL, NULL, e);
    if (rc != 0)
        return rc;
    p->implicit = 1;
    return note(s, p, buf, &implicit_dir, NODE_DIR, 0, e);
}

/* Make s->parent, and find out whether what is in it can show. */
static int own_parents(struct slot_tree *s, struct err *e)
{
    const char *path = s->parent;
    size_t len = 0;
    bool hidden = hides_inside(claims_find(&s->claims, "", 0));

    while (path[len] != '\0') {
        len += path[len] == '/';
        len += strcspn(path + len, "/");
        struct claim *p = claims_put(&s->claims, path, len, e);
        if (p == NULL)
            return e->code;
        if (is_nondir(p))
            return err_set(e, ERR_POLICY, "parent is not a directory: want a directory, got %.*s", (int)len,
                           path);
        int rc = own_dir(s, path, len, hidden, p, e);
        if (rc != 0)
            return rc;
        hidden = hidden || hides_inside(p);
    }
    s->parent_hidden = hidden;
    return 0;
}

/* Enter the directory that the layer calls raw[0..len). Siblings come in a row, so the last one is remembered. */
static int enter(struct slot_tree *s, const char *raw, size_t len, struct err *e)
{
    if (s->parent_known && strlen(s->parent_raw) == len && memcmp(s->parent_raw, raw, len) == 0)
        return 0;
    s->parent_known = false;
    memcpy(s->parent_raw, raw, len);
    s->parent_raw[len] = '\0';
    int rc = path_resolve(&s->lookup, s->parent_raw, true, s->parent, e);
    if (rc == 0)
        rc = own_parents(s, e);
    s->parent_known = rc == 0;
    return rc;
}

static bool is_hidden(const struct slot_tree *s, const struct claim *p, bool is_dir)
{
    if (s->parent_hidden || p->upper == UPPER_OTHER || p->upper == UPPER_GONE)
        return true;
    return !is_dir && (p->upper == UPPER_DIR || p->upper == UPPER_CLOSED);
}

/* --- the same path again in one layer ----------------------------------------------------------------------------- */

static int drop_dir(struct slot_tree *s, struct claim *p, struct err *e)
{
    if (p->upper == UPPER_DIR || p->upper == UPPER_CLOSED)
        return err_set(e, ERR_POLICY, "a directory turns into something else within a layer");
    if (is_hidden(s, p, true))
        return 0;
    int rc = slot_sweep_dir(s, s->path, e);
    if (rc == 0)
        rc = slot_remove(s, s->path, true, e);
    if (rc == -ENOTEMPTY || rc == -EEXIST)
        return err_set(e, ERR_POLICY,
                       "a directory that is not empty turns into something else within a layer");
    p->present = 0;
    return rc != 0 ? rc : toc_kill(&s->toc, p->toc, e);
}

/* Does a later hard link lead to s->path? Rare enough to read all records for it. */
static int has_links(struct slot_tree *s, uint8_t type, struct err *e)
{
    struct toc_item it;
    uint64_t pos = 0;
    int rc = 1;
    while (type != TOC_HARDLINK && (rc = toc_next(&s->toc, &pos, &it, e)) > 0)
        if (it.r.type == TOC_HARDLINK && toc_is_live(&it) && strcmp(it.target, s->path) == 0)
            break;
    return rc;
}

static int drop_other(struct slot_tree *s, struct claim *p, struct err *e)
{
    if (is_hidden(s, p, false))
        return 0;
    struct toc_item it;
    int rc = toc_read(&s->toc, p->toc, &it, e);
    if (rc != 0)
        return rc;
    if ((it.r.flags & TOC_PENDING) == 0) {
        rc = has_links(s, it.r.type, e);
        if (rc > 0)
            return err_set(e, ERR_POLICY, "a file with hard links comes twice in a layer");
        if (rc == 0)
            rc = slot_remove(s, s->path, false, e);
        if (rc != 0)
            return rc;
    }
    p->present = 0;
    return toc_kill(&s->toc, p->toc, e);
}

/* Make room for a non-directory, or for a directory where a non-directory is. */
static int drop_earlier(struct slot_tree *s, struct claim *p, struct err *e)
{
    if (p->own == OWN_NONE)
        return 0;
    s->known.noting = s->parent_known = false;
    int rc = p->own == OWN_DIR ? drop_dir(s, p, e) : drop_other(s, p, e);
    p->own = OWN_NONE;
    p->opaque = 0;
    p->implicit = 0;
    return rc;
}

/* --- entries -------------------------------------------------------------------------------------------------------- */

static int apply_dir(struct slot_tree *s, struct claim *p, const struct node *n, struct err *e)
{
    uint32_t old = p->toc;
    if (is_nondir(p)) {
        int rc = drop_earlier(s, p, e);
        if (rc != 0)
            return rc;
    }
    bool ours = p->own == OWN_DIR, hidden = is_hidden(s, p, true);
    p->own = OWN_DIR;
    if (hidden || (p->upper != UPPER_NONE && !p->implicit))
        return 0;
    int rc = 0;
    if (ours || p->upper != UPPER_NONE)
        rc = toc_kill(&s->toc, old, e);
    else
        rc = slot_place(s, s->path, n, NULL, NULL, e);
    if (rc == 0)
        rc = note(s, p, s->path, n, NODE_DIR, 0, e);
    p->implicit = 0;
    return rc;
}

static enum claim_own own_of(enum node_type type)
{
    switch (type) {
    case NODE_FILE:
        return OWN_FILE;
    case NODE_SYMLINK:
        return OWN_SYMLINK;
    default:
        return OWN_SPECIAL;
    }
}

static int skip(struct slot_tree *s, struct content *c, struct err *e)
{
    struct entry_end end;
    if (c == NULL)
        return err_set(e, ERR_SIZE, "file without content");
    if (!s->second)
        s->stats.bytes.kept += c->left;
    return c->place != NULL ? 0 : content_end(c, &end, e);
}

/* The file at `path`, its record and, where that is to come, the demand for its content. */
static int add_file(struct slot_tree *s, const char *path, const struct node *n, struct content *c,
                    uint32_t *at, struct err *e)
{
    struct file_got got;
    int rc = slot_write_file(s, path, n, c, &got, e);
    if (rc == 0)
        rc = toc_add(&s->toc, path, n, NODE_FILE, got.wanted ? TOC_WANTED : 0, got.xxh64, &got.digest, at, e);
    if (rc == 0 && got.wanted)
        slot_want_add(s, *at, n->size, c->place);
    return rc;
}

static int make_settled(struct slot_tree *s, const char *path, const struct node *n, struct err *e)
{
    int rc = slot_place(s, path, n, NULL, NULL, e);
    return rc != 0 ? rc : slot_settle_changed(s, path, -1, n, e);
}

/* As Docker and podman show it, and seldom what was meant: above a symlink bin -> usr/bin, a layer with bin/new has a
 * directory bin. */
static void warn_of_directory(struct slot_tree *s, const struct claim *p, const struct node *n)
{
    if (n->type == NODE_SYMLINK && !s->parent_hidden && p->upper != UPPER_GONE && p->upper != UPPER_OTHER &&
        s->warnings++ < WARNINGS_MAX)
        log_warning("%s: a directory of an upper layer takes the place of this link to %s", s->path,
                    n->target);
}

static int apply_other(struct slot_tree *s, struct claim *p, const struct node *n, struct content *c,
                       struct err *e)
{
    int rc = drop_earlier(s, p, e);
    if (rc != 0)
        return rc;
    p->own = own_of(n->type);
    bool hidden = is_hidden(s, p, false);
    if (hidden && n->type == NODE_FILE) {
        p->toc = s->ordinal;
        return skip(s, c, e);
    }
    if (n->type == NODE_FILE) {
        rc = add_file(s, s->path, n, c, &p->toc, e);
        p->present = rc == 0;
        return rc;
    }
    if (hidden)
        warn_of_directory(s, p, n);
    else
        rc = make_settled(s, s->path, n, e);
    if (rc != 0)
        return rc;
    return note(s, p, s->path, n, (uint8_t)n->type, hidden ? TOC_HIDDEN : 0, e);
}

/* --- hard links ----------------------------------------------------------------------------------------------------- */

struct link_target {
    enum claim_own own;
    bool hidden;
    uint32_t toc;     /* of a visible node or a hidden one that is no file */
    uint32_t ordinal; /* of a file whose content is to come */
    bool pending;
};

bool slot_path_is_hidden(struct slot_tree *s, const char *path)
{
    size_t len = path_parent_len(path);
    for (;;) {
        if (hides_inside(claims_find(&s->claims, path, len)))
            return true;
        if (len == 0)
            break;
        while (len > 0 && path[len - 1] != '/')
            len--;
        len -= len > 0;
    }
    const struct claim *p = claims_find(&s->claims, path, strlen(path));
    return p != NULL && p->upper != UPPER_NONE;
}

/* s->other is the target, links of its parents followed. */
static int find_target(struct slot_tree *s, const char *raw, struct link_target *t, struct err *e)
{
    int rc = path_resolve(&s->lookup, raw, false, s->other, e);
    if (rc != 0)
        return rc;
    s->known.noting &= strcmp(s->other, raw) == 0;
    if (strcmp(s->other, s->path) == 0)
        return err_set(e, ERR_POLICY, "hard link: want an earlier file, got itself");
    const struct claim *p = claims_find(&s->claims, s->other, strlen(s->other));
    if (p == NULL || p->own == OWN_NONE)
        return err_set(e, ERR_POLICY, "hard link: want an earlier file of this layer, got nothing at %s",
                       raw);
    if (p->own == OWN_DIR)
        return err_set(e, ERR_POLICY, "hard link: want a file, got directory %s", raw);
    if (p->opaque)
        return err_set(e, ERR_POLICY, "hard link: want a file, got %s which this layer whites out", raw);
    *t = (struct link_target){.own = p->own, .toc = p->toc, .hidden = slot_path_is_hidden(s, s->other)};
    if (t->own == OWN_ALIAS) {
        t->own = OWN_FILE;
        t->hidden = false;
    }
    if (t->hidden && t->own == OWN_FILE) {
        t->pending = true;
        t->ordinal = p->toc;
        return 0;
    }
    struct toc_item it;
    rc = toc_read(&s->toc, t->toc, &it, e);
    if (rc != 0)
        return rc;
    if ((it.r.flags & TOC_DEAD) != 0)
        return err_set(e, ERR_POLICY, "hard link: want a file, got %s which was replaced", raw);
    t->pending = (it.r.flags & TOC_PENDING) != 0;
    t->ordinal = (uint32_t)it.r.size;
    /* Always the node itself, never a link to it, so that a reader has one step to go. */
    if (!t->pending)
        memcpy(s->other, it.r.type == TOC_HARDLINK ? it.target : it.path,
               (it.r.type == TOC_HARDLINK ? it.r.target_len : it.r.path_len) + 1u);
    return 0;
}

static int link_pending(struct slot_tree *s, struct claim *p, const struct link_target *t, struct err *e)
{
    const struct node n = {.type = NODE_FILE, .size = t->ordinal};
    if (s->pending_cnt >= CONFIG_SLOT_HARDLINK_PENDING_MAX)
        return err_set(e, ERR_LIMIT,
                       "more than %u hard links to files that upper layers hide, this build takes %u",
                       s->pending_cnt, (unsigned)CONFIG_SLOT_HARDLINK_PENDING_MAX);
    int rc = note(s, p, s->path, &n, TOC_HARDLINK, TOC_PENDING, e);
    if (rc == 0)
        s->pending[s->pending_cnt++] = (struct pending){.toc = p->toc, .ordinal = t->ordinal};
    return rc;
}

/* A hidden symlink or device has no content to wait for: it is made anew. */
static int link_copy(struct slot_tree *s, struct claim *p, const struct link_target *t, struct err *e)
{
    struct toc_item it;
    int rc = toc_read(&s->toc, t->toc, &it, e);
    if (rc != 0)
        return rc;
    struct node n = toc_node(&it);
    rc = make_settled(s, s->path, &n, e);
    return rc != 0 ? rc : note(s, p, s->path, &n, it.r.type, 0, e);
}

static int link_hidden(struct claim *p, const struct link_target *t)
{
    bool alias = t->own == OWN_FILE && !t->hidden && !t->pending;
    p->own = alias ? OWN_ALIAS : t->own;
    p->toc = t->pending ? t->ordinal : t->toc;
    return 0;
}

static int apply_link(struct slot_tree *s, struct claim *p, const char *raw, struct err *e)
{
    struct link_target t = {0};
    int rc = find_target(s, raw, &t, e);
    if (rc != 0)
        return rc;
    rc = drop_earlier(s, p, e);
    if (rc != 0)
        return rc;
    if (is_hidden(s, p, false))
        return link_hidden(p, &t);
    p->own = t.own;
    if (t.pending)
        return link_pending(s, p, &t, e);
    if (t.hidden)
        return link_copy(s, p, &t, e);
    rc = slot_place_link(s, s->other, s->path, e);
    if (rc != 0)
        return rc;
    const struct node n = {.target = s->other};
    return note(s, p, s->path, &n, TOC_HARDLINK, 0, e);
}

/* Content that links of the first pass wait for: the first live one gets it, the others are linked to that. */
int slot_second_pass(struct slot_tree *s, const struct entry *en, struct content *c, struct err *e)
{
    bool have = false;
    if (en->type != ENTRY_NODE || en->node.type != NODE_FILE)
        return 0;
    for (uint32_t i = 0; i < s->pending_cnt; i++) {
        struct pending *w = &s->pending[i];
        struct toc_item it;
        if (w->ordinal != s->ordinal)
            continue;
        int rc = toc_read(&s->toc, w->toc, &it, e);
        if (rc != 0)
            return rc;
        w->made = 1;
        if (!toc_is_live(&it))
            continue;
        memcpy(s->path, it.path, it.r.path_len + 1u);
        rc = toc_kill(&s->toc, w->toc, e);
        uint32_t at = 0;
        const struct node link = {.target = s->other};
        if (rc == 0 && !have)
            rc = add_file(s, s->path, &en->node, c, &at, e);
        else if (rc == 0 && (rc = slot_place_link(s, s->other, s->path, e)) == 0)
            rc = toc_add(&s->toc, s->path, &link, TOC_HARDLINK, 0, 0, NULL, &at, e);
        if (rc != 0)
            return rc;
        if (!have)
            memcpy(s->other, s->path, strlen(s->path) + 1);
        have = true;
    }
    return have ? 0 : skip(s, c, e);
}

/* --- dispatch ------------------------------------------------------------------------------------------------------- */

static int apply_root(struct slot_tree *s, const struct entry *en, struct err *e)
{
    struct claim *p = claims_put(&s->claims, "", 0, e);
    if (p == NULL)
        return e->code;
    if (en->type != ENTRY_NODE || en->node.type != NODE_DIR)
        return err_set(e, ERR_POLICY, "the root is not a directory");
    s->path[0] = '\0';
    s->parent_hidden = false;
    s->parent_known = false;
    return apply_dir(s, p, &en->node, e);
}

static int apply_opaque(struct slot_tree *s, const struct entry *en, struct err *e)
{
    int rc = enter(s, en->path, strlen(en->path), e);
    if (rc != 0)
        return rc;
    struct claim *p = claims_put(&s->claims, s->parent, strlen(s->parent), e);
    if (p == NULL)
        return e->code;
    p->own = OWN_DIR;
    p->opaque = 1;
    return 0;
}

static int apply(struct slot_tree *s, const struct entry *en, struct content *c, struct err *e)
{
    if (en->type == ENTRY_OPAQUE)
        return apply_opaque(s, en, e);
    if (en->path[0] == '\0')
        return apply_root(s, en, e);
    int rc = enter(s, en->path, path_parent_len(en->path), e);
    if (rc == 0)
        rc = path_join(s->path, s->parent, path_name(en->path), e);
    if (rc != 0)
        return rc;
    struct claim *p = claims_put(&s->claims, s->path, strlen(s->path), e);
    if (p == NULL)
        return e->code;
    if (c != NULL && c->place != NULL && is_nondir(p) && en->type != ENTRY_WHITEOUT)
        return err_set(e, ERR_POLICY, "comes twice in the table of contents");
    if (en->type == ENTRY_WHITEOUT) {
        p->whiteout = 1;
        p->opaque |= is_nondir(p);
        return 0;
    }
    if (en->type == ENTRY_HARDLINK)
        return en->node.target != NULL ? apply_link(s, p, en->node.target, e)
                                       : err_set(e, ERR_POLICY, "hard link without target");
    if (en->node.type == NODE_DIR)
        return apply_dir(s, p, &en->node, e);
    return apply_other(s, p, &en->node, c, e);
}

int slot_tree_entry(struct slot_tree *s, const struct entry *en, struct content *c, struct err *e)
{
    ASSERT(s->layer_open);
    s->ordinal++;
    int rc = slot_want_close(s, e);
    if (rc == 0)
        rc = s->second ? slot_second_pass(s, en, c, e) : apply(s, en, c, e);
    s->stats.claims = s->claims.used;
    if (rc == 0 && !s->second)
        slot_known_note(s, en);
    if (rc != 0 && strncmp(e->text, en->path, strlen(en->path)) != 0)
        err_prefix(e, "%s", en->path);
    return rc != 0 ? e->code : 0;
}
