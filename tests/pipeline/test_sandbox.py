"""What somebody could do who runs code of his own inside a role: the agent is linked with a sandbox_enter() that, once
it is in, tries what $PROBE names. Each try is made without the sandbox, too, where it works: so the test can fail."""
import os
import signal
import subprocess

import pytest

from relink import relink

ROLES = {
    "decode": ["decode"],
    "envelope": ["envelope"],
    "fetch": ["fetch"],
    "stage": ["stage", "-s", "A", "-d", "sha256:" + "0" * 64, "-m", "2"],
}

PROBES = r"""
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
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
    if (!strcmp(what, "shadow"))
        return open("/etc/shadow", O_RDONLY);
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
    "decode": "read write create shadow socket unix packet exec fork ptrace kill root chroot module",
    "envelope": "read socket exec fork",
    "fetch": "read write create shadow packet exec fork ptrace kill root chroot module",
    "stage": "read write create shadow active device mount ioctl socket unix packet exec fork ptrace chroot module nice",
}.items() for what in tries.split()]


@pytest.fixture(name="program", scope="module")
def fixture_program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    return relink(folder, "agent/base/sandbox.c", "sandbox_enter", PROBES, original="sandbox_enter_really")


def run(program, folder, role, what, **environment):
    """Start the role with its pipes; it ends at the probe. Returns its code and what it said."""
    folder.chmod(0o755)
    conf, file = folder / "agent.conf", folder / "everybody-may-read-this"
    conf.write_text(f"[trust]\npolicy = off\n[registry]\nimage = r/a\n[agent]\nstate_dir = {folder}\n")
    file.write_text("x")
    file.chmod(0o666)
    for place in folder / "slot-a", folder / "slot-b", folder / "stage":
        place.mkdir(exist_ok=True)
    active = folder / "slot-b/file"
    active.write_text("x")
    pipes = [os.pipe() for _ in range(4)]
    ends = [end for pipe in pipes for end in pipe][:7]
    blocks = os.memfd_create("blocks")
    os.ftruncate(blocks, 512 * 1024)
    ends[5 - 3] = ends[8 - 3] = blocks  # DECODE_FD_BLOCKS, STAGE_FD_BLOCKS

    def place():
        high = [os.dup2(end, 100 + at) for at, end in enumerate(ends)]
        for at, end in enumerate(high):
            os.dup2(end, 3 + at)

    try:
        done = subprocess.run([program, ROLES[role][0], "-c", conf, *ROLES[role][1:]], preexec_fn=place,
                              close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True, timeout=20, check=False,
                              cwd=folder, env=dict(
                                  os.environ, PROBE=what, PROBE_FILE=str(file), PROBE_FOLDER=str(folder / "new"),
                                  PROBE_ACTIVE=str(active), PROBE_DEVICE=str(folder / "stage/null"),
                                  SLIPWAY_SIM_DIR=str(folder), **environment))
    finally:
        for pipe in pipes:
            os.close(pipe[0])
            os.close(pipe[1])
        os.close(blocks)
    return done.returncode, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="without root there is less to give up")
@pytest.mark.parametrize("role, what", TRIES)
def test_role_cannot(role, what, program, tmp_path):
    code, text = run(program, tmp_path, role, what, PROBE_FREE="1")
    assert code == 0, f"the try itself does not work here: {text}"
    if what == "create":
        (tmp_path / "new").rmdir()
    if what == "device":
        (tmp_path / "stage/null").unlink()
    code, text = run(program, tmp_path, role, what)
    assert code == -signal.SIGSYS or (code == 1 and "denied: " in text), f"code {code}: {text}"
    assert not (tmp_path / "new").exists()
