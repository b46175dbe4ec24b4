#include "kernel_priv.h"

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

#define LOG_MAX 16384
#define MOUNT_DIR "/run/slipway/slot"

struct kernel kernel;
struct file kernel_files[FILES_MAX];
struct kernel_mount kernel_mount;
static struct {
    uint16_t node;
    uint32_t sector, seen, stored;
} flipped; /* the page cache has `seen`, the medium `stored` */
static char log_text[LOG_MAX];
static size_t log_len;

void kernel_start(void)
{
    memset(kernel_files, 0, sizeof kernel_files);
    memset(&flipped, 0, sizeof flipped);
    kernel_mount.fs = FS_NONE;
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

int kernel_fail(int code)
{
    errno = code;
    return -1;
}

/* --- faults and changes ------------------------------------------------------------------------------------------- */

bool kernel_trips(enum call_class class, uint16_t node)
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
    case FAULT_ENV:
        due = number >= kernel.fault_at && class != CALL_LOOKS && node == DEV_ENV;
        break;
    default:
        due = false;
    }
    kernel.fault_hit |= due;
    if (due)
        errno = kernel.fault == FAULT_ENOSPC                                ? ENOSPC
                : kernel.fault == FAULT_EROFS || kernel.fault == FAULT_DEAD ? EROFS
                                                                            : EIO;
    return due;
}

void kernel_change(struct medium_op op)
{
    op.fs = medium.now.nodes[op.owner].fs;
    if (op.fs != FS_NONE && (op.fs == kernel.guarded[0] || op.fs == kernel.guarded[1]))
        world_fail("the active slot is written to (operation %d)", op.kind);
    medium_do(&op);
}

int kernel_call_end(void)
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

struct file *kernel_file(int fd)
{
    int i = fd - KERNEL_FD_FIRST;

    return i >= 0 && i < FILES_MAX && kernel_files[i].node != 0 ? &kernel_files[i] : NULL;
}

static uint16_t parent_of(uint16_t dir)
{
    for (size_t i = 0; i < MEDIUM_ENTRIES_MAX; i++)
        if (medium.now.entries[i].dir != 0 && medium.now.entries[i].node == dir)
            return medium.now.entries[i].dir;
    return dir;
}

/* One component further; the last one may be missing. */
static int step(struct place *p, const char *text, size_t len)
{
    char name[NAME_MAX + 1];

    if (medium.now.nodes[p->node].type != MEDIUM_DIR)
        return kernel_fail(p->node == 0 ? ENOENT : ENOTDIR);
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

uint16_t kernel_device(const char *path)
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

int kernel_find(int dir_fd, const char *path, struct place *p)
{
    static const char data[] = "/data", proc[] = "/proc/self/fd/";
    const struct file *dir;
    uint16_t device = kernel_device(path);

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
        if (strcmp(path, MOUNT_DIR) != 0 || kernel_mount.fs == FS_NONE)
            return kernel_fail(ENOENT);
        p->node = (uint16_t)kernel_mount.fs;
        return 0;
    }
    dir = kernel_file(dir_fd);
    return dir == NULL ? kernel_fail(EBADF) : walk(dir->node, path, p);
}

int kernel_find_existing(int dir_fd, const char *path, struct place *p)
{
    if (kernel_find(dir_fd, path, p) < 0)
        return -1;
    return p->node == 0 ? kernel_fail(ENOENT) : 0;
}

/* --- open, close -------------------------------------------------------------------------------------------------- */

static int file_open(uint16_t node, int flags)
{
    for (int i = 0; i < FILES_MAX; i++)
        if (kernel_files[i].node == 0) {
            kernel_files[i] = (struct file){.node = node, .flags = flags};
            return KERNEL_FD_FIRST + i;
        }
    return kernel_fail(EMFILE);
}

