/* Content that the slots hold already. A TOC says what was in a slot when it was read back; a file whose size and time
 * are still those of its record is taken for unchanged, which costs no reading, and the read-back at the end finds out
 * whether that was right. Where there is no such record, the file itself is read and its digest decides. What is copied
 * is checked while it is. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "slot/priv.h"

#define SIDE_BIT 0x80000000u
#define TRY_MAX 8 /* places where the same content is looked for */

/* --- the index ----------------------------------------------------------------------------------------------------- */

static void add_layer(struct reuse *r, enum reuse_side side, const struct toc_item *it)
{
    uint32_t *cnt = &r->side[side].layer_cnt;
    if (*cnt < sizeof r->side[side].layers / sizeof r->side[side].layers[0]) {
        r->side[side].layers[*cnt].at = it->at;
        r->side[side].layers[(*cnt)++].id = it->digest;
    }
}

/* The layer that the record at `at` is of; zero: not known. Of a TOC that was cut the last one is not complete, and its
 * records are good only for going on with it. */
static struct digest layer_at(const struct slot_tree *s, enum reuse_side side, uint32_t at)
{
    const struct reuse *r = &s->reuse;
    uint32_t i = r->side[side].layer_cnt;
    bool last_counts = !r->side[side].cut || s->known.resuming;
    while (i > 0 && r->side[side].layers[i - 1].at > at)
        i--;
    if (i == 0 || (i == r->side[side].layer_cnt && !last_counts))
        return (struct digest){{0}};
    return r->side[side].layers[i - 1].id;
}

static int index_side(struct reuse *r, enum reuse_side side, struct err *e)
{
    struct toc *t = &r->side[side].toc;
    struct digest layer = {{0}};
    struct toc_item it;
    uint64_t pos = 0;
    int rc;
    r->side[side].layer_cnt = 0;
    while ((rc = toc_next(t, &pos, &it, e)) > 0) {
        uint32_t where = it.at | (side == REUSE_ACTIVE ? SIDE_BIT : 0);
        if (it.r.type == TOC_LAYER) {
            layer = it.digest;
            add_layer(r, side, &it);
        }
        if (!toc_is_live(&it) || it.r.type != NODE_FILE)
            continue;
        if (!digest_is_zero(&it.digest) || !digest_is_zero(&layer))
            index_add(&r->index, it.path, it.r.path_len, where);
        if (!digest_is_zero(&it.digest))
            index_add(&r->index, &it.digest, sizeof it.digest, where);
    }
    return r->side[side].cut ? 0 : rc;
}

/* Made when the first table of contents asks for it. Of a TOC that turns out damaged at its end, what was believed so
 * far is forgotten too. */
static void make_index(struct slot_tree *s)
{
    struct reuse *r = &s->reuse;
    struct err e;
    r->indexed = true;
    for (;;) {
        bool again = false;
        for (int side = 0; side < REUSE_SIDES && !again; side++) {
            if (r->side[side].toc.fd < 0 || index_side(r, (enum reuse_side)side, &e) == 0)
                continue;
            log_info("list of files of the %s slot: %s", side == REUSE_OLD ? "inactive" : "active", e.text);
            toc_close(&r->side[side].toc);
            again = true;
        }
        if (!again)
            return;
        index_clear(&r->index);
    }
}

void slot_reuse_drop(struct slot_tree *s)
{
    for (int side = 0; side < REUSE_SIDES; side++) {
        path_dirs_drop(&s->reuse.side[side].dirs);
        toc_close(&s->reuse.side[side].toc);
    }
    s->reuse.indexed = false;
    if (s->reuse.side[REUSE_ACTIVE].root >= 0)
        close(s->reuse.side[REUSE_ACTIVE].root);
    s->reuse.side[REUSE_ACTIVE].root = s->reuse.side[REUSE_OLD].root = -1;
    index_clear(&s->reuse.index);
}

