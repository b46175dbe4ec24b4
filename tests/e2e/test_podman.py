"""Images with odd configs run here as `podman run` runs them: the same user, folder, arguments, environment and
capabilities, or the same refusal. Where the host has no podman that works, this skips and says why."""
import shutil
import subprocess

import pytest

from device import SimDevice
from images import Images, make_registry

REFERENCE = "fleet/odd:stable"
# Says what it was started with. podman leaves a file by which it is told apart; there the answer is all, and the agent
# wants an app that stays.
FACTS = b"""#!/bin/sh
echo "ids $(id -u) $(id -g) $(id -G)"
echo "cwd $(pwd) umask $(umask)"
for arg; do echo "arg $arg"; done
env | awk '!/^(HOSTNAME|TERM|container|NOTIFY_SOCKET|PWD|SHLVL|_|OLDPWD)=/' | sort
awk '/Cap(Prm|Eff|Bnd)/' /proc/self/status
echo "pid $$"
echo end
[ -e /run/.containerenv ] || exec sleep 1000
"""
FILES = {"/app/facts": (FACTS, 0o755), "/etc/group": b"root:x:0:\nmore:x:77:app,other\nlast:x:78:app\n",
         "/etc/passwd": b"root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"}
ENTRY = ["--entrypoint", '["/app/facts"]']
ODD = {  # name: (files instead of FILES, options of `buildah config`)
    "number": ({}, [*ENTRY, "--user", "4242"]),
    "named-user": ({}, [*ENTRY, "--cmd", "a 'b c'", "--user", "app", "--workingdir", "/etc", "--stop-signal", "9"]),
    "only-cmd": ({}, ["--cmd", "/app/facts x", "--env", "EMPTY=", "--env", "TWO=a=b", "--env", "PATH=/usr/bin:/bin"]),
    "shell-form": ({}, ["--entrypoint", "/app/facts one two", "--user", "app:more"]),
}
REFUSED = {  # the same, which podman does not run either
    "unknown-user": ({}, [*ENTRY, "--user", "ghost"]),
    "unknown-group": ({}, [*ENTRY, "--user", "app:ghost"]),
    "no-loader": ({"/app/facts": (b"#!/no/such\n", 0o755)}, ENTRY),
    "not-executable": ({"/app/facts": (FACTS, 0o644)}, ENTRY),
}
LESS = 1 << 13 | 1 << 27 | 1 << 29  # NET_RAW, MKNOD, AUDIT_WRITE: Docker's and not ours


class Podman:
    """podman run on the storage that buildah filled. It wants cgroup v2 alone, so it sees no other."""

    def __init__(self, images):
        self.storage = ["--root", images.dir / "storage", "--runroot", images.dir / "run", "--storage-driver", "vfs"]
        self.environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "CONTAINERS_CONF": str(images.dir / "containers.conf")}

    def run(self, image):
        script = ('mount --make-rprivate / && umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && '
                  'exec podman "$@"')
        return subprocess.run(
            ["unshare", "-m", "sh", "-c", script, "sh", *self.storage, "--cgroup-manager", "cgroupfs", "--events-backend",
             "file", "run", "--rm", "--cgroups=disabled", "--network", "host", "--log-driver", "none", "--ulimit",
             "nofile=1024:1024", "--ulimit", "nproc=1024:1024", f"localhost/{image}"],
            env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            timeout=120, check=False)


@pytest.fixture(name="bench", scope="module")
def fixture_bench(tmp_path_factory):
    if not shutil.which("podman"):
        pytest.skip("podman is not installed")
    top = tmp_path_factory.mktemp("odd")
    images = Images("sim")
    podman = Podman(images)
    tried = podman.run(derive(images, "number", ODD["number"]))
    if tried.returncode:
        pytest.skip("podman does not run here: " + tried.stderr.strip().splitlines()[-1])
    with make_registry(top / "registry") as registry, SimDevice(
            registry, REFERENCE, folder=top / "device", update={"poll_interval": 10, "stable": 1},
            app={"restart": "no", "stop_timeout": 1}) as device:
        images.push("odd-number", registry, REFERENCE)
        device.start()
        yield images, podman, registry, device


def label(name, config):
    return [*config, "--label", f"org.opencontainers.image.version={name}"]


def derive(images, name, odd):
    files, config = odd
    return images.derive("base", "odd-" + name, files=FILES | files, config=label(name, config))


def output(device):
    """What the last start printed, without times."""
    lines = [line.partition(" ")[2] for line in device.agentctl("logs").splitlines()]
    start = max(i for i, line in enumerate(lines) if line.startswith("ids "))
    return lines[start:]


def without_less(lines):
    """The same lines, with Docker's larger set of capabilities made ours."""
    return [f"{line[:8]}{int(line[8:], 16) & ~LESS:016x}" if line.startswith("Cap") else line for line in lines]


@pytest.mark.parametrize("name", ODD)
def test_the_same(bench, name):
    images, podman, registry, device = bench
    want = podman.run(derive(images, name, ODD[name]))
    assert want.returncode == 0, want.stderr
    images.push("odd-" + name, registry, REFERENCE)
    device.agentctl("update")
    device.wait_version(name)
    assert output(device) == without_less(want.stdout.splitlines())


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_both(bench, name):
    images, podman, registry, device = bench
    done = podman.run(derive(images, name, REFUSED[name]))
    assert done.returncode != 0 and "end" not in done.stdout.split()
    digest = images.push("odd-" + name, registry, REFERENCE)
    device.agentctl("update")
    failure = device.wait(lambda s: s["last_failure"] and s["last_failure"]["digest"] == digest, 60,
                          "the failure")["last_failure"]
    print(name, "| podman:", done.stderr.strip().splitlines()[-1], "| here:", failure["text"])