static int text_open(int flags, const char *text, size_t len)
{
    int fd = file_open(FS_DATA, flags);
    struct file *f = fd < 0 ? NULL : &kernel_files[fd - KERNEL_FD_FIRST];

    if (f != NULL) {
        f->is_text = true;
        f->text_len = (uint8_t)len;
        memcpy(f->text, text, len);
    }
    return fd;
}

static bool is_read_only(uint16_t node)
{
    enum medium_fs fs = medium.now.nodes[node].fs;

    return fs == kernel_mount.fs && kernel_mount.read_only;
}

int kernel_make(const struct place *p, const struct medium_op *what)
{
    struct medium_op op = *what;

    if (p->node != 0)
        return kernel_fail(EEXIST);
    if (is_read_only(p->dir))
        return kernel_fail(EROFS);
    if (kernel_trips(CALL_GROWS, p->dir))
        return -1;
    op.kind = OP_MAKE;
    op.owner = p->dir;
    op.node = medium_free_node();
    op.fs = medium.now.nodes[p->dir].fs;
    kernel_change(op);
    kernel_change((struct medium_op){.kind = OP_LINK, .owner = p->dir, .name = p->name, .node = op.node});
    kernel_call_end();
    return op.node;
}

static void size_change(uint16_t node, uint32_t size)
{
    if (medium.now.nodes[node].size != size)
        kernel_change((struct medium_op){.kind = OP_SIZE, .owner = node, .node = node, .at = size});
}

static int open_at(int dir_fd, const char *path, int flags, mode_t mode)
{
    struct place p;

    if (strcmp(path, "/proc/cmdline") == 0)
        return text_open(flags, kernel.cmdline, strlen(kernel.cmdline));
    if (strcmp(path, KERNEL_FIRMWARE "/partition") == 0)
        return text_open(flags, (char[]){0, 0, 0, (char)kernel.partition}, 4);
    if (strcmp(path, KERNEL_FIRMWARE "/tryboot") == 0)
        return text_open(flags, "\0\0\0", 4);
    if (kernel_find(dir_fd, path, &p) < 0)
        return -1;
    if (p.node == 0 && (flags & O_CREAT) == 0)
        return kernel_fail(ENOENT);
    if (p.node == 0) {
        int node = kernel_make(&p, &(struct medium_op){.type = MEDIUM_FILE, .meta.mode = mode & 07777});

        return node < 0 ? -1 : file_open((uint16_t)node, flags);
    }
    if ((flags & O_CREAT) != 0 && (flags & O_EXCL) != 0)
        return kernel_fail(EEXIST);
    if (medium.now.nodes[p.node].type == MEDIUM_LINK)
        return kernel_fail(ELOOP);
    if ((flags & O_DIRECTORY) != 0 && medium.now.nodes[p.node].type != MEDIUM_DIR)
        return kernel_fail(ENOTDIR);
    if (kernel_trips((flags & O_ACCMODE) == O_RDONLY ? CALL_LOOKS : CALL_WRITES, p.node))
        return -1;
    if ((flags & O_TRUNC) != 0) {
        size_change(p.node, 0);
        kernel_call_end();
    }
    return file_open(p.node, flags);
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
    const struct file *f = kernel_file(fd);

    if (f == NULL || verb != F_DUPFD_CLOEXEC)
        return kernel_fail(EINVAL);
    return file_open(f->node, f->flags);
}

CALL(int, close, int fd)
{
    struct file *f = kernel_file(fd);

    if (f == NULL)
        return kernel_fail(EBADF);
    f->node = 0;
    return 0;
}

/* --- bytes -------------------------------------------------------------------------------------------------------- */

static ssize_t bytes_read(struct file *f, void *buf, size_t len, uint32_t at)
{
    const struct medium_node *n = &medium.now.nodes[f->node];
    size_t done = 0;

    if (f->is_text) {
        len = at >= f->text_len ? 0 : len < f->text_len - at ? len : f->text_len - at;
        memcpy(buf, f->text + at, len);
        return (ssize_t)len;
    }
    if (n->type == MEDIUM_DIR)
        return kernel_fail(EISDIR);
    if (kernel_trips(CALL_LOOKS, f->node))
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
    kernel_change(
        (struct medium_op){.kind = OP_DATA, .owner = node, .node = node, .at = sector, .id = stored});
    n->sectors[sector] = id;
}

