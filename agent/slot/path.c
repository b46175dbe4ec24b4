#include "slot/path.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"

size_t path_parent_len(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? (size_t)(slash - path) : 0;
}

const char *path_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

int path_join(char *out, const char *dir, const char *name, struct err *e)
{
    size_t a = strlen(dir), b = strlen(name);
    if (a + 1 + b >= NODE_PATH_MAX)
        return err_set(e, ERR_LIMIT, "path is longer than %d bytes", NODE_PATH_MAX - 1);
    memmove(out, dir, a);
    if (a > 0)
        out[a++] = '/';
    memcpy(out + a, name, b + 1);
    return 0;
}

/* rest = target "/" rest */
static int put_in_front(struct path_lookup *l, const char *target, const char *rest, struct err *e)
{
    size_t a = strlen(target), b = strlen(rest);
    if (a + 1 + b >= sizeof l->rest)
        return err_set(e, ERR_LIMIT, "path is too long once its links are followed");
    memmove(l->rest + a + 1, rest, b + 1);
    memcpy(l->rest, target, a);
    l->rest[a] = '/';
    return 0;
}

/* Add component c to out, or take one off. Returns false when it is too long. */
static bool step(char *out, size_t *len, const char *c, size_t c_len)
{
    if (c_len == 1 && c[0] == '.')
        return true;
    if (c_len == 2 && c[0] == '.' && c[1] == '.') {
        *len = path_parent_len(out);
        out[*len] = '\0';
        return true;
    }
    if (*len + 1 + c_len >= NODE_PATH_MAX)
        return false;
    if (*len > 0)
        out[(*len)++] = '/';
    memcpy(out + *len, c, c_len);
    *len += c_len;
    out[*len] = '\0';
    return true;
}

int path_resolve(struct path_lookup *l, const char *path, bool follow_last, char *out, struct err *e)
{
    size_t len = 0;
    int links = 0;
    const char *p = l->rest;

    out[0] = '\0';
    int rc = put_in_front(l, "", path, e);
    while (rc == 0) {
        p += strspn(p, "/");
        size_t n = strcspn(p, "/");
        if (n == 0)
            return 0;
        const char *next = p + n;
        bool last = next[strspn(next, "/")] == '\0';
        size_t before = len;
        if (!step(out, &len, p, n))
            return err_set(e, ERR_LIMIT, "path is longer than %d bytes", NODE_PATH_MAX - 1);
        p = next;
        if (len <= before || (last && !follow_last))
            continue;
        int kind = l->kind(l, out, l->target, e);
        if (kind < 0)
            return kind;
        if (kind == PATH_OTHER && !last)
            return err_set(e, ERR_POLICY, "parent is not a directory: want a directory, got %s", out);
        if (kind != PATH_LINK)
            continue;
        if (++links > PATH_LOOP_MAX)
            return err_set(e, ERR_POLICY, "more than %d links in the path", PATH_LOOP_MAX);
        len = l->target[0] == '/' ? 0 : path_parent_len(out);
        out[len] = '\0';
        rc = put_in_front(l, l->target, p, e);
        p = l->rest;
    }
    return rc;
}

void path_dirs_start(struct path_dirs *d, int root)
{
    d->root = root;
    d->depth = 0;
}

static void pop(struct path_dirs *d)
{
    close(d->fd[--d->depth]);
}

void path_dirs_drop(struct path_dirs *d)
{
    while (d->depth > 0)
        pop(d);
}

static bool holds(const struct path_dirs *d, const char *path, size_t len)
{
    size_t end = d->end[d->depth - 1];
    return end <= len && memcmp(d->at, path, end) == 0 && (end == len || path[end] == '/');
}

int path_dirs_open(struct path_dirs *d, const char *path, size_t len, struct err *e)
{
    while (d->depth > 0 && !holds(d, path, len))
        pop(d);
    size_t end = d->depth > 0 ? d->end[d->depth - 1] : 0;
    int fd = d->depth > 0 ? d->fd[d->depth - 1] : d->root;

    while (end < len) {
        size_t from = end > 0 ? end + 1 : 0;
        size_t n = 0;
        char name[NODE_NAME_MAX + 1];
        while (from + n < len && path[from + n] != '/')
            n++;
        if (n > NODE_NAME_MAX)
            return err_set(e, ERR_LIMIT, "a name is longer than %d bytes", NODE_NAME_MAX);
        memcpy(name, path + from, n);
        name[n] = '\0';
        int next = IO_RETRY(openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (next < 0)
            return err_errno(e, "open directory %.*s", (int)(from + n), path);
        if (d->depth == PATH_DIRS_MAX)
            pop(d);
        end = from + n;
        memcpy(d->at, path, end);
        d->fd[d->depth] = fd = next;
        d->end[d->depth++] = end;
    }
    return fd;
}
