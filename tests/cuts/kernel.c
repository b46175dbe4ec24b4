#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES_MAX 192
#define LOG_MAX 16384
#define MOUNT_DIR "/run/slipway/slot"

/* ld --wrap: the core's call of NAME comes here, and the host's own is __real_NAME. */
#define CALL(type, name, ...)                                                                                \
    type __real_##name(__VA_ARGS__);                                                                         \
    type __wrap_##name(__VA_ARGS__);                                                                         \
    type __wrap_##name(__VA_ARGS__)

struct file {
    uint16_t node; /* 0: closed */
    bool is_cmdline;
    bool read_only;
    int flags;
    uint32_t at;
};

struct kernel kernel;
static struct file files[FILES_MAX];
static enum medium_fs mounted;
static bool mounted_read_only;
static struct {
    uint16_t node;
    uint32_t sector, seen, stored;
} flipped; /* the page cache has `seen`, the medium `stored` */
static char log_text[LOG_MAX];
static size_t log_len;

void kernel_start(void)
{
    memset(files, 0, sizeof files);
    memset(&flipped, 0, sizeof flipped);
    mounted = FS_NONE;
    if (kernel.fault == FAULT_EROFS && kernel.fault_hit)
        kernel.fault = FAULT_NONE;
}

const char *kernel_log(void)
{
    log_text[log_len] = '\0';
    return log_text;
}

void kernel_log_clear(void)
{
    log_len = 0;
}

static void log_add(const char *text, size_t len)
{
    if (log_len + len >= LOG_MAX) {
        log_len = 0;
        log_add("...\n", 4);
    }
    memcpy(log_text + log_len, text, len);
    log_len += len;
}

static int fail(int code)
{
    errno = code;
    return -1;
}

/* --- faults and changes ------------------------------------------------------------------------------------------- */

enum call_class { CALL_LOOKS, CALL_WRITES, CALL_GROWS };

/* True, with errno, when this call is to fail. */
static bool trips(enum call_class class, uint16_t node)
{
    uint32_t number = ++kernel.calls;
    bool due = number == kernel.fault_at;

    switch (kernel.fault) {
    case FAULT_EIO:
        break;
    case FAULT_ENOSPC:
        due = due && class == CALL_GROWS && medium.now.nodes[node].type != MEDIUM_DEVICE;
        break;
    case FAULT_EROFS:
    case FAULT_DEAD:
        due = number >= kernel.fault_at && class != CALL_LOOKS && medium.now.nodes[node].fs == FS_DATA;
        break;
    default:
        due = false;
    }
    kernel.fault_hit |= due;
    if (due)
        errno = kernel.fault == FAULT_EIO ? EIO : kernel.fault == FAULT_ENOSPC ? ENOSPC : EROFS;
    return due;
}

static void change(struct medium_op op)
{
    op.fs = medium.now.nodes[op.owner].fs;
    if (op.fs != FS_NONE && (op.fs == kernel.guarded[0] || op.fs == kernel.guarded[1]))
        world_fail("the active slot is written to (operation %d)", op.kind);
    medium_do(&op);
}

static int call_end(void)
{
    if (medium.trace_cnt > 0)
        medium.trace[medium.trace_cnt - 1].call_end = true;
    return 0;
}

static void sync_node(uint16_t node)
{
    medium_do(&(struct medium_op){.kind = OP_SYNC, .owner = node, .call_end = true});
}

/* --- paths -------------------------------------------------------------------------------------------------------- */

static struct file *file_of(int fd)
{
    int i = fd - KERNEL_FD_FIRST;

    return i >= 0 && i < FILES_MAX && files[i].node != 0 ? &files[i] : NULL;
}

static uint16_t parent_of(uint16_t dir)
{
    for (size_t i = 0; i < MEDIUM_ENTRIES_MAX; i++)
        if (medium.now.entries[i].dir != 0 && medium.now.entries[i].node == dir)
            return medium.now.entries[i].dir;
    return dir;
}

struct place {
    uint16_t dir, node, name; /* node 0: `name` is free in dir */
};

