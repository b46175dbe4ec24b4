#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel_priv.h"

/* --- names -------------------------------------------------------------------------------------------------------- */

static int make_at(int dir_fd, const char *path, const struct medium_op *what)
{
    struct place p;

    return kernel_find(dir_fd, path, &p) < 0 || kernel_make(&p, what) < 0 ? -1 : 0;
}

CALL(int, mkdir, const char *path, mode_t mode)
{
    if (strncmp(path, "/run/", 5) == 0)
        return 0;
    return make_at(-1, path, &(struct medium_op){.type = MEDIUM_DIR, .meta.mode = mode & 07777});
}

CALL(int, mkdirat, int dir_fd, const char *path, mode_t mode)
{
    return make_at(dir_fd, path, &(struct medium_op){.type = MEDIUM_DIR, .meta.mode = mode & 07777});
}

CALL(int, symlinkat, const char *target, int dir_fd, const char *path)
{
    return make_at(dir_fd, path,
                   &(struct medium_op){.type = MEDIUM_LINK, .name = medium_name(target), .meta.mode = 0777});
}

CALL(int, linkat, int from_fd, const char *from, int to_fd, const char *to, int flags)
{
    struct place a, b;

    (void)flags;
    if (kernel_find_existing(from_fd, from, &a) < 0 || kernel_find(to_fd, to, &b) < 0 ||
        kernel_trips(CALL_GROWS, b.dir))
        return -1;
    kernel_change((struct medium_op){.kind = OP_LINK, .owner = b.dir, .name = b.name, .node = a.node});
    return kernel_call_end();
}

static int remove_at(int dir_fd, const char *path, bool is_dir)
{
    struct place p;

    if (kernel_find_existing(dir_fd, path, &p) < 0 || kernel_trips(CALL_WRITES, p.dir))
        return -1;
    if (is_dir != (medium.now.nodes[p.node].type == MEDIUM_DIR))
        return kernel_fail(is_dir ? ENOTDIR : EISDIR);
    for (size_t i = 0; is_dir && i < MEDIUM_ENTRIES_MAX; i++)
        if (medium.now.entries[i].dir == p.node)
            return kernel_fail(ENOTEMPTY);
    kernel_change((struct medium_op){.kind = OP_UNLINK, .owner = p.dir, .name = p.name});
    return kernel_call_end();
}

CALL(int, unlinkat, int dir_fd, const char *path, int flags)
{
    return remove_at(dir_fd, path, (flags & AT_REMOVEDIR) != 0);
}

CALL(int, unlink, const char *path)
{
    return remove_at(-1, path, false);
}

/* Harsher than POSIX: a cut may leave both names, or neither but what the new one was before. */
CALL(int, rename, const char *from, const char *to)
{
    struct place a, b;

    if (kernel_find_existing(-1, from, &a) < 0 || kernel_find(-1, to, &b) < 0 ||
        kernel_trips(CALL_GROWS, b.dir))
        return -1;
    kernel_change((struct medium_op){.kind = OP_LINK, .owner = b.dir, .name = b.name, .node = a.node});
    kernel_change((struct medium_op){.kind = OP_UNLINK, .owner = a.dir, .name = a.name});
    return kernel_call_end();
}

CALL(ssize_t, readlinkat, int dir_fd, const char *path, char *out, size_t cap)
{
    struct place p;
    const char *target;

    if (kernel_find_existing(dir_fd, path, &p) < 0)
        return -1;
    if (medium.now.nodes[p.node].type != MEDIUM_LINK)
        return kernel_fail(EINVAL);
    target = medium_text(medium.now.nodes[p.node].target);
    cap = strlen(target) < cap ? strlen(target) : cap;
    memcpy(out, target, cap);
    return (ssize_t)cap;
}

/* As getdents64(2) gives it; "." and ".." are left out, as they may be. */
static long dir_read(int fd, uint8_t *out, size_t cap)
{
    struct file *f = kernel_file(fd);
    size_t done = 0;

    if (f == NULL)
        return kernel_fail(EBADF);
    if (kernel_trips(CALL_LOOKS, f->node))
        return -1;
    for (; f->at < MEDIUM_ENTRIES_MAX; f->at++) {
        const struct medium_entry *at = &medium.now.entries[f->at];
        const char *name = medium_text(at->name);
        uint16_t len = (uint16_t)((19 + strlen(name) + 1 + 7) / 8 * 8);
        uint64_t number = at->node, next = f->at + 1;

        if (at->dir != f->node)
            continue;
        if (done + len > cap)
            break;
        memset(out + done, 0, len);
        memcpy(out + done, &number, 8);
        memcpy(out + done + 8, &next, 8);
        memcpy(out + done + 16, &len, 2);
        out[done + 18] = medium.now.nodes[at->node].type == MEDIUM_DIR ? 4 : 8;
        memcpy(out + done + 19, name, strlen(name));
        done += len;
    }
    return (long)done;
}