void kernel_cache_drop(uint16_t node)
{
    if (flipped.node == node && medium.now.nodes[node].sectors[flipped.sector] == flipped.seen)
        medium.now.nodes[node].sectors[flipped.sector] = flipped.stored;
}

void kernel_cache_drop_all(void)
{
    if (flipped.node != 0)
        kernel_cache_drop(flipped.node);
}

static ssize_t bytes_write(struct file *f, const void *buf, size_t len, uint32_t at)
{
    const struct medium_node *n = &medium.now.nodes[f->node];
    uint32_t room = n->type == MEDIUM_DEVICE ? n->size : MEDIUM_SECTORS_MAX * MEDIUM_SECTOR;

    if (is_read_only(f->node) || (f->flags & O_ACCMODE) == O_RDONLY)
        return kernel_fail(EBADF);
    if (kernel_trips(CALL_GROWS, f->node))
        return -1;
    if (at + len > room)
        return kernel_fail(ENOSPC);
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
    kernel_call_end();
    if ((f->flags & O_SYNC) == O_SYNC)
        sync_node(f->node);
    return (ssize_t)len;
}

CALL(ssize_t, read, int fd, void *buf, size_t len)
{
    struct file *f = kernel_file(fd);
    ssize_t n = f == NULL ? kernel_fail(EBADF) : bytes_read(f, buf, len, f->at);

    if (n > 0)
        f->at += (uint32_t)n;
    return n;
}

CALL(ssize_t, pread, int fd, void *buf, size_t len, off_t at)
{
    struct file *f = kernel_file(fd);

    return f == NULL ? kernel_fail(EBADF) : bytes_read(f, buf, len, (uint32_t)at);
}

CALL(ssize_t, pwrite, int fd, const void *buf, size_t len, off_t at)
{
    struct file *f = kernel_file(fd);

    return f == NULL ? kernel_fail(EBADF) : bytes_write(f, buf, len, (uint32_t)at);
}

CALL(ssize_t, writev, int fd, const struct iovec *v, int cnt)
{
    struct file *f = kernel_file(fd);
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
    return f == NULL ? kernel_fail(EBADF) : done;
}

CALL(off_t, lseek, int fd, off_t at, int whence)
{
    struct file *f = kernel_file(fd);

    if (f == NULL)
        return kernel_fail(EBADF);
    f->at = (uint32_t)(whence == SEEK_END ? medium.now.nodes[f->node].size + at : at);
    return f->at;
}

CALL(int, ftruncate, int fd, off_t len)
{
    struct file *f = kernel_file(fd);

    if (f == NULL)
        return kernel_fail(EBADF);
    if (kernel_trips(CALL_WRITES, f->node))
        return -1;
    size_change(f->node, (uint32_t)len);
    return kernel_call_end();
}

/* --- sync --------------------------------------------------------------------------------------------------------- */

static int file_sync(int fd, bool nothing)
{
    struct file *f = kernel_file(fd);

    if (f == NULL)
        return kernel_fail(EBADF);
    if (kernel_trips(CALL_WRITES, f->node))
        return -1;
    if (!nothing)
        sync_node(f->node);
    return 0;
}

CALL(int, fsync, int fd)
{
    const struct file *f = kernel_file(fd);

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
    struct file *f = kernel_file(fd);

    if (f == NULL)
        return kernel_fail(EBADF);
    if (kernel_trips(CALL_WRITES, f->node))
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
    const struct file *f = kernel_file(fd);

    (void)at, (void)len;
    if (f != NULL && advice == POSIX_FADV_DONTNEED)
        kernel_cache_drop(f->node);
    return 0;
}