/* One component further; the last one may be missing. */
static int step(struct place *p, const char *text, size_t len)
{
    char name[NAME_MAX + 1];

    if (medium.now.nodes[p->node].type != MEDIUM_DIR)
        return fail(p->node == 0 ? ENOENT : ENOTDIR);
    if (len == 1 && text[0] == '.')
        return 0;
    if (len == 2 && text[0] == '.' && text[1] == '.') {
        p->node = parent_of(p->node);
        return 0;
    }
    memcpy(name, text, len);
    name[len] = '\0';
    p->dir = p->node;
    p->name = medium_name(name);
    p->node = medium_find(&medium.now, p->dir, p->name);
    return 0;
}

static int walk(uint16_t from, const char *path, struct place *p)
{
    *p = (struct place){.node = from};
    for (path += strspn(path, "/"); *path != '\0'; path += strspn(path, "/")) {
        size_t len = strcspn(path, "/");

        if (step(p, path, len) < 0)
            return -1;
        path += len;
    }
    return 0;
}

static uint16_t device_of(const char *path)
{
    static const struct {
        const char *path;
        uint16_t node;
    } devices[] = {{"/dev/env", DEV_ENV}, {"/dev/slot-a", DEV_SLOT_A}, {"/dev/slot-b", DEV_SLOT_B}};

    for (size_t i = 0; i < sizeof devices / sizeof devices[0]; i++)
        if (strcmp(path, devices[i].path) == 0)
            return devices[i].node;
    return 0;
}

static int find(int dir_fd, const char *path, struct place *p)
{
    static const char data[] = "/data", proc[] = "/proc/self/fd/";
    const struct file *dir;
    uint16_t device = device_of(path);

    *p = (struct place){.node = device};
    if (device != 0)
        return 0;
    if (strncmp(path, data, sizeof data - 1) == 0)
        return walk(FS_DATA, path + sizeof data - 1, p);
    if (strncmp(path, proc, sizeof proc - 1) == 0) {
        char *rest;

        dir_fd = (int)strtol(path + sizeof proc - 1, &rest, 10);
        path = rest;
    } else if (path[0] == '/') {
        if (strcmp(path, MOUNT_DIR) != 0 || mounted == FS_NONE)
            return fail(ENOENT);
        p->node = (uint16_t)mounted;
        return 0;
    }
    dir = file_of(dir_fd);
    return dir == NULL ? fail(EBADF) : walk(dir->node, path, p);
}

static int find_existing(int dir_fd, const char *path, struct place *p)
{
    if (find(dir_fd, path, p) < 0)
        return -1;
    return p->node == 0 ? fail(ENOENT) : 0;
}

/* --- open, close -------------------------------------------------------------------------------------------------- */

static int file_open(uint16_t node, int flags, bool is_cmdline)
{
    for (int i = 0; i < FILES_MAX; i++)
        if (files[i].node == 0) {
            files[i] = (struct file){.node = node, .flags = flags, .is_cmdline = is_cmdline};
            return KERNEL_FD_FIRST + i;
        }
    return fail(EMFILE);
}

static bool is_read_only(uint16_t node)
{
    enum medium_fs fs = medium.now.nodes[node].fs;

    return fs == mounted && mounted_read_only;
}

static int make(const struct place *p, const struct medium_op *what)
{
    struct medium_op op = *what;

    if (p->node != 0)
        return fail(EEXIST);
    if (is_read_only(p->dir))
        return fail(EROFS);
    if (trips(CALL_GROWS, p->dir))
        return -1;
    op.kind = OP_MAKE;
    op.owner = p->dir;
    op.node = medium_free_node();
    op.fs = medium.now.nodes[p->dir].fs;
    change(op);
    change((struct medium_op){.kind = OP_LINK, .owner = p->dir, .name = p->name, .node = op.node});
    call_end();
    return op.node;
}

static void size_change(uint16_t node, uint32_t size)
{
    if (medium.now.nodes[node].size != size)
        change((struct medium_op){.kind = OP_SIZE, .owner = node, .node = node, .at = size});
}

