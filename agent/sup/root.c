#include "sup/root.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/io.h"

#define VOLUME_MAX (CONF_APP_VOLUME_MAX + APP_VOLUME_MAX)
#define VOLUME_NAME_MAX (3 * CONF_APP_PATH_MAX)
#define SAFE (MS_NOSUID | MS_NODEV | MS_NOEXEC)

/* What comes from outside, taken before the old root is out of reach. */
struct outside {
    int root;
    int resolv; /* etc/resolv.conf; -1: none */
    int notify; /* -1: none */
    size_t volume_cnt;
    struct {
        int fd;
        bool read_only;
        bool made; /* a new one: it gets the owner and mode of what it covers */
        char to[CONF_APP_PATH_MAX];
    } volumes[VOLUME_MAX];
    struct stat devices[CONF_APP_DEVICE_MAX];
};

/* --- outside ------------------------------------------------------------------------------------------------------- */

static int volume_take(struct outside *o, int fd, const char *to, bool read_only, struct err *e)
{
    struct stat st;

    if (fd < 0)
        return err_errno(e, "volume for %s", to);
    if (fstat(fd, &st)) {
        err_errno(e, "volume for %s", to);
        close(fd);
        return e->code;
    }
    o->volumes[o->volume_cnt].fd = fd;
    o->volumes[o->volume_cnt].read_only = read_only;
    o->volumes[o->volume_cnt].made = S_ISDIR(st.st_mode) && !(st.st_mode & 07777);
    snprintf(o->volumes[o->volume_cnt].to, sizeof o->volumes[0].to, "%s", to);
    o->volume_cnt++;
    return 0;
}