long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
    va_list ap;
    long rc = -1;

    va_start(ap, number);
    if (number == SYS_getdents64) {
        int fd = va_arg(ap, int);
        uint8_t *out = va_arg(ap, uint8_t *);

        rc = dir_read(fd, out, va_arg(ap, size_t));
    } else if (number == SYS_reboot) {
        (void)va_arg(ap, int);
        (void)va_arg(ap, int);
        (void)va_arg(ap, int);
        world_restart(strcmp(va_arg(ap, const char *), "0 tryboot") == 0);
    } else {
        errno = ENOSYS;
    }
    va_end(ap);
    return rc;
}

/* --- metadata ----------------------------------------------------------------------------------------------------- */

static int stat_node(uint16_t node, struct stat *st)
{
    static const mode_t types[] = {
        [MEDIUM_FILE] = S_IFREG, [MEDIUM_DIR] = S_IFDIR, [MEDIUM_LINK] = S_IFLNK, [MEDIUM_DEVICE] = S_IFBLK};
    const struct medium_node *n = &medium.now.nodes[node];

    memset(st, 0, sizeof *st);
    st->st_dev = n->fs;
    st->st_ino = node;
    st->st_rdev = node;
    st->st_mode = types[n->type] | (n->type == MEDIUM_LINK ? 0777 : n->meta.mode);
    st->st_uid = n->meta.uid;
    st->st_gid = n->meta.gid;
    st->st_size = n->size;
    st->st_mtim = (struct timespec){n->meta.mtime_s, (long)n->meta.mtime_ns};
    return 0;
}

CALL(int, fstat, int fd, struct stat *st)
{
    const struct file *f = kernel_file(fd);

    return f == NULL ? kernel_fail(EBADF) : stat_node(f->node, st);
}

CALL(int, fstatat, int dir_fd, const char *path, struct stat *st, int flags)
{
    struct place p;

    (void)flags;
    return kernel_find_existing(dir_fd, path, &p) < 0 ? -1 : stat_node(p.node, st);
}

CALL(int, stat, const char *path, struct stat *st)
{
    struct place p;

    return kernel_find_existing(-1, path, &p) < 0 ? -1 : stat_node(p.node, st);
}

CALL(int, access, const char *path, int mode)
{
    struct place p;

    (void)mode;
    return kernel_find_existing(-1, path, &p);
}

static int meta_set(uint16_t node, struct medium_meta meta)
{
    if (kernel_trips(CALL_WRITES, node))
        return -1;
    if (memcmp(&meta, &medium.now.nodes[node].meta, sizeof meta) != 0)
        kernel_change((struct medium_op){.kind = OP_META, .owner = node, .node = node, .meta = meta});
    return kernel_call_end();
}

static int owner_set(uint16_t node, uid_t uid, gid_t gid)
{
    struct medium_meta m = medium.now.nodes[node].meta;

    m.uid = uid;
    m.gid = gid;
    return meta_set(node, m);
}

static int mode_set(uint16_t node, mode_t mode)
{
    struct medium_meta m = medium.now.nodes[node].meta;

    m.mode = mode & 07777;
    return meta_set(node, m);
}

static int times_set(uint16_t node, const struct timespec *t)
{
    struct medium_meta m = medium.now.nodes[node].meta;

    m.mtime_s = t[1].tv_sec;
    m.mtime_ns = (uint32_t)t[1].tv_nsec;
    return meta_set(node, m);
}

CALL(int, fchown, int fd, uid_t uid, gid_t gid)
{
    const struct file *f = kernel_file(fd);

    return f == NULL ? kernel_fail(EBADF) : owner_set(f->node, uid, gid);
}

CALL(int, fchownat, int dir_fd, const char *path, uid_t uid, gid_t gid, int flags)
{
    struct place p;

    (void)flags;
    return kernel_find_existing(dir_fd, path, &p) < 0 ? -1 : owner_set(p.node, uid, gid);
}

CALL(int, fchmod, int fd, mode_t mode)
{
    const struct file *f = kernel_file(fd);

    return f == NULL ? kernel_fail(EBADF) : mode_set(f->node, mode);
}