static int open_at(int dir_fd, const char *path, int flags, mode_t mode)
{
    struct place p;

    if (strcmp(path, "/proc/cmdline") == 0)
        return file_open(FS_DATA, flags, true);
    if (find(dir_fd, path, &p) < 0)
        return -1;
    if (p.node == 0 && (flags & O_CREAT) == 0)
        return fail(ENOENT);
    if (p.node == 0) {
        int node = make(&p, &(struct medium_op){.type = MEDIUM_FILE, .meta.mode = mode & 07777});

        return node < 0 ? -1 : file_open((uint16_t)node, flags, false);
    }
    if ((flags & O_CREAT) != 0 && (flags & O_EXCL) != 0)
        return fail(EEXIST);
    if (medium.now.nodes[p.node].type == MEDIUM_LINK)
        return fail(ELOOP);
    if ((flags & O_DIRECTORY) != 0 && medium.now.nodes[p.node].type != MEDIUM_DIR)
        return fail(ENOTDIR);
    if (trips((flags & O_ACCMODE) == O_RDONLY ? CALL_LOOKS : CALL_WRITES, p.node))
        return -1;
    if ((flags & O_TRUNC) != 0) {
        size_change(p.node, 0);
        call_end();
    }
    return file_open(p.node, flags, false);
}

int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    va_list ap;
    mode_t mode;

    va_start(ap, flags);
    mode = (flags & O_CREAT) != 0 ? (mode_t)va_arg(ap, int) : 0;
    va_end(ap);
    return open_at(-1, path, flags, mode);
}

int __wrap_openat(int dir_fd, const char *path, int flags, ...);
int __wrap_openat(int dir_fd, const char *path, int flags, ...)
{
    va_list ap;
    mode_t mode;

    va_start(ap, flags);
    mode = (flags & O_CREAT) != 0 ? (mode_t)va_arg(ap, int) : 0;
    va_end(ap);
    return open_at(dir_fd, path, flags, mode);
}

int __wrap_fcntl(int fd, int verb, ...);
int __wrap_fcntl(int fd, int verb, ...)
{
    const struct file *f = file_of(fd);

    if (f == NULL || verb != F_DUPFD_CLOEXEC)
        return fail(EINVAL);
    return file_open(f->node, f->flags, false);
}

CALL(int, close, int fd)
{
    struct file *f = file_of(fd);

    if (f == NULL)
        return fail(EBADF);
    f->node = 0;
    return 0;
}

/* --- bytes -------------------------------------------------------------------------------------------------------- */

static ssize_t bytes_read(struct file *f, void *buf, size_t len, uint32_t at)
{
    const struct medium_node *n = &medium.now.nodes[f->node];
    size_t done = 0;

    if (f->is_cmdline) {
        size_t size = strlen(kernel.cmdline);

        len = at >= size ? 0 : len < size - at ? len : size - at;
        memcpy(buf, kernel.cmdline + at, len);
        return (ssize_t)len;
    }
    if (n->type == MEDIUM_DIR)
        return fail(EISDIR);
    if (trips(CALL_LOOKS, f->node))
        return -1;
    len = at >= n->size ? 0 : len < n->size - at ? len : n->size - at;
    while (done < len) {
        uint32_t off = (uint32_t)(at + done) % MEDIUM_SECTOR;
        size_t part = MEDIUM_SECTOR - off < len - done ? MEDIUM_SECTOR - off : len - done;

        memcpy((uint8_t *)buf + done, medium_bytes(n->sectors[(at + done) / MEDIUM_SECTOR]) + off, part);
        done += part;
    }
    return (ssize_t)done;
}

/* The page cache keeps what was written; the medium gets another bit. */
static uint32_t flip(uint16_t node, uint32_t sector, uint32_t id)
{
    uint8_t wrong[MEDIUM_SECTOR];

    memcpy(wrong, medium_bytes(id), MEDIUM_SECTOR);
    wrong[3] ^= 0x10;
    flipped.node = node;
    flipped.sector = sector;
    flipped.seen = id;
    flipped.stored = medium_content(wrong);
    kernel.fault_hit = true;
    return flipped.stored;
}

static void sector_write(uint16_t node, uint32_t sector, uint32_t id)
{
    struct medium_node *n = &medium.now.nodes[node];
    enum medium_fs fs = n->fs;
    bool is_slot = fs == FS_SLOT_A || fs == FS_SLOT_B || fs == DEV_SLOT_A || fs == DEV_SLOT_B;
    uint32_t stored = id;

    if (n->sectors[sector] == id)
        return;
    if (flipped.node == node && flipped.sector == sector)
        flipped.node = 0;
    if (is_slot && ++kernel.slot_sectors == kernel.fault_at && kernel.fault == FAULT_FLIP)
        stored = flip(node, sector, id);
    change((struct medium_op){.kind = OP_DATA, .owner = node, .node = node, .at = sector, .id = stored});
    n->sectors[sector] = id;
}