void slot_tree_reuse(struct slot_tree *s, const char *active_root, const char *active_toc)
{
    struct reuse *r = &s->reuse;
    struct err e;
    r->side[REUSE_ACTIVE].root = IO_RETRY(open(active_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    path_dirs_start(&r->side[REUSE_ACTIVE].dirs, r->side[REUSE_ACTIVE].root);
    if (r->side[REUSE_ACTIVE].root >= 0 && toc_open(&r->side[REUSE_ACTIVE].toc, active_toc, &e) != 0)
        toc_close(&r->side[REUSE_ACTIVE].toc);
}

static int dir_open(struct slot_tree *s, enum reuse_side side, const char *path)
{
    struct err e;
    struct path_dirs *dirs = side == REUSE_OLD ? &s->dirs : &s->reuse.side[side].dirs;
    return s->reuse.side[side].root < 0 ? -1 : path_dirs_open(dirs, path, path_parent_len(path), &e);
}

/* Is there a regular file of that size at `path`? */
static bool stat_file(struct slot_tree *s, enum reuse_side side, const char *path, uint64_t size,
                      struct stat *st)
{
    int dir = dir_open(s, side, path);
    return dir >= 0 && fstatat(dir, path_name(path), st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st->st_mode) &&
           (uint64_t)st->st_size == size;
}

int slot_reuse_open(struct slot_tree *s, enum reuse_side side, const char *path, struct stat *st)
{
    int dir = dir_open(s, side, path);
    int fd = dir < 0 ? -1
                     : IO_RETRY(openat(dir, path_name(path),
                                       O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOATIME | O_NONBLOCK));
    if (fd >= 0 && fstat(fd, st) == 0 && S_ISREG(st->st_mode))
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static void forget(int fd)
{
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

/* --- a file --------------------------------------------------------------------------------------------------------- */

static bool same_digest(const struct digest *a, const struct digest *b)
{
    return digest_compare(a, b) == VERDICT_MATCH;
}

static bool is_untouched(const struct toc_item *it, const struct stat *st)
{
    return (uint64_t)st->st_size == it->r.size && st->st_mtim.tv_sec == it->r.mtime_s &&
           (uint32_t)st->st_mtim.tv_nsec == it->r.mtime_ns;
}

/* The record of `path` on one side: true and *it. */
static bool find_path(struct slot_tree *s, enum reuse_side side, const char *path, struct toc_item *it)
{
    struct err e;
    uint32_t at = UINT32_MAX, where;
    size_t len = strlen(path);
    while (index_find(&s->reuse.index, path, len, &at, &where))
        if ((where & SIDE_BIT) == (side == REUSE_ACTIVE ? SIDE_BIT : 0) &&
            toc_read(&s->reuse.side[side].toc, where & ~SIDE_BIT, it, &e) == 0 && strcmp(it->path, path) == 0)
            return true;
    return false;
}

/* Is the file the wanted one? By its record if it is as that says, else by reading it. Of a layer that was streamed before,
 * only the record can tell. */
static int is_wanted(struct slot_tree *s, enum reuse_side side, const char *path, struct stat *st,
                     const struct entry_place *place, uint64_t *xxh64, struct err *e)
{
    const struct digest *of = s->known.of;
    struct toc_item it;
    struct digest got;
    struct sum sum;
    int fd;
    bool recorded = find_path(s, side, path, &it) && is_untouched(&it, st);
    if (recorded)
        *xxh64 = it.r.xxh64;
    if (of != NULL) {
        struct digest layer = recorded ? layer_at(s, side, it.at) : (struct digest){{0}};
        return recorded && same_digest(&layer, of);
    }
    if (recorded && !digest_is_zero(&it.digest) && !s->reuse.side[side].cut)
        return same_digest(&it.digest, &place->digest);
    fd = slot_reuse_open(s, side, path, st);
    if (fd < 0)
        return 0;
    sum_begin(&sum);
    int rc = range_digest(&s->range, fd, 0, (uint64_t)st->st_size, &got, &sum, e);
    *xxh64 = sum_end(&sum);
    forget(fd);
    return rc != 0 ? rc : same_digest(&got, &place->digest);
}

/* The slot's own file at this path. */
static int keep(struct slot_tree *s, const char *path, const struct node *n, const struct entry_place *place,
                struct file_got *got, struct err *e)
{
    struct stat st;
    int rc = !s->fresh && stat_file(s, REUSE_OLD, path, n->size, &st)
                 ? is_wanted(s, REUSE_OLD, path, &st, place, &got->xxh64, e)
                 : 0;
    if (rc > 0)
        rc = slot_stay(s, path, n, &st, e); /* 0: it had to give way, for its inode serves another name */
    if (rc <= 0)
        return rc;
    s->stats.bytes.kept += n->size;
    s->stats.found.files_kept++;
    s->stats.found.kept += n->size;
    rc = slot_settle_changed(s, path, -1, n, e);
    return rc != 0 ? rc : 1;
}

/* 1, or 0 when `source` turned out not to be what it should. */
static int copy_from(struct slot_tree *s, int source, const char *path, const struct node *n,
                     const struct entry_place *place, struct file_got *got, struct err *e)
{
    struct digest digest;
    struct hash h;
    struct sum sum;
    struct compare k = {.digest = s->known.of == NULL ? &h : NULL, .sum = &sum, .dry = s->dry};
    uint64_t xxh64 = got->xxh64, old = 0, before = s->stats.bytes.written;
    int fd = -1, rc = slot_place(s, path, n, &fd, &old, e);
    if (rc != 0)
        return rc;
    hash_begin(&h);
    sum_begin(&sum);
    rc = range_copy(&s->range, source, 0, fd, 0, n->size, old, &k, e);
    hash_end(&h, &digest);
    got->xxh64 = sum_end(&sum);
    bool same = s->known.of != NULL ? got->xxh64 == xxh64 : same_digest(&digest, &place->digest);
    if (rc != 0 || !(same || (s->dry && old == 0))) {
        if (fd >= 0)
            close(fd);
        return rc == ERR_FLASH ? 0 : rc;
    }
    s->stats.found.files_copied++;
    s->stats.found.copied += n->size;
    rc = slot_settle_changed(s, path, fd, n, e);
    if (rc == 0)
        rc = slot_let_go(s, fd, n->size, s->stats.bytes.written > before, e);
    else
        close(fd);
    return rc != 0 ? rc : 1;
}

/* The active slot's file at this path. */
static int copy_same_path(struct slot_tree *s, const char *path, const struct node *n,
                          const struct entry_place *place, struct file_got *got, struct err *e)
{
    struct stat st;
    int fd = -1, rc = stat_file(s, REUSE_ACTIVE, path, n->size, &st)
                          ? is_wanted(s, REUSE_ACTIVE, path, &st, place, &got->xxh64, e)
                          : 0;
    if (rc > 0)
        fd = slot_reuse_open(s, REUSE_ACTIVE, path, &st);
    if (fd >= 0) {
        rc = copy_from(s, fd, path, n, place, got, e);
        forget(fd);
    } else if (rc > 0) {
        rc = 0;
    }
    return rc == ERR_FLASH ? 0 : rc;
}

/* Under another name, in either slot. */
static int copy_same_digest(struct slot_tree *s, const char *path, const struct node *n,
                            const struct entry_place *place, struct file_got *got, struct err *e)
{
    char name[NODE_PATH_MAX];
    uint32_t at = UINT32_MAX, where;
    int rc = 0;
    for (int i = 0; rc == 0 && i < TRY_MAX; i++) {
        struct toc_item it;
        struct stat st;
        if (!index_find(&s->reuse.index, &place->digest, sizeof place->digest, &at, &where))
            break;
        enum reuse_side side = (where & SIDE_BIT) != 0 ? REUSE_ACTIVE : REUSE_OLD;
        if (toc_read(&s->reuse.side[side].toc, where & ~SIDE_BIT, &it, e) != 0 ||
            !same_digest(&it.digest, &place->digest) || strcmp(it.path, path) == 0)
            continue;
        memcpy(name, it.path, it.r.path_len + 1u);
        int fd = slot_reuse_open(s, side, name, &st);
        if (fd < 0)
            continue;
        if ((uint64_t)st.st_size == n->size)
            rc = copy_from(s, fd, path, n, place, got, e);
        forget(fd);
    }
    return rc;
}

int slot_reuse_file(struct slot_tree *s, const char *path, const struct node *n,
                    const struct entry_place *place, struct file_got *got, struct err *e)
{
    if (!s->reuse.indexed)
        make_index(s);
    int rc = keep(s, path, n, place, got, e);
    if (rc == 0)
        rc = copy_same_path(s, path, n, place, got, e);
    if (rc == 0 && s->known.of == NULL)
        rc = copy_same_digest(s, path, n, place, got, e);
    return rc;
}

static bool begins(struct slot_tree *s, int fd, uint64_t len, uint64_t xxh64)
{
    struct sum sum;
    struct err e;
    sum_begin(&sum);
    return range_digest(&s->range, fd, 0, len, NULL, &sum, &e) == 0 && sum_end(&sum) == xxh64;
}

bool slot_reuse_begins(struct slot_tree *s, const char *path, uint64_t len, uint64_t xxh64)
{
    struct stat st;
    int fd = slot_reuse_open(s, REUSE_OLD, path, &st);
    if (fd < 0)
        return false;
    bool has = begins(s, fd, len, xxh64);
    forget(fd);
    return has;
}

bool slot_reuse_has(struct slot_tree *s, const char *path, uint64_t size, const struct digest *id)
{
    if (!s->reuse.indexed)
        make_index(s);
    for (int i = 0; i < REUSE_SIDES; i++) {
        enum reuse_side side = (enum reuse_side)i;
        struct toc_item it;
        struct stat st;
        if (!find_path(s, side, path, &it) || it.r.size != size)
            continue;
        struct digest layer = layer_at(s, side, it.at);
        int fd = same_digest(&layer, id) ? slot_reuse_open(s, side, path, &st) : -1;
        if (fd < 0)
            continue;
        bool has = is_untouched(&it, &st) && (!s->reuse.side[side].cut || begins(s, fd, size, it.r.xxh64));
        forget(fd);
        if (has)
            return true;
    }
    return false;
}
