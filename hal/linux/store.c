/* Records as two files, NAME.0 and NAME.1, overwritten in place: no rename, no temporary files to clean up. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "hal/linux/linux.h"

#define PATH_CAP 512

static int copy_path(const char *dir, const char *name, int copy, char path[PATH_CAP], struct err *e)
{
    int n;

    ASSERT(copy >= 0 && copy < STORE_COPIES && name[0] != 0 && strchr(name, '/') == NULL);
    n = snprintf(path, PATH_CAP, "%s/%s.%d", dir, name, copy);
    if (n < 0 || n >= PATH_CAP)
        return err_set(e, ERR_LIMIT, "path of record %s is too long", name);
    return 0;
}

static ssize_t store_read(const char *dir, const char *name, int copy, void *buf, size_t cap, struct err *e)
{
    char path[PATH_CAP];
    char more;
    ssize_t n;
    int fd;
    int rc = copy_path(dir, name, copy, path, e);

    if (rc < 0)
        return rc;
    fd = IO_RETRY(open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0)
        return err_errno(e, "%s", path);
    n = io_read_full(fd, buf, cap);
    if (n < 0)
        n = err_errno(e, "%s", path);
    else if ((size_t)n == cap && io_read_full(fd, &more, 1) != 0)
        n = err_set(e, ERR_SIZE, "%s: longer than %zu bytes", path, cap);
    close(fd);
    return n;
}

static int store_write(const char *dir, const char *name, int copy, const void *buf, size_t len,
                       struct err *e)
{
    char path[PATH_CAP];
    bool created;
    int fd;
    int rc = copy_path(dir, name, copy, path, e);

    /* a new device has no state folder yet; its parent, the data partition, is the board's to make */
    if (rc == 0 && io_make_dir(dir) < 0)
        rc = err_errno(e, "%s", dir);
    if (rc < 0)
        return rc;
    created = access(path, F_OK) < 0;
    fd = IO_RETRY(open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (fd < 0)
        return err_errno(e, "%s", path);
    if (io_pwrite_full(fd, buf, len, 0) < 0 || IO_RETRY(ftruncate(fd, (off_t)len)) < 0 ||
        IO_RETRY(fdatasync(fd)) < 0)
        rc = err_errno(e, "%s: write", path);
    if (close(fd) < 0 && rc == 0 && errno != EINTR)
        rc = err_errno(e, "%s: close", path);
    if (rc == 0 && created && io_sync_dir(dir) < 0)
        rc = err_errno(e, "%s: sync", dir);
    if (rc < 0 && created)
        (void)unlink(path);
    return rc;
}

const struct store_ops store_linux = {.read = store_read, .write = store_write};