/* The cache of a file is dropped: what is read from now on is what the medium has. */
static void cache_drop(uint16_t node)
{
    if (flipped.node == node && medium.now.nodes[node].sectors[flipped.sector] == flipped.seen)
        medium.now.nodes[node].sectors[flipped.sector] = flipped.stored;
}

static ssize_t bytes_write(struct file *f, const void *buf, size_t len, uint32_t at)
{
    const struct medium_node *n = &medium.now.nodes[f->node];
    uint32_t room = n->type == MEDIUM_DEVICE ? n->size : MEDIUM_SECTORS_MAX * MEDIUM_SECTOR;

    if (is_read_only(f->node) || (f->flags & O_ACCMODE) == O_RDONLY)
        return fail(EBADF);
    if (trips(CALL_GROWS, f->node))
        return -1;
    if (at + len > room)
        return fail(ENOSPC);
    for (size_t done = 0; done < len;) {
        uint32_t sector = (uint32_t)(at + done) / MEDIUM_SECTOR;
        uint32_t off = (uint32_t)(at + done) % MEDIUM_SECTOR;
        size_t part = MEDIUM_SECTOR - off < len - done ? MEDIUM_SECTOR - off : len - done;
        uint8_t whole[MEDIUM_SECTOR];

        memcpy(whole, medium_bytes(n->sectors[sector]), MEDIUM_SECTOR);
        memcpy(whole + off, (const uint8_t *)buf + done, part);
        sector_write(f->node, sector, medium_content(whole));
        done += part;
    }
    if (n->type == MEDIUM_FILE && at + len > n->size)
        size_change(f->node, (uint32_t)(at + len));
    call_end();
    if ((f->flags & O_SYNC) == O_SYNC)
        sync_node(f->node);
    return (ssize_t)len;
}

CALL(ssize_t, read, int fd, void *buf, size_t len)
{
    struct file *f = file_of(fd);
    ssize_t n = f == NULL ? fail(EBADF) : bytes_read(f, buf, len, f->at);

    if (n > 0)
        f->at += (uint32_t)n;
    return n;
}

CALL(ssize_t, pread, int fd, void *buf, size_t len, off_t at)
{
    struct file *f = file_of(fd);

    return f == NULL ? fail(EBADF) : bytes_read(f, buf, len, (uint32_t)at);
}

CALL(ssize_t, pwrite, int fd, const void *buf, size_t len, off_t at)
{
    struct file *f = file_of(fd);

    return f == NULL ? fail(EBADF) : bytes_write(f, buf, len, (uint32_t)at);
}

CALL(ssize_t, writev, int fd, const struct iovec *v, int cnt)
{
    struct file *f = file_of(fd);
    ssize_t done = 0;

    if (fd == STDERR_FILENO) {
        for (int i = 0; i < cnt; i++, done += (ssize_t)v[i - 1].iov_len)
            log_add(v[i].iov_base, v[i].iov_len);
        return done;
    }
    for (int i = 0; f != NULL && i < cnt; i++) {
        ssize_t n = v[i].iov_len == 0 ? 0 : bytes_write(f, v[i].iov_base, v[i].iov_len, f->at);

        if (n < 0)
            return -1;
        f->at += (uint32_t)n;
        done += n;
    }
    return f == NULL ? fail(EBADF) : done;
}

CALL(off_t, lseek, int fd, off_t at, int whence)
{
    struct file *f = file_of(fd);

    if (f == NULL)
        return fail(EBADF);
    f->at = (uint32_t)(whence == SEEK_END ? medium.now.nodes[f->node].size + at : at);
    return f->at;
}

CALL(int, ftruncate, int fd, off_t len)
{
    struct file *f = file_of(fd);

    if (f == NULL)
        return fail(EBADF);
    if (trips(CALL_WRITES, f->node))
        return -1;
    size_change(f->node, (uint32_t)len);
    return call_end();
}

