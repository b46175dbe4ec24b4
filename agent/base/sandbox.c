#include "base/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/reach.h"

/* A directory that is always there, holds nothing that can be opened by another user, and is nobody's to write. */
#define EMPTY_DIR "/proc/self/fdinfo"

/* --- ids and capabilities --------------------------------------------------------------------------------------- */

static int identity_drop(uint32_t uid, struct err *e)
{
    if (uid == 0)
        return err_set(e, ERR_CONFIG, "agent.worker_uid is 0: what comes from outside is not met as root");
    if (setgroups(0, NULL) < 0 || setgid(uid) < 0 || setuid(uid) < 0)
        return err_errno(e, "sandbox: user %u", uid);
    if (setuid(0) == 0)
        return err_set(e, ERR_STATE, "sandbox: root's rights came back");
    return 0;
}

/* What it takes to make any file of any owner with any extended attribute, up to the last block. They can't grow again:
 * nothing is executed. */
static int capabilities_keep(struct err *e)
{
    static const int kept[] = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER,    CAP_FSETID,
                               CAP_MKNOD, CAP_SETFCAP,      CAP_SYS_ADMIN, CAP_SYS_RESOURCE};
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct have[2], keep[2] = {{0}};

    if (syscall(SYS_capget, &head, have) < 0)
        return err_errno(e, "sandbox: capabilities");
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
        keep[kept[i] / 32].effective |= 1u << kept[i] % 32;
    for (int i = 0; i < 2; i++) {
        keep[i].effective &= have[i].permitted;
        keep[i].permitted = keep[i].effective;
    }
    return syscall(SYS_capset, &head, keep) < 0 ? err_errno(e, "sandbox: capabilities") : 0;
}

/* --- Landlock: which files can be reached ------------------------------------------------------------------------ */

/* From linux/landlock.h, which older headers lack. */
#define LANDLOCK_CREATE 444
#define LANDLOCK_ADD 445
#define LANDLOCK_RESTRICT 446
#define LANDLOCK_BENEATH 1
#define LANDLOCK_READ_FILE (1u << 2)
#define LANDLOCK_READ_DIR (1u << 3)
#define LANDLOCK_BIND_TCP (1u << 0)
#define LANDLOCK_CONNECT_TCP (1u << 1)

struct landlock_rules {
    uint64_t files, network, scoped;
};

struct landlock_beneath {
    uint64_t allowed;
    int32_t parent_fd;
} __attribute__((packed));

/* 0: the kernel has none. */
static int landlock_version(void)
{
    long version = syscall(LANDLOCK_CREATE, NULL, 0, 1);

    return version > 0 ? (int)version : 0;
}

static int landlock_add(int rules, int fd, uint64_t what, struct err *e)
{
    struct landlock_beneath b = {.allowed = what, .parent_fd = fd};

    return syscall(LANDLOCK_ADD, rules, LANDLOCK_BENEATH, &b, 0) < 0 ? err_errno(e, "sandbox: Landlock") : 0;
}

static int landlock_allow(int rules, const char *path, uint64_t what, struct err *e)
{
    int rc, fd = open(path, O_PATH | O_CLOEXEC);

    if (fd < 0) /* what is not there need not be reached */
        return 0;
    rc = landlock_add(rules, fd, what, e);
    close(fd);
    return rc < 0 ? err_prefix(e, "%s", path) : 0;
}

static const struct {
    const char *path;
    uint64_t what;
} readable[] = {
    {"/etc", LANDLOCK_READ_FILE | LANDLOCK_READ_DIR}, /* resolv.conf, hosts */
    {"/run",
     LANDLOCK_READ_FILE | LANDLOCK_READ_DIR}, /* into which /etc/resolv.conf is a link on many systems */
    {"/dev/random", LANDLOCK_READ_FILE},      /* mbedTLS's entropy */
};

static int also_readable = -1;

