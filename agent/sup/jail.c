#include "sup/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "sup/root.h"
#include "sup/seccomp.h"

static const struct {
    const char *name; /* in /proc/PID/ns */
    int flag;
} spaces[] = {
    {"cgroup", CLONE_NEWCGROUP}, {"ipc", CLONE_NEWIPC}, {"uts", CLONE_NEWUTS},
    {"net", CLONE_NEWNET},       {"pid", CLONE_NEWPID}, {"mnt", CLONE_NEWNS}, /* last: /proc goes with it */
};
#define SPACE_CNT (sizeof spaces / sizeof spaces[0])

/* --- what there is ------------------------------------------------------------------------------------------------- */

static void missing_add(struct jail *j, const char *what)
{
    size_t at = strlen(j->missing);

    snprintf(j->missing + at, sizeof j->missing - at, "%s%s", at ? ", " : "", what);
}

static bool can_have_spaces(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};

    return !syscall(SYS_capget, &head, data) && (data[0].effective >> CAP_SYS_ADMIN & 1);
}

void jail_probe(struct jail *j, enum conf_network network)
{
    j->namespaces = 0;
    j->missing[0] = '\0';
    j->seccomp = prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
    if (!j->seccomp)
        missing_add(j, "no system call filter");
    if (!can_have_spaces()) {
        missing_add(j, "no namespaces, all capabilities: agentd lacks CAP_SYS_ADMIN");
        return;
    }
    for (size_t i = 0; i < SPACE_CNT; i++) {
        char path[32], words[32];

        if (spaces[i].flag == CLONE_NEWNET && network == NETWORK_HOST)
            continue;
        snprintf(path, sizeof path, "/proc/self/ns/%s", spaces[i].name);
        snprintf(words, sizeof words, "no %s namespace", spaces[i].name);
        if (!access(path, F_OK))
            j->namespaces |= spaces[i].flag;
        else
            missing_add(j, words);
    }
}

/* --- namespaces ---------------------------------------------------------------------------------------------------- */

/* That of cgroups is made in the child, once it is in its group. */
int jail_clone_flags(const struct jail *j)
{
    return j->namespaces & ~(CLONE_NEWCGROUP | (j->net_fd > 0 ? CLONE_NEWNET : 0));
}

int jail_net_join(const struct jail *j, struct err *e)
{
    return j->net_fd > 0 && setns(j->net_fd, CLONE_NEWNET) ? err_errno(e, "network namespace") : 0;
}

/* Its namespace of cgroups is made last, so that the app's group is the root of it. */
static int cgroup_enter(const struct jail *j, struct err *e)
{
    char path[CONF_PATH_MAX + 16];
    int fd, rc;

    if (!j->cgroup[0])
        return 0;
    snprintf(path, sizeof path, "%s/cgroup.procs", j->cgroup);
    fd = IO_RETRY(open(path, O_WRONLY | O_CLOEXEC));
    rc = fd < 0 || io_write_full(fd, "0", 1) ? err_errno(e, "join %s", j->cgroup) : 0;
    if (fd >= 0)
        close(fd);
    return rc;
}

/* As under Docker, an app that is not root may listen on port 80: the ports are its own. */
static void low_ports_free(void)
{
    int fd = IO_RETRY(open("/proc/sys/net/ipv4/ip_unprivileged_port_start", O_WRONLY | O_CLOEXEC));

    if (fd < 0)
        return;
    (void)io_write_full(fd, "0", 1);
    close(fd);
}

int jail_enter(const struct jail *j, const struct app_spec *spec, const char *root, struct err *e)
{
    if (cgroup_enter(j, e))
        return e->code;
    if ((j->namespaces & CLONE_NEWCGROUP) && unshare(CLONE_NEWCGROUP))
        return err_errno(e, "cgroup namespace");
    if (j->namespaces & CLONE_NEWNET)
        low_ports_free();
    if (j->namespaces & CLONE_NEWNS)
        return root_build(j, spec, root, e);
    if (strcmp(root, "/") && (chroot(root) || chdir("/")))
        return err_errno(e, "chroot to %s", root);
    return 0;
}

static int space_open(pid_t pid, const char *name)
{
    char path[48];

    snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, name);
    return IO_RETRY(open(path, O_RDONLY | O_CLOEXEC));
}

int jail_join(const struct jail *j, pid_t pid, struct err *e)
{
    int rc = cgroup_enter(j, e);

    for (size_t i = 0; i < SPACE_CNT && !rc; i++) {
        int fd;

        if (!(j->namespaces & spaces[i].flag) || spaces[i].flag == CLONE_NEWPID)
            continue;
        fd = space_open(pid, spaces[i].name);
        if (fd < 0 || setns(fd, spaces[i].flag))
            rc = err_errno(e, "%s namespace of the app", spaces[i].name);
        if (fd >= 0)
            close(fd);
    }
    return rc;
}

int jail_pid_join(pid_t pid, struct err *e)
{
    int fd = space_open(pid ? pid : getpid(), "pid");
    int rc = fd < 0 || setns(fd, CLONE_NEWPID) ? err_errno(e, "pid namespace of the app") : 0;

    if (fd >= 0)
        close(fd);
    return rc;
}

/* --- privileges ---------------------------------------------------------------------------------------------------- */

#define BIT(cap) (1ull << (cap))

/* Docker's default but for AUDIT_WRITE, MKNOD and NET_RAW, which few need. */
#define CAPS_DEFAULT                                                                                         \
    (BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER) | BIT(CAP_FSETID) | BIT(CAP_KILL) |            \
     BIT(CAP_NET_BIND_SERVICE) | BIT(CAP_SETFCAP) | BIT(CAP_SETGID) | BIT(CAP_SETPCAP) | BIT(CAP_SETUID) |   \
     BIT(CAP_SYS_CHROOT))

uint64_t jail_capabilities(const struct conf_app *conf)
{
    return (CAPS_DEFAULT & ~conf->caps_drop) | conf->caps_add;
}

int jail_bound(uint64_t keep, struct err *e)
{
    if (geteuid())
        return 0;
    for (int cap = 0; cap < 64 && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (!(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
            return err_errno(e, "capability %d", cap);
    return 0;
}

/* Only root has any after the change of user, and exec gives it no more than the bounding set. */
int jail_drop(uint64_t keep, struct err *e)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};

    if (geteuid())
        return 0;
    if (syscall(SYS_capget, &head, data))
        return err_errno(e, "capabilities");
    for (int i = 0; i < 2; i++) {
        data[i].permitted &= (uint32_t)(keep >> 32 * i);
        data[i].effective = data[i].permitted;
        data[i].inheritable = 0;
    }
    return syscall(SYS_capset, &head, data) ? err_errno(e, "capabilities") : 0;
}

int jail_seal(const struct jail *j, uint64_t keep, struct err *e)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return err_errno(e, "no_new_privs");
    return j->seccomp ? seccomp_enter(keep, e) : 0;
}