/* --- sync --------------------------------------------------------------------------------------------------------- */

static int file_sync(int fd, bool nothing)
{
    struct file *f = file_of(fd);

    if (f == NULL)
        return fail(EBADF);
    if (trips(CALL_WRITES, f->node))
        return -1;
    if (!nothing)
        sync_node(f->node);
    return 0;
}

CALL(int, fsync, int fd)
{
    const struct file *f = file_of(fd);

    return file_sync(fd, kernel.no_dir_sync && f != NULL && medium.now.nodes[f->node].type == MEDIUM_DIR);
}

CALL(int, fdatasync, int fd)
{
    return file_sync(fd, kernel.no_data_sync);
}

static void fs_sync(enum medium_fs fs)
{
    medium_do(&(struct medium_op){.kind = OP_SYNC_FS, .fs = (uint8_t)fs, .call_end = true});
}

CALL(int, syncfs, int fd)
{
    struct file *f = file_of(fd);

    if (f == NULL)
        return fail(EBADF);
    if (trips(CALL_WRITES, f->node))
        return -1;
    fs_sync(medium.now.nodes[f->node].fs);
    return 0;
}

CALL(void, sync, void)
{
    for (enum medium_fs fs = FS_DATA; fs < FS_CNT; fs++)
        fs_sync(fs);
}

CALL(int, sync_file_range, int fd, off_t at, off_t len, unsigned flags)
{
    (void)fd, (void)at, (void)len, (void)flags; /* promises nothing about durability */
    return 0;
}

CALL(int, posix_fadvise, int fd, off_t at, off_t len, int advice)
{
    const struct file *f = file_of(fd);

    (void)at, (void)len;
    if (f != NULL && advice == POSIX_FADV_DONTNEED)
        cache_drop(f->node);
    return 0;
}

/* --- names -------------------------------------------------------------------------------------------------------- */

static int make_at(int dir_fd, const char *path, const struct medium_op *what)
{
    struct place p;

    return find(dir_fd, path, &p) < 0 || make(&p, what) < 0 ? -1 : 0;
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
    if (find_existing(from_fd, from, &a) < 0 || find(to_fd, to, &b) < 0 || trips(CALL_GROWS, b.dir))
        return -1;
    change((struct medium_op){.kind = OP_LINK, .owner = b.dir, .name = b.name, .node = a.node});
    return call_end();
}

static int remove_at(int dir_fd, const char *path, bool is_dir)
{
    struct place p;

    if (find_existing(dir_fd, path, &p) < 0 || trips(CALL_WRITES, p.dir))
        return -1;
    if (is_dir != (medium.now.nodes[p.node].type == MEDIUM_DIR))
        return fail(is_dir ? ENOTDIR : EISDIR);
    for (size_t i = 0; is_dir && i < MEDIUM_ENTRIES_MAX; i++)
        if (medium.now.entries[i].dir == p.node)
            return fail(ENOTEMPTY);
    change((struct medium_op){.kind = OP_UNLINK, .owner = p.dir, .name = p.name});
    return call_end();
}

CALL(int, unlinkat, int dir_fd, const char *path, int flags)
{
    return remove_at(dir_fd, path, (flags & AT_REMOVEDIR) != 0);
}

CALL(int, unlink, const char *path)
{
    return remove_at(-1, path, false);
}

CALL(ssize_t, readlinkat, int dir_fd, const char *path, char *out, size_t cap)
{
    struct place p;
    const char *target;

    if (find_existing(dir_fd, path, &p) < 0)
        return -1;
    if (medium.now.nodes[p.node].type != MEDIUM_LINK)
        return fail(EINVAL);
    target = medium_text(medium.now.nodes[p.node].target);
    cap = strlen(target) < cap ? strlen(target) : cap;
    memcpy(out, target, cap);
    return (ssize_t)cap;
}

/* As getdents64(2) gives it; "." and ".." are left out, as they may be. */
static long dir_read(int fd, uint8_t *out, size_t cap)
{
    struct file *f = file_of(fd);
    size_t done = 0;

    if (f == NULL)
        return fail(EBADF);
    if (trips(CALL_LOOKS, f->node))
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
    const struct file *f = file_of(fd);

    return f == NULL ? fail(EBADF) : stat_node(f->node, st);
}