/* A folder of the state directory. One without any right was made and not finished yet. */
static int volume_named(const struct jail *j, const char *name)
{
    char path[CONF_PATH_MAX + 16];
    int dir, fd;

    snprintf(path, sizeof path, "%s/volumes", j->state_dir);
    if (mkdir(path, 0711) && errno != EEXIST)
        return -1;
    dir = IO_RETRY(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (dir < 0)
        return -1;
    fd = mkdirat(dir, name, 0) && errno != EEXIST
             ? -1
             : IO_RETRY(openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    close(dir);
    return fd;
}

static bool volume_has(const struct outside *o, const char *to)
{
    for (size_t i = 0; i < o->volume_cnt; i++)
        if (!strcmp(o->volumes[i].to, to))
            return true;
    return false;
}

/* "/var/lib/app" becomes "-var-lib-app", which no name in agent.conf can be, and a "-" of its own "%2d". */
static void volume_name(const char *path, char out[VOLUME_NAME_MAX])
{
    for (; *path; path++)
        if (*path == '-' || *path == '%')
            out += snprintf(out, 4, "%%%02x", (unsigned char)*path);
        else
            *out++ = (char)(*path == '/' ? '-' : *path);
    *out = '\0';
}

/* The device's, and for each volume of the image that is none of these one of its own. */
static int volumes_take(const struct jail *j, const struct app_spec *spec, struct outside *o, struct err *e)
{
    for (size_t i = 0; i < CONF_APP_VOLUME_MAX && j->conf->volumes[i].to[0]; i++) {
        const struct conf_volume *v = &j->conf->volumes[i];
        int fd = v->from[0] == '/' ? IO_RETRY(open(v->from, O_PATH | O_CLOEXEC)) : volume_named(j, v->from);

        if (volume_take(o, fd, v->to, v->read_only, e))
            return e->code;
    }
    for (size_t i = 0; i < spec->volume_cnt; i++) {
        const char *to = app_spec_text(spec, APP_TEXT_VOLUME, i);
        char name[VOLUME_NAME_MAX];

        if (!to || to[0] != '/' || strlen(to) >= CONF_APP_PATH_MAX)
            return err_set(e, ERR_FORMAT, "volumes are cut off");
        volume_name(to, name);
        if (!volume_has(o, to) && volume_take(o, volume_named(j, name), to, false, e))
            return e->code;
    }
    return 0;
}

static int outside_take(const struct jail *j, const struct app_spec *spec, struct outside *o, struct err *e)
{
    o->root = IO_RETRY(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    o->resolv = IO_RETRY(open("/etc/resolv.conf", O_PATH | O_CLOEXEC));
    o->notify = j->notify[0] ? IO_RETRY(open(j->notify, O_PATH | O_CLOEXEC)) : -1;
    for (size_t i = 0; i < CONF_APP_DEVICE_MAX && j->conf->devices[i][0]; i++) {
        if (stat(j->conf->devices[i], &o->devices[i]))
            return err_errno(e, "device %s", j->conf->devices[i]);
        if (!S_ISCHR(o->devices[i].st_mode) && !S_ISBLK(o->devices[i].st_mode))
            return err_set(e, ERR_CONFIG, "device %s is none", j->conf->devices[i]);
    }
    return volumes_take(j, spec, o, e);
}

/* --- inside -------------------------------------------------------------------------------------------------------- */

/* The tree is entered. Any directory does as its mount point, since nothing outside sees it; "/proc" is always there.
 * It does not become "/" of the mount namespace yet: the old root would lie on top of it, and a symlink of the image that
 * has ".." in it would lead there. */
static int root_enter(const char *root, struct err *e)
{
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount(root, "/proc", NULL, MS_BIND, NULL))
        return err_errno(e, "mount %s", root);
    if (mount(NULL, "/proc", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NODEV, NULL))
        return err_errno(e, "read-only root");
    return chdir("/proc") || chroot(".") ? err_errno(e, "new root") : 0;
}

/* It becomes "/", and what was outside is gone. No path of the image is looked up between the two. */
static int root_swap(int old, struct err *e)
{
    if (fchdir(old) || chroot(".") || chdir("/proc") || syscall(SYS_pivot_root, ".", ".") || fchdir(old) ||
        umount2(".", MNT_DETACH) || chdir("/"))
        return err_errno(e, "pivot_root");
    close(old);
    return 0;
}

static int folders_make(const char *path)
{
    char part[CONF_APP_PATH_MAX];

    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        if (mkdir(part, 0755) && errno != EEXIST && errno != EROFS)
            return -1;
    }
    return 0;
}

static int mounted(const char *type, const char *at, unsigned long flags, const char *options, struct err *e)
{
    return mount(type, at, type, flags, options) ? err_errno(e, "mount %s", at) : 0;
}

/* The same for what an image need not have. */
static int mounted_if(const char *type, const char *at, unsigned long flags, const char *options,
                      struct err *e)
{
    struct stat st;

    return stat(at, &st) || !S_ISDIR(st.st_mode) ? 0 : mounted(type, at, flags, options, e);
}

/* What was open outside, at a path inside. Needs /proc. */
static int bound(int fd, const char *at, bool read_only, struct err *e)
{
    char from[32];

    snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    if (mount(from, at, NULL, MS_BIND | MS_REC, NULL) ||
        mount(NULL, at, NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | (read_only ? MS_RDONLY : 0),
              NULL))
        return err_errno(e, "mount %s", at);
    return 0;
}

static int node_make(const char *path, mode_t mode, dev_t dev, uid_t uid, gid_t gid, struct err *e)
{
    if (folders_make(path) || mknod(path, mode, dev) || chown(path, uid, gid) || chmod(path, mode & 07777))
        return err_errno(e, "%s", path);
    return 0;
}

static int devices_make(const struct jail *j, const struct outside *o, struct err *e)
{
    static const struct {
        const char *path;
        unsigned minor;
        unsigned major;
    } nodes[] = {{"/dev/null", 3, 1},   {"/dev/zero", 5, 1},    {"/dev/full", 7, 1},
                 {"/dev/random", 8, 1}, {"/dev/urandom", 9, 1}, {"/dev/tty", 0, 5}};
    static const char *const links[][2] = {{"/proc/self/fd", "/dev/fd"},
                                           {"/proc/self/fd/0", "/dev/stdin"},
                                           {"/proc/self/fd/1", "/dev/stdout"},
                                           {"/proc/self/fd/2", "/dev/stderr"},
                                           {"pts/ptmx", "/dev/ptmx"}};

    for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++)
        if (node_make(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor), 0, 0, e))
            return e->code;
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++)
        if (symlink(links[i][0], links[i][1]))
            return err_errno(e, "%s", links[i][1]);
    for (size_t i = 0; i < CONF_APP_DEVICE_MAX && j->conf->devices[i][0]; i++)
        if (node_make(j->conf->devices[i], o->devices[i].st_mode, o->devices[i].st_rdev, o->devices[i].st_uid,
                      o->devices[i].st_gid, e))
            return e->code;
    return 0;
}

static int system_mount(const struct jail *j, struct err *e)
{
    char tmp[48];

    snprintf(tmp, sizeof tmp, "mode=1777,size=%uk", (unsigned)j->conf->tmpfs_kb);
    umask(0);
    if (mounted("proc", "/proc", SAFE, NULL, e) ||
        mounted("tmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=755,size=64k", e))
        return e->code;
    if (mkdir("/dev/pts", 0755) || mkdir("/dev/shm", 01777))
        return err_errno(e, "/dev");
    /* Group 5 is tty in every distribution; a kernel without UNIX98 ptys has no devpts. */
    if (mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
              "newinstance,ptmxmode=0666,mode=620,gid=5") &&
        errno != ENODEV)
        return err_errno(e, "mount /dev/pts");
    if (mounted("tmpfs", "/dev/shm", SAFE, tmp, e) || mounted_if("sysfs", "/sys", SAFE | MS_RDONLY, NULL, e))
        return e->code;
    if (j->cgroup[0] && (j->namespaces & CLONE_NEWCGROUP))
        (void)mount("cgroup2", "/sys/fs/cgroup", "cgroup2", SAFE | MS_RDONLY, NULL);
    if (mounted_if("tmpfs", "/tmp", MS_NOSUID | MS_NODEV, tmp, e) ||
        mounted_if("tmpfs", "/var/tmp", MS_NOSUID | MS_NODEV, tmp, e))
        return e->code;
    snprintf(tmp, sizeof tmp, "mode=755,size=%uk", (unsigned)j->conf->tmpfs_kb);
    return mounted_if("tmpfs", "/run", MS_NOSUID | MS_NODEV, tmp, e);
}

