#include "sup/user.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"

#define LINE_MAX_LEN 2048
#define FIELD_MAX 7
#define ID_MAX 2147483647u

struct lines {
    int fd;
    size_t len; /* bytes in buf */
    size_t at;
    char buf[LINE_MAX_LEN];
};

static int lines_open(struct lines *l, const char *etc, const char *name)
{
    char path[256];

    if (snprintf(path, sizeof path, "%s/%s", etc, name) >= (int)sizeof path)
        return -1;
    l->fd = IO_RETRY(open(path, O_RDONLY | O_CLOEXEC));
    l->len = l->at = 0;
    return l->fd;
}

/* The next line without its end, in place; NULL at the end. A line that is longer than the buffer comes in parts, of
 * which no part has the fields of a line that would be found. */
static char *lines_next(struct lines *l)
{
    for (;;) {
        char *start = l->buf + l->at;
        char *end = memchr(start, '\n', l->len - l->at);
        ssize_t n;

        if (end) {
            *end = '\0';
            l->at = (size_t)(end - l->buf) + 1;
            return start;
        }
        memmove(l->buf, start, l->len - l->at);
        l->len -= l->at;
        l->at = 0;
        if (l->len == sizeof l->buf - 1)
            l->len = 0;
        n = IO_RETRY(read(l->fd, l->buf + l->len, sizeof l->buf - 1 - l->len));
        if (n > 0) {
            l->len += (size_t)n;
            continue;
        }
        if (n < 0 || !l->len)
            return NULL;
        l->buf[l->len++] = '\n';
    }
}

static size_t fields_split(char *line, char *fields[FIELD_MAX])
{
    size_t cnt = 0;

    for (char *next = line; next && cnt < FIELD_MAX; cnt++) {
        fields[cnt] = next;
        next = strchr(next, ':');
        if (next)
            *next++ = '\0';
    }
    return cnt;
}

static bool id_parse(const char *s, uint32_t *out)
{
    uint64_t id = 0;

    if (!*s)
        return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9')
            return false;
        id = id * 10 + (uint64_t)(*s - '0');
        if (id > ID_MAX)
            return false;
    }
    *out = (uint32_t)id;
    return true;
}

/* Find a line of passwd by name or id. Fills uid, gid, home and `name`. */
static bool passwd_find(const char *etc, const char *who, struct app_user *out, char *name, size_t cap)
{
    struct lines l;
    char *line, *f[FIELD_MAX];
    uint32_t want, uid, gid;
    bool numeric = id_parse(who, &want), found = false;

    if (lines_open(&l, etc, "passwd") < 0)
        return false;
    while (!found && (line = lines_next(&l))) {
        if (fields_split(line, f) < 6 || !id_parse(f[2], &uid) || !id_parse(f[3], &gid))
            continue;
        if (strcmp(f[0], who) && !(numeric && uid == want))
            continue;
        found = true;
        out->uid = uid;
        out->gid = gid;
        snprintf(name, cap, "%s", f[0]);
        if (f[5][0] == '/' && strlen(f[5]) < sizeof out->home)
            snprintf(out->home, sizeof out->home, "%s", f[5]);
    }
    close(l.fd);
    return found;
}

/* Whether a comma separated list has this name. */
static bool list_has(const char *list, const char *name)
{
    size_t len = strlen(name);

    while (*list) {
        size_t n = strcspn(list, ",");

        if (n == len && !memcmp(list, name, len))
            return true;
        list += n + (list[n] == ',');
    }
    return false;
}

static bool group_find(const char *etc, const char *group, gid_t *out)
{
    struct lines l;
    char *line, *f[FIELD_MAX];
    uint32_t gid;
    bool found = false;

    if (lines_open(&l, etc, "group") < 0)
        return false;
    while (!found && (line = lines_next(&l))) {
        if (fields_split(line, f) < 3 || !id_parse(f[2], &gid) || strcmp(f[0], group))
            continue;
        found = true;
        *out = gid;
    }
    close(l.fd);
    return found;
}

static int groups_of(const char *etc, const char *name, struct app_user *out, struct err *e)
{
    struct lines l;
    char *line, *f[FIELD_MAX];
    uint32_t gid;
    int rc = 0;

    if (lines_open(&l, etc, "group") < 0)
        return 0;
    while (!rc && (line = lines_next(&l))) {
        if (fields_split(line, f) < 4 || !id_parse(f[2], &gid) || !list_has(f[3], name))
            continue;
        if (out->group_cnt == APP_GROUP_MAX)
            rc = err_set(e, ERR_LIMIT, "user \"%.40s\" is in more than %d groups", name, APP_GROUP_MAX);
        else
            out->groups[out->group_cnt++] = gid;
    }
    close(l.fd);
    return rc;
}

int app_user_find(const char *etc, const char *spec, struct app_user *out, struct err *e)
{
    char who[64], name[64] = "";
    char *group;
    uint32_t id;

    memset(out, 0, sizeof *out);
    out->home[0] = '/';
    if (snprintf(who, sizeof who, "%s", spec) >= (int)sizeof who)
        return err_set(e, ERR_APP, "user \"%.40s...\" is too long", spec);
    group = strchr(who, ':');
    if (group)
        *group++ = '\0';
    if (!passwd_find(etc, *who ? who : "0", out, name, sizeof name)) {
        if (*who && !id_parse(who, &id))
            return err_set(e, ERR_APP, "user \"%s\" is not in the image's etc/passwd", who);
        out->uid = *who ? id : 0;
    }
    if (!group || !*group)
        return *name ? groups_of(etc, name, out, e) : 0;
    if (group_find(etc, group, &out->gid))
        return 0;
    if (!id_parse(group, &id))
        return err_set(e, ERR_APP, "group \"%s\" is not in the image's etc/group", group);
    out->gid = id;
    return 0;
}