CALL(int, fstatat, int dir_fd, const char *path, struct stat *st, int flags)
{
    struct place p;

    (void)flags;
    return find_existing(dir_fd, path, &p) < 0 ? -1 : stat_node(p.node, st);
}

CALL(int, stat, const char *path, struct stat *st)
{
    struct place p;

    return find_existing(-1, path, &p) < 0 ? -1 : stat_node(p.node, st);
}

CALL(int, access, const char *path, int mode)
{
    struct place p;

    (void)mode;
    return find_existing(-1, path, &p);
}

static int meta_set(uint16_t node, struct medium_meta meta)
{
    if (trips(CALL_WRITES, node))
        return -1;
    if (memcmp(&meta, &medium.now.nodes[node].meta, sizeof meta) != 0)
        change((struct medium_op){.kind = OP_META, .owner = node, .node = node, .meta = meta});
    return call_end();
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
    const struct file *f = file_of(fd);

    return f == NULL ? fail(EBADF) : owner_set(f->node, uid, gid);
}

CALL(int, fchownat, int dir_fd, const char *path, uid_t uid, gid_t gid, int flags)
{
    struct place p;

    (void)flags;
    return find_existing(dir_fd, path, &p) < 0 ? -1 : owner_set(p.node, uid, gid);
}

CALL(int, fchmod, int fd, mode_t mode)
{
    const struct file *f = file_of(fd);

    return f == NULL ? fail(EBADF) : mode_set(f->node, mode);
}

CALL(int, fchmodat, int dir_fd, const char *path, mode_t mode, int flags)
{
    struct place p;

    (void)flags;
    return find_existing(dir_fd, path, &p) < 0 ? -1 : mode_set(p.node, mode);
}

CALL(int, futimens, int fd, const struct timespec *t)
{
    const struct file *f = file_of(fd);

    return f == NULL ? fail(EBADF) : times_set(f->node, t);
}

CALL(int, utimensat, int dir_fd, const char *path, const struct timespec *t, int flags)
{
    struct place p;

    (void)flags;
    return find_existing(dir_fd, path, &p) < 0 ? -1 : times_set(p.node, t);
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
    const struct file *f = file_of(fd);

    if (f == NULL)
        return fail(EBADF);
    if (trips(CALL_LOOKS, f->node))
        return -1;
    *out = (struct statvfs){
        .f_frsize = 4096, .f_blocks = 1000, .f_bavail = 900, .f_files = 1000, .f_favail = 900};
    return 0;
}

CALL(int, mount, const char *device, const char *dir, const char *type, unsigned long flags, const void *data)
{
    uint16_t node = device_of(device);

    (void)dir, (void)data;
    if (strcmp(type, "ext4") != 0)
        return fail(ENODEV);
    if (node != DEV_SLOT_A && node != DEV_SLOT_B)
        return fail(ENOENT);
    if (mounted != FS_NONE)
        return fail(EBUSY);
    if (trips(CALL_WRITES, node))
        return -1;
    mounted = node == DEV_SLOT_A ? FS_SLOT_A : FS_SLOT_B;
    mounted_read_only = (flags & MS_RDONLY) != 0;
    return 0;
}

/* Drops the cache. Writes nothing: what is to survive is for sync() to say (hal/tree.h). */
CALL(int, umount2, const char *dir, int flags)
{
    (void)dir, (void)flags;
    if (mounted == FS_NONE)
        return fail(EINVAL);
    for (int i = 0; i < FILES_MAX; i++)
        if (files[i].node != 0 && medium.now.nodes[files[i].node].fs == mounted)
            return fail(EBUSY);
    if (flipped.node != 0)
        cache_drop(flipped.node);
    mounted = FS_NONE;
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
    const struct file *f = file_of(fd);
    va_list ap;

    if (f == NULL)
        return fail(EBADF);
    va_start(ap, verb);
    if ((unsigned)verb == (unsigned)BLKGETSIZE64) {
        uint64_t *size = va_arg(ap, uint64_t *);

        *size = medium.now.nodes[f->node].size;
    } else if (verb == BLKFLSBUF) {
        cache_drop(f->node);
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
    return 0;
}

CALL(int, reboot, int verb)
{
    (void)verb;
    world_restart();
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