CALL(int, fchmodat, int dir_fd, const char *path, mode_t mode, int flags)
{
    struct place p;

    (void)flags;
    return kernel_find_existing(dir_fd, path, &p) < 0 ? -1 : mode_set(p.node, mode);
}

CALL(int, futimens, int fd, const struct timespec *t)
{
    const struct file *f = kernel_file(fd);

    return f == NULL ? kernel_fail(EBADF) : times_set(f->node, t);
}

CALL(int, utimensat, int dir_fd, const char *path, const struct timespec *t, int flags)
{
    struct place p;

    (void)flags;
    return kernel_find_existing(dir_fd, path, &p) < 0 ? -1 : times_set(p.node, t);
}

CALL(ssize_t, llistxattr, const char *path, char *list, size_t cap)
{
    (void)path, (void)list, (void)cap;
    return 0;
}

CALL(ssize_t, flistxattr, int fd, char *list, size_t cap)
{
    (void)fd, (void)list, (void)cap;
    return 0;
}

/* --- filesystems, devices ----------------------------------------------------------------------------------------- */

CALL(int, fstatvfs, int fd, struct statvfs *out)
{
    const struct file *f = kernel_file(fd);

    if (f == NULL)
        return kernel_fail(EBADF);
    if (kernel_trips(CALL_LOOKS, f->node))
        return -1;
    *out = (struct statvfs){
        .f_frsize = 4096, .f_blocks = 1000, .f_bavail = 900, .f_files = 1000, .f_favail = 900};
    return 0;
}

CALL(int, mount, const char *device, const char *dir, const char *type, unsigned long flags, const void *data)
{
    uint16_t node = kernel_device(device);

    (void)dir, (void)data;
    if (strcmp(type, "ext4") != 0)
        return kernel_fail(ENODEV);
    if (node != DEV_SLOT_A && node != DEV_SLOT_B)
        return kernel_fail(ENOENT);
    if (kernel_mount.fs != FS_NONE)
        return kernel_fail(EBUSY);
    if (kernel_trips(CALL_WRITES, node))
        return -1;
    kernel_mount.fs = node == DEV_SLOT_A ? FS_SLOT_A : FS_SLOT_B;
    kernel_mount.read_only = (flags & MS_RDONLY) != 0;
    return 0;
}

/* Drops the cache. Writes nothing: what is to survive is for sync() to say (hal/tree.h). */
CALL(int, umount2, const char *dir, int flags)
{
    (void)dir, (void)flags;
    if (kernel_mount.fs == FS_NONE)
        return kernel_fail(EINVAL);
    for (int i = 0; i < FILES_MAX; i++)
        if (kernel_files[i].node != 0 && medium.now.nodes[kernel_files[i].node].fs == kernel_mount.fs)
            return kernel_fail(EBUSY);
    kernel_cache_drop_all();
    kernel_mount.fs = FS_NONE;
    return 0;
}

CALL(FILE *, fopen, const char *path, const char *mode)
{
    (void)path, (void)mode; /* the table of mounts, which place_is_mounted() can do without */
    errno = ENOENT;
    return NULL;
}

int __wrap_ioctl(int fd, int verb, ...);
int __wrap_ioctl(int fd, int verb, ...)
{
    const struct file *f = kernel_file(fd);
    va_list ap;

    if (f == NULL)
        return kernel_fail(EBADF);
    va_start(ap, verb);
    if ((unsigned)verb == (unsigned)BLKGETSIZE64) {
        uint64_t *size = va_arg(ap, uint64_t *);

        *size = medium.now.nodes[f->node].size;
    } else if (verb == BLKFLSBUF) {
        kernel_cache_drop(f->node);
    }
    va_end(ap);
    return 0;
}

/* --- the rest of the machine -------------------------------------------------------------------------------------- */

CALL(int, poll, struct pollfd *set, nfds_t cnt, int timeout_ms)
{
    (void)set, (void)cnt;
    if (timeout_ms < 0)
        world_fail("agentd waits for nothing: no timer is set");
    kernel.now_ms += (uint64_t)timeout_ms;
    world_tick();
    return 0;
}

CALL(int, reboot, int verb)
{
    (void)verb;
    world_restart(false);
}

CALL(void, abort, void)
{
    world_fail("an assertion failed");
}

CALL(ssize_t, getrandom, void *buf, size_t len, unsigned flags)
{
    (void)flags;
    memset(buf, 0x5a, len);
    return (ssize_t)len;
}