/* Docker's list. What a kernel does not have needs no mask. */
static int proc_mask(struct err *e)
{
    static const char *const hidden[] = {"/proc/acpi",
                                         "/proc/asound",
                                         "/proc/kcore",
                                         "/proc/keys",
                                         "/proc/latency_stats",
                                         "/proc/sched_debug",
                                         "/proc/scsi",
                                         "/proc/timer_list",
                                         "/proc/timer_stats",
                                         "/sys/firmware",
                                         "/sys/devices/virtual/powercap"};
    static const char *const fixed[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                        "/proc/sysrq-trigger"};
    struct stat st;

    for (size_t i = 0; i < sizeof hidden / sizeof hidden[0]; i++) {
        if (stat(hidden[i], &st))
            continue;
        if (S_ISDIR(st.st_mode) ? mount("tmpfs", hidden[i], "tmpfs", SAFE | MS_RDONLY, NULL)
                                : mount("/dev/null", hidden[i], NULL, MS_BIND, NULL))
            return err_errno(e, "mask %s", hidden[i]);
    }
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        if (stat(fixed[i], &st))
            continue;
        if (mount(fixed[i], fixed[i], NULL, MS_BIND | MS_REC, NULL) ||
            mount(NULL, fixed[i], NULL, MS_REMOUNT | MS_BIND | SAFE | MS_RDONLY, NULL))
            return err_errno(e, "fix %s", fixed[i]);
    }
    return 0;
}

/* The mode comes last: until it is set, a start that was cut short begins anew. */
static int volume_finish(int fd, const struct stat *like, struct err *e)
{
    if (fchown(fd, like->st_uid, like->st_gid) || fchmod(fd, like->st_mode & 07777) || fsync(fd))
        return err_errno(e, "new volume");
    return 0;
}

static int volumes_mount(const struct outside *o, struct err *e)
{
    for (size_t i = 0; i < o->volume_cnt; i++) {
        const char *to = o->volumes[i].to;
        struct stat st;

        if (folders_make(to) || (mkdir(to, 0755) && errno != EEXIST && errno != EROFS) || stat(to, &st))
            return err_errno(e, "volume: the image has no %s", to);
        if ((o->volumes[i].made && volume_finish(o->volumes[i].fd, &st, e)) ||
            bound(o->volumes[i].fd, to, o->volumes[i].read_only, e))
            return e->code;
        close(o->volumes[i].fd);
    }
    return 0;
}

/* A file that may be missing behind a symlink into a tmpfs, as etc/resolv.conf often is. One that the read-only tree
 * lacks can't be had. */
static int file_bind(int fd, const char *at, bool needed, struct err *e)
{
    int made = IO_RETRY(open(at, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));

    if (made >= 0)
        close(made);
    if (made < 0 && access(at, F_OK))
        return needed ? err_errno(e, "%s", at) : 0;
    return bound(fd, at, true, e);
}

static int files_mount(const struct outside *o, struct err *e)
{
    int rc = 0;

    if (o->notify >= 0) {
        rc = mkdir(JAIL_NOTIFY_DIR, 0755) && errno != EEXIST
                 ? err_errno(e, JAIL_NOTIFY_DIR)
                 : file_bind(o->notify, JAIL_NOTIFY_SOCKET, true, e);
        close(o->notify);
    }
    if (o->resolv >= 0) {
        if (!rc)
            rc = file_bind(o->resolv, "/etc/resolv.conf", false, e);
        close(o->resolv);
    }
    return rc;
}

static int loopback_up(struct err *e)
{
    struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int rc = fd < 0 || ioctl(fd, SIOCSIFFLAGS, &r) ? err_errno(e, "loopback") : 0;

    if (fd >= 0)
        close(fd);
    return rc;
}

int root_build(const struct jail *j, const struct app_spec *spec, const char *root, struct err *e)
{
    struct outside o = {.resolv = -1, .notify = -1};

    if (outside_take(j, spec, &o, e) || root_enter(root, e) || system_mount(j, e) || devices_make(j, &o, e) ||
        proc_mask(e) || volumes_mount(&o, e) || files_mount(&o, e) || root_swap(o.root, e))
        return e->code;
    umask(022);
    return j->namespaces & CLONE_NEWNET ? loopback_up(e) : 0;
}
