/* Appending goes through a buffer, reading through a window that holds any one record. */
#include "slot/toc.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"

struct toc_head {
    char magic[8];
    uint32_t version;
    uint32_t zero[5];
};
_Static_assert(sizeof(struct toc_head) == TOC_HEAD_LEN, "FORMAT.md says 32");

static const struct toc_head head = {.magic = "SLIPTOC", .version = TOC_VERSION};

struct toc_trailer {
    uint32_t len;
    uint8_t type, zero[3];
    uint32_t live, records;
    uint64_t xxh64; /* of the records before */
    uint64_t zero2;
};
_Static_assert(sizeof(struct toc_trailer) == 32, "FORMAT.md says 32");

int toc_flush(struct toc *t, struct err *e)
{
    if (t->buf_len == 0)
        return 0;
    if (io_pwrite_full(t->fd, t->buf, t->buf_len, (off_t)t->flushed) != 0)
        return err_errno(e, "TOC: write");
    t->flushed += t->buf_len;
    t->buf_len = 0;
    return 0;
}

int toc_sync(struct toc *t, struct err *e)
{
    int rc = toc_flush(t, e);
    if (rc == 0 && IO_RETRY(fsync(t->fd)) != 0)
        rc = err_errno(e, "TOC: fsync");
    return rc;
}

static int append(struct toc *t, const void *data, size_t len, struct err *e)
{
    const uint8_t *p = data;
    sum_update(&t->put, data, len);
    while (len > 0) {
        size_t n = sizeof t->buf - t->buf_len < len ? sizeof t->buf - t->buf_len : len;
        memcpy(t->buf + t->buf_len, p, n);
        t->buf_len += (uint32_t)n;
        t->end += n;
        p += n;
        len -= n;
        if (t->buf_len == sizeof t->buf) {
            int rc = toc_flush(t, e);
            if (rc != 0)
                return rc;
        }
    }
    return 0;
}

static void start(struct toc *t, int fd)
{
    t->fd = fd;
    t->end = t->flushed = t->limit = 0;
    t->records = t->live = t->buf_len = 0;
    t->window_at = 0;
    t->window_len = 0;
    sum_begin(&t->sum);
    sum_begin(&t->put);
}

int toc_create_fd(struct toc *t, int fd, uint32_t max, struct err *e)
{
    start(t, fd);
    t->limit = (uint64_t)max * 512;
    int rc = append(t, &head, sizeof head, e);
    sum_begin(&t->put);
    return rc;
}