void sandbox_allow(int fd)
{
    also_readable = fd;
}

/* Nothing can be reached from now on but, for fetch, what it reads. */
static int landlock_enter(enum sandbox kind, struct err *e)
{
    int version = landlock_version();
    struct landlock_rules rules = {
        .files = version >= 5   ? 0xffff
                 : version >= 3 ? 0x7fff
                 : version == 2 ? 0x3fff
                                : 0x1fff,
        .network = kind == SANDBOX_DECODE    ? LANDLOCK_BIND_TCP | LANDLOCK_CONNECT_TCP
                   : kind == SANDBOX_FORWARD ? LANDLOCK_BIND_TCP
                                             : 0,
        .scoped = 3,
    };
    size_t len = version >= 6 ? sizeof rules : version >= 4 ? 2 * sizeof rules.files : sizeof rules.files;
    int fd, rc = 0;

    if (version == 0)
        return 0;
    fd = (int)syscall(LANDLOCK_CREATE, &rules, len, 0);
    if (fd < 0)
        return err_errno(e, "sandbox: Landlock");
    for (size_t i = 0; rc == 0 && kind == SANDBOX_FETCH && i < sizeof readable / sizeof readable[0]; i++)
        rc = landlock_allow(fd, readable[i].path, readable[i].what, e);
    if (rc == 0 && kind == SANDBOX_FETCH && also_readable >= 0)
        rc = landlock_add(fd, also_readable, LANDLOCK_READ_FILE | LANDLOCK_READ_DIR, e);
    if (rc == 0 && syscall(LANDLOCK_RESTRICT, fd, 0) < 0)
        rc = err_errno(e, "sandbox: Landlock");
    close(fd);
    return rc;
}

/* --- all of it --------------------------------------------------------------------------------------------------- */

static int files_forbid(enum sandbox kind, struct err *e)
{
    const struct rlimit none = {0, 0};

    /* pipes are written as before under RLIMIT_FSIZE 0; a log file on stderr is not, which must not kill us */
    if (signal(SIGXFSZ, SIG_IGN) == SIG_ERR || setrlimit(RLIMIT_FSIZE, &none) < 0)
        return err_errno(e, "sandbox");
    return landlock_enter(kind, e);
}

static int root_enter(enum sandbox kind, struct err *e)
{
    if (kind == SANDBOX_FETCH || kind == SANDBOX_STAGE)
        return reach_enter(e);
    return chroot(EMPTY_DIR) < 0 || chdir("/") < 0 ? err_errno(e, "sandbox: chroot") : 0;
}

int sandbox_enter(enum sandbox kind, uint32_t uid, struct err *e)
{
    const struct rlimit none = {0, 0};
    int rc = 0;

    if (geteuid() == 0) {
        rc = root_enter(kind, e);
        if (rc == 0)
            rc = kind == SANDBOX_STAGE ? capabilities_keep(e) : identity_drop(uid, e);
    }
    /* the kernel forgets with the change of user that a role ends with its parent */
    if (rc == 0 && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ||
                    setrlimit(RLIMIT_CORE, &none) < 0))
        rc = err_errno(e, "sandbox");
    if (rc == 0 && kind != SANDBOX_STAGE)
        rc = files_forbid(kind, e);
    /* the sanitizers make calls of their own */
    if (rc == 0 && !IS_ENABLED(__SANITIZE_ADDRESS__))
        rc = sandbox_calls(kind, e);
    return rc;
}

void sandbox_describe(char *out, size_t cap)
{
    /* a filter at an address that is none: a kernel that knows filters looks there first */
    bool seccomp = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL) < 0 && errno == EFAULT;

    snprintf(out, cap, "%sseccomp, %sLandlock%s", seccomp ? "" : "NO ", landlock_version() ? "" : "no ",
             geteuid() != 0      ? ", NOT ROOT: one user for all"
             : !reach_possible() ? ", NO private roots"
                                 : "");
}
