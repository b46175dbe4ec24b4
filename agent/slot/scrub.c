#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "slot/priv.h"

/* Of the medium, or of what is on it: not of this process, or of its table. */
static bool is_damage(int code)
{
    return code == ERR_FLASH || code == -EIO || code == -EUCLEAN || code == -EBADMSG || code == -ENODATA;
}

/* The file is there, and looks as recorded. */
static bool looks_sound(struct slot_tree *s, const struct toc_item *it)
{
    struct err e;
    struct stat st;
    int dir = path_dirs_open(&s->dirs, it->path, path_parent_len(it->path), &e);

    return it->r.type == NODE_FILE && dir >= 0 &&
           fstatat(dir, path_name(it->path), &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
           (uint64_t)st.st_size == it->r.size && st.st_mtim.tv_sec == it->r.mtime_s;
}

static void note(struct slot_damage *d, const struct err *what)
{
    if (d->files++ == 0)
        d->first = *what;
}

/* toc_next() has one item at a time, and path lookups may need it. */
static int check(struct slot_tree *s, const struct toc_item *it, bool lenient, struct slot_damage *d,
                 struct err *e)
{
    int rc = slot_check_item(s, it, e);
    bool sound;

    if (!is_damage(rc))
        return rc;
    sound = looks_sound(s, it);
    if (lenient && !sound)
        return 0;
    note(d, e);
    if (sound && d->content_cnt++ < SLOT_DAMAGE_CNT_MAX)
        d->content[d->content_cnt - 1] = it->at;
    return 0;
}

static int scrub(struct slot_tree *s, bool lenient, struct slot_damage *d, struct err *e)
{
    struct toc_item it;
    uint64_t pos = 0;
    int rc;

    while ((rc = toc_next(&s->toc, &pos, &it, e)) > 0) {
        if (!toc_is_live(&it))
            continue;
        if (claims_put(&s->claims, it.path, it.r.path_len, e) == NULL)
            return e->code;
        rc = check(s, &it, lenient, d, e);
        if (rc < 0)
            return rc;
    }
    if (rc == 0 && !lenient && d->files == 0 && is_damage(rc = slot_check_rest(s, e))) {
        note(d, e);
        rc = 0;
    }
    return rc;
}

static int open_table(struct slot_tree *s, const char *toc_path, struct err *e)
{
    slot_tree_abort(s);
    int rc = toc_open(&s->toc, toc_path, e);
    return rc == -ENOENT ? err_set(e, ERR_ABSENT, "nothing is on record of it") : rc;
}

static int open_root(struct slot_tree *s, const struct slot_scrub *how, bool writable, struct err *e)
{
    int rc = 0;
    if (how->active)
        s->root = IO_RETRY(open(how->place, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    else if ((rc = how->ops->open(how->place, writable, &s->root, e)) != 0)
        s->root = -1;
    if (s->root < 0)
        return rc != 0 ? rc : err_errno(e, "%s", how->place);
    s->ops = how->ops;
    s->scrub = how;
    memset(&s->stats, 0, sizeof s->stats);
    claims_reset(&s->claims);
    path_dirs_start(&s->dirs, s->root);
    return 0;
}

int slot_tree_scrub_size(struct slot_tree *s, const char *toc_path, uint64_t *bytes, struct err *e)
{
    struct toc_item it;
    uint64_t pos = 0;
    int rc = open_table(s, toc_path, e);

    *bytes = 0;
    while (rc == 0 && (rc = toc_next(&s->toc, &pos, &it, e)) > 0) {
        *bytes += toc_is_live(&it) && it.r.type == NODE_FILE ? it.r.size : 0;
        rc = 0;
    }
    slot_tree_abort(s);
    return rc;
}

int slot_tree_scrub(struct slot_tree *s, const struct slot_scrub *how, struct slot_damage *out, struct err *e)
{
    int rc = open_table(s, how->toc_path, e);

    *out = (struct slot_damage){0};
    if (rc == 0)
        rc = open_root(s, how, false, e);
    if (rc == 0)
        rc = scrub(s, how->active && how->changes, out, e);
    if (how->active && s->root >= 0) { /* no driver has opened it */
        path_dirs_drop(&s->dirs);
        close(s->root);
        s->root = -1;
    }
    slot_tree_abort(s);
    return rc;
}

static int mark(struct slot_tree *s, uint32_t at, struct err *e)
{
    struct toc_item it;
    struct node n;
    int dir, fd, rc = toc_read(&s->toc, at, &it, e);

    if (rc < 0)
        return rc;
    n = toc_node(&it);
    n.mtime_s++;
    dir = path_dirs_open(&s->dirs, it.path, path_parent_len(it.path), e);
    if (dir < 0 || s->ops->reopen(dir, path_name(it.path), &fd, e) != 0)
        return e->code;
    rc = s->ops->settle(dir, path_name(it.path), fd, &n, e);
    close(fd);
    return rc < 0 ? err_prefix(e, "%s", it.path) : 0;
}

int slot_tree_scrub_mark(struct slot_tree *s, const struct slot_scrub *how, const struct slot_damage *d,
                         struct err *e)
{
    int rc;

    ASSERT(!how->active);
    if (d->content_cnt > SLOT_DAMAGE_CNT_MAX)
        return unlink(how->toc_path) == 0 ? 0 : err_errno(e, "%s", how->toc_path);
    rc = open_table(s, how->toc_path, e);
    if (rc == 0)
        rc = open_root(s, how, true, e);
    for (uint32_t i = 0; rc == 0 && i < d->content_cnt; i++)
        rc = mark(s, d->content[i], e);
    path_dirs_drop(&s->dirs);
    if (rc == 0)
        rc = s->ops->sync(s->root, e);
    slot_tree_abort(s);
    return rc;
}