int toc_create(struct toc *t, const char *path, uint32_t max, struct err *e)
{
    /* A reader of the old one may keep it open, to find what is worth keeping. */
    if (unlink(path) != 0 && errno != ENOENT)
        return err_errno(e, "TOC: %s", path);
    int fd = IO_RETRY(open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (fd < 0)
        return err_errno(e, "TOC: %s", path);
    return toc_create_fd(t, fd, max, e);
}

int toc_add(struct toc *t, const char *path, const struct node *n, uint8_t type, uint8_t flags,
            uint64_t xxh64, const struct digest *digest, uint32_t *at, struct err *e)
{
    static const uint8_t zeros[TOC_ALIGN];
    const char *target = n->target != NULL ? n->target : "";
    size_t path_len = strlen(path), target_len = strlen(target);
    if (path_len >= NODE_PATH_MAX || target_len >= NODE_PATH_MAX || n->xattr_len > TOC_XATTR_MAX)
        return err_set(e, ERR_LIMIT, "path, target or attributes are too long");

    bool known = digest != NULL && !digest_is_zero(digest);
    size_t digest_len = known ? sizeof *digest : 0;
    size_t bytes = sizeof(struct toc_rec) + path_len + 1 + target_len + 1 + n->xattr_len + digest_len;
    size_t len = (bytes + TOC_ALIGN - 1) / TOC_ALIGN * TOC_ALIGN;
    if (t->end + len > t->limit)
        return err_set(e, ERR_LIMIT, "the list of files takes more than %llu bytes",
                       (unsigned long long)t->limit);
    struct toc_rec r = {
        .len = (uint32_t)len,
        .type = type,
        .flags = flags | (known ? TOC_DIGEST : 0),
        .path_len = (uint16_t)path_len,
        .mode = n->mode,
        .uid = n->uid,
        .gid = n->gid,
        .dev_major = n->dev_major,
        .dev_minor = n->dev_minor,
        .mtime_ns = n->mtime_ns,
        .mtime_s = n->mtime_s,
        .size = n->size,
        .xxh64 = xxh64,
        .target_len = (uint16_t)target_len,
        .xattr_cnt = n->xattr_cnt,
        .xattr_len = n->xattr_len,
    };
    *at = (uint32_t)(t->end / TOC_ALIGN);
    int rc = append(t, &r, sizeof r, e);
    if (rc == 0)
        rc = append(t, path, path_len + 1, e);
    if (rc == 0)
        rc = append(t, target, target_len + 1, e);
    if (rc == 0 && n->xattr_len > 0)
        rc = append(t, n->xattrs, n->xattr_len, e);
    if (rc == 0 && known)
        rc = append(t, digest, sizeof *digest, e);
    if (rc == 0)
        rc = append(t, zeros, len - bytes, e);
    if (rc != 0)
        return rc;
    t->records++;
    if ((flags & (TOC_DEAD | TOC_HIDDEN)) == 0)
        t->live++;
    return 0;
}

int toc_kill(struct toc *t, uint32_t at, struct err *e)
{
    struct toc_item it;
    int rc = toc_read(t, at, &it, e);
    if (rc != 0)
        return rc;
    if (toc_is_live(&it))
        t->live--;
    uint8_t flags = it.r.flags | TOC_DEAD;
    off_t off = (off_t)at * TOC_ALIGN + (off_t)offsetof(struct toc_rec, flags);
    t->window_len = 0;
    if (io_pwrite_full(t->fd, &flags, 1, off) != 0)
        return err_errno(e, "TOC: write");
    return 0;
}

int toc_fill(struct toc *t, uint32_t at, uint64_t xxh64, struct err *e)
{
    struct toc_item it;
    off_t off = (off_t)at * TOC_ALIGN;
    int rc = toc_read(t, at, &it, e);
    if (rc != 0)
        return rc;
    it.r.xxh64 = xxh64;
    it.r.flags &= (uint8_t)~TOC_WANTED;
    t->window_len = 0;
    if (io_pwrite_full(t->fd, &it.r, sizeof it.r, off) != 0)
        return err_errno(e, "TOC: write");
    return 0;
}

int toc_open(struct toc *t, const char *path, struct err *e)
{
    int fd = IO_RETRY(open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (fd < 0)
        return err_errno(e, "TOC: %s", path);
    start(t, fd);
    off_t end = lseek(fd, 0, SEEK_END);
    if (end < 0)
        return err_errno(e, "TOC: %s", path);
    struct toc_head h;
    ssize_t got = io_pread_full(fd, &h, sizeof h, 0);
    if (got < 0)
        return err_errno(e, "TOC: read");
    if (got != (ssize_t)sizeof h || memcmp(&h, &head, sizeof h) != 0)
        return err_set(e, ERR_FORMAT, "TOC: %s is not a list of files of this version", path);
    t->end = t->flushed = (uint64_t)end;
    return 0;
}

/* Have `need` bytes at `off` in the window. Returns them, or NULL. */
static const uint8_t *view(struct toc *t, uint64_t off, size_t need, struct err *e)
{
    if (t->window_len > 0 && off >= t->window_at && off + need <= t->window_at + t->window_len)
        return t->window + (off - t->window_at);
    /* Who reads on wants what follows; who jumps about, one record. */
    bool reads_on = off >= t->window_at && off - t->window_at <= sizeof t->window;
    size_t len = reads_on || need > 1024 ? sizeof t->window : 1024;
    t->window_len = 0;
    if (off + need > t->flushed && toc_flush(t, e) != 0)
        return NULL;
    ssize_t got = io_pread_full(t->fd, t->window, len, (off_t)off);
    if (got < 0) {
        err_errno(e, "TOC: read");
        return NULL;
    }
    if ((size_t)got < need) {
        err_set(e, ERR_FORMAT, "TOC: ends in the middle of a record");
        return NULL;
    }
    t->window_at = off;
    t->window_len = (uint32_t)got;
    return t->window;
}

static bool is_sound(const struct toc_rec *r)
{
    uint64_t bytes = sizeof *r + (uint64_t)r->path_len + 1 + r->target_len + 1 + r->xattr_len +
                     ((r->flags & TOC_DIGEST) != 0 ? DIGEST_LEN : 0);
    return r->type >= NODE_FILE && r->type <= TOC_CHUNK && r->path_len < NODE_PATH_MAX &&
           r->target_len < NODE_PATH_MAX && r->xattr_len <= TOC_XATTR_MAX && r->len % TOC_ALIGN == 0 &&
           bytes <= r->len && r->len < bytes + TOC_ALIGN;
}

int toc_read(struct toc *t, uint32_t at, struct toc_item *out, struct err *e)
{
    uint64_t off = (uint64_t)at * TOC_ALIGN;
    const uint8_t *p = view(t, off, sizeof out->r, e);
    if (p == NULL)
        return e->code;
    memcpy(&out->r, p, sizeof out->r);
    if (!is_sound(&out->r))
        return err_set(e, ERR_FORMAT, "TOC: bad record at %llu", (unsigned long long)off);
    p = view(t, off, out->r.len, e);
    if (p == NULL)
        return e->code;
    out->at = at;
    out->path = (const char *)p + sizeof out->r;
    out->target = out->path + out->r.path_len + 1;
    out->xattrs = (const uint8_t *)out->target + out->r.target_len + 1;
    memset(&out->digest, 0, sizeof out->digest);
    if ((out->r.flags & TOC_DIGEST) != 0)
        memcpy(&out->digest, out->xattrs + out->r.xattr_len, sizeof out->digest);
    if (strnlen(out->path, out->r.path_len + 1u) != out->r.path_len ||
        strnlen(out->target, out->r.target_len + 1u) != out->r.target_len)
        return err_set(e, ERR_FORMAT, "TOC: bad record at %llu", (unsigned long long)off);
    return 0;
}

static struct toc_trailer trailer_of(const struct toc *t)
{
    return (struct toc_trailer){.len = sizeof(struct toc_trailer),
                                .type = TOC_TRAILER,
                                .live = t->live,
                                .records = t->records,
                                .xxh64 = sum_end(&t->sum)};
}

int toc_seal(struct toc *t, struct err *e)
{
    struct toc_trailer z = trailer_of(t);
    int rc = append(t, &z, sizeof z, e);
    return rc != 0 ? rc : toc_sync(t, e);
}

bool toc_is_sealed(const struct toc *t)
{
    struct toc_trailer z;
    return t->end >= TOC_HEAD_LEN + sizeof z &&
           io_pread_full(t->fd, &z, sizeof z, (off_t)(t->end - sizeof z)) == (ssize_t)sizeof z &&
           z.len == sizeof z && z.type == TOC_TRAILER;
}

int toc_go_on(struct toc *t, const char *path, uint64_t pos, uint32_t max, struct err *e)
{
    int fd = IO_RETRY(open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (fd < 0 || ftruncate(fd, (off_t)pos) != 0) {
        err_errno(e, "TOC: %s", path);
        if (fd >= 0)
            close(fd);
        return e->code;
    }
    close(t->fd);
    t->fd = fd;
    t->end = t->flushed = pos;
    t->limit = (uint64_t)max * 512;
    t->window_len = 0;
    t->put = t->sum;
    return 0;
}

static int check_trailer(const struct toc *t, uint64_t off, const uint8_t *p, struct err *e)
{
    struct toc_trailer want = trailer_of(t);
    if (memcmp(p, &want, sizeof want) != 0 || off + sizeof want != t->end)
        return err_set(e, ERR_FORMAT, "TOC: damaged: its checksum does not match");
    return 0;
}

int toc_next(struct toc *t, uint64_t *pos, struct toc_item *out, struct err *e)
{
    bool writing = t->limit > 0;
    if (*pos == 0) {
        *pos = TOC_HEAD_LEN;
        sum_begin(&t->sum);
        if (!writing)
            t->records = t->live = 0;
    }
    if (*pos == t->end) /* only an unsealed one ends without trailer */
        return writing ? 0 : err_set(e, ERR_FORMAT, "TOC: was never sealed");
    const uint8_t *p = view(t, *pos, sizeof(struct toc_trailer), e);
    if (p == NULL)
        return e->code;
    if (p[offsetof(struct toc_rec, type)] == TOC_TRAILER)
        return check_trailer(t, *pos, p, e);
    int rc = toc_read(t, (uint32_t)(*pos / TOC_ALIGN), out, e);
    if (rc != 0)
        return rc;
    sum_update(&t->sum, t->window + (*pos - t->window_at), out->r.len);
    if (!writing) {
        t->records++;
        t->live += toc_is_live(out);
    }
    *pos += out->r.len;
    return 1;
}

struct node toc_node(const struct toc_item *it)
{
    return (struct node){
        .type = (enum node_type)it->r.type,
        .mode = it->r.mode,
        .uid = it->r.uid,
        .gid = it->r.gid,
        .dev_major = it->r.dev_major,
        .dev_minor = it->r.dev_minor,
        .mtime_s = it->r.mtime_s,
        .mtime_ns = it->r.mtime_ns,
        .size = it->r.size,
        .target = it->target,
        .xattrs = it->xattrs,
        .xattr_len = it->r.xattr_len,
        .xattr_cnt = it->r.xattr_cnt,
    };
}

bool toc_is_live(const struct toc_item *it)
{
    return (it->r.flags & (TOC_DEAD | TOC_HIDDEN)) == 0;
}

void toc_close(struct toc *t)
{
    if (t->fd >= 0)
        close(t->fd);
    t->fd = -1;
}
