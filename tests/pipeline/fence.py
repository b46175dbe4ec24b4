"""What shows that an agent wrote nowhere but where it may.

Around the agent: a Fence is the machine's whole filesystem with an overlay on it, in a mount namespace of its own. The
agent sees all that is there, and may write; what it does write ends in the overlay, where it is found:

    with Fence(passed) as fence:       # `passed` is shared with the machine: the devices' folders are below it
        SimDevice.fence = fence.enter
        ...
        assert fence.changes() == []

Within a device's folder: spared(device) compares everything that a deployment must leave alone.
"""
import contextlib
import os
import pathlib
import subprocess

from tree import differences, scan

HOLD = """
set -eu
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay none -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
for place in /proc /sys /dev "$2"; do mount --rbind "$place" "$1/root$place"; done
echo
exec sleep infinity
"""


class Fence:
    """`enter` are the words that put a command behind it."""

    def __init__(self, passed):
        self.place = pathlib.Path(passed).resolve() / "fence"
        self.place.mkdir()
        self.holder = subprocess.Popen(  # pylint: disable=consider-using-with
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "sh", "-c", HOLD, "fence", self.place,
             self.place.parent], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self.holder.stdout.readline() == b"\n", "there is no overlay here"
        self.enter = ["nsenter", "--mount", "--target", str(self.holder.pid), "chroot", self.place / "root"]

    def changes(self):
        """Every path outside of `passed` that was made, changed or removed behind the fence."""
        upper = pathlib.Path(f"/proc/{self.holder.pid}/root{self.place}/upper")
        found = {pathlib.Path("/") / path.relative_to(upper): path for path in upper.rglob("*")}
        return sorted(str(path) for path, now in found.items() if not is_copy(path, now))

    def forget(self, *paths):
        """Take back what was written at these paths."""
        subprocess.run([*self.enter, "rm", "-r", *paths], check=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()


def is_copy(path, now):
    """Whether `now`, in the overlay, is but the folder `path` again, that something below it may differ."""
    if not (path.is_dir() and now.is_dir()) or path.is_symlink() or "trusted.overlay.opaque" in os.listxattr(now):
        return False
    a, b = path.lstat(), now.lstat()
    return (a.st_mode, a.st_uid, a.st_gid) == (b.st_mode, b.st_uid, b.st_gid)


# The agent's state, its sockets, logs and lock, and the watchdog that it feeds.
OWN = ("state", "agentd.sock", "agentd.log", "app", "app.log", "bootenv.lock", "watchdog")


def kept(device, *written):
    """All of a device's folder, byte for byte, but for what is its agent's own, and what is `written`."""
    free = tuple(os.fsencode(name) for name in OWN + written)
    return {path: node._replace(mtime=0) if path == b"" else node for path, node in scan(device.dir).items()
            if path.partition(b"/")[0] not in free}


@contextlib.contextmanager
def spared(device, *written):
    """Nothing in the device's folder is another afterwards but what stands in `written`: the inactive slot, say."""
    before = kept(device, *written)
    yield
    changed = differences(before, kept(device, *written))
    assert not changed, "written to: " + "; ".join(changed)
