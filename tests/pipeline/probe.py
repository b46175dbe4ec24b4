"""The agent with a sandbox_enter() that, once it is in, tries what $PROBE names, and ends: what somebody could do who runs code
of his own inside a role. Code 0: it can; 1: it is denied; ended by SIGSYS: it is denied, and that was the end of it. With
$PROBE_FREE it tries without the sandbox.
"""
import signal

from relink import relink

ROLES = {
    "decode": ["decode"],
    "envelope": ["envelope"],
    "fetch": ["fetch"],
    "stage": ["stage", "-s", "A", "-d", "sha256:" + "0" * 64, "-m", "2"],
}

CODE = r"""
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/sandbox.h"

int sandbox_enter_really(enum sandbox kind, uint32_t uid, struct err *e);

/* Whatever descriptors a role expects: memory where some expect it, pipes elsewhere. */
__attribute__((constructor)) static void descriptors_make(void)
{
    int pipes[2], memory = fcntl(memfd_create("probe", 0), F_DUPFD, 64);

    if (!getenv("PROBE") || ftruncate(memory, 512 * 1024) < 0)
        return;
    for (int fd = 3; fd < 10; fd++)
        if (fd == 5 || fd == 8)
            dup2(memory, fd);
        else if (pipe(pipes) == 0)
            dup2(fcntl(pipes[0], F_DUPFD, 64), fd);
}

static long probe(const char *what)
{
    char *argv[] = {"/bin/true", NULL};
    const char *file = getenv("PROBE_FILE"), *folder = getenv("PROBE_FOLDER");

    if (!strcmp(what, "read"))
        return open(file, O_RDONLY);
    if (!strcmp(what, "write"))
        return open(file, O_WRONLY);
    if (!strcmp(what, "create"))
        return mkdir(folder, 0755);
    if (!strcmp(what, "machine"))
        return open("/etc/passwd", O_RDONLY);
    if (!strcmp(what, "active")) {
        int fd = open(getenv("PROBE_ACTIVE"), O_WRONLY);

        return fd < 0 ? open("/active/file", O_WRONLY) : fd;
    }
    if (!strcmp(what, "device"))
        return mknod(getenv("PROBE_DEVICE"), S_IFCHR | 0600, makedev(1, 3)) < 0 ? -1 : open(getenv("PROBE_DEVICE"), O_RDWR);
    if (!strcmp(what, "mount"))
        return mount("tmpfs", "/proc/fs", "tmpfs", 0, NULL);
    if (!strcmp(what, "ioctl"))
        return ioctl(open(getenv("PROBE_ACTIVE"), O_RDONLY), FIGETBSZ, &(int){0});
    if (!strcmp(what, "socket"))
        return socket(AF_INET, SOCK_STREAM, 0);
    if (!strcmp(what, "unix"))
        return socket(AF_UNIX, SOCK_STREAM, 0);
    if (!strcmp(what, "packet"))
        return socket(AF_PACKET, SOCK_RAW, 0);
    if (!strcmp(what, "exec"))
        return execv(argv[0], argv);
    if (!strcmp(what, "fork"))
        return fork();
    if (!strcmp(what, "ptrace"))
        return ptrace(PTRACE_TRACEME, 0, 0, 0);
    if (!strcmp(what, "kill"))
        return kill(getppid(), 0);
    if (!strcmp(what, "root"))
        return setuid(0);
    if (!strcmp(what, "chroot"))
        return chroot("/");
    if (!strcmp(what, "module"))
        return syscall(SYS_init_module, "", 0, "") < 0 && errno != EPERM ? 0 : -1; /* not a module, but it looked */
    if (!strcmp(what, "nice"))
        return setpriority(0, 0, -5);
    return -1;
}

int sandbox_enter(enum sandbox kind, uint32_t uid, struct err *e)
{
    long rc;

    if (!getenv("PROBE_FREE") && sandbox_enter_really(kind, uid, e) < 0) {
        fprintf(stderr, "sandbox: %s\n", e->text);
        _exit(3);
    }
    errno = 0;
    rc = probe(getenv("PROBE"));
    if (rc < 0)
        fprintf(stderr, "denied: %s\n", strerror(errno));
    _exit(rc < 0 ? 1 : 0);
}
"""

TRIES = [(role, what) for role, tries in {
    "decode": "read write create machine socket unix packet exec fork ptrace kill root chroot module",
    "envelope": "read socket exec fork",
    "fetch": "read write create machine packet exec fork ptrace kill root chroot module",
    "stage": "read write create machine active device mount ioctl socket unix packet exec fork ptrace chroot module nice",
}.items() for what in tries.split()]


def make(folder, board="sim"):
    return relink(folder, "agent/base/sandbox.c", "sandbox_enter", CODE, original="sandbox_enter_really", board=board)


def denied(code, text):
    return code == -signal.SIGSYS or code == 1 and "denied: " in text
