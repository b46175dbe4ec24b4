"""File trees, byte for byte: what two of them differ in.

    differences(scan(a), scan(b))      [] when they are equal
"""
import hashlib
import os
import stat
from typing import NamedTuple, Optional

KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFCHR: "character device",
         stat.S_IFBLK: "block device", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket"}


class Node(NamedTuple):
    kind: str
    mode: int
    owner: tuple               # uid, gid
    mtime: int                 # nanoseconds
    xattrs: dict
    links: Optional[tuple]     # of a non-directory: all paths of its inode
    target: Optional[bytes]    # of a symlink
    device: Optional[int]      # of a device
    content: Optional[str]     # of a file: size and SHA-256


def _content(path):
    with open(path, "rb") as file:
        return f"{os.fstat(file.fileno()).st_size} bytes {hashlib.file_digest(file, 'sha256').hexdigest()}"


def _node(path, st):
    kind = KINDS[stat.S_IFMT(st.st_mode)]
    return Node(
        kind=kind, mode=stat.S_IMODE(st.st_mode), owner=(st.st_uid, st.st_gid), mtime=st.st_mtime_ns,
        xattrs={name: os.getxattr(path, name, follow_symlinks=False)
                for name in os.listxattr(path, follow_symlinks=False) if name != "security.selinux"},
        links=None, target=os.readlink(path) if kind == "symlink" else None,
        device=st.st_rdev if kind.endswith("device") else None, content=_content(path) if kind == "file" else None)


def scan(root):
    """All nodes below `root` and itself (b""): {path: Node}, paths as bytes."""
    root = os.fsencode(root)
    nodes, inodes = {b"": _node(root, os.lstat(root))}, {}

    def walk(folder):
        with os.scandir(os.path.join(root, folder)) as entries:
            for entry in entries:
                path = os.path.join(folder, entry.name)
                st = entry.stat(follow_symlinks=False)
                nodes[path] = _node(entry.path, st)
                if entry.is_dir(follow_symlinks=False):
                    walk(path)
                else:
                    inodes.setdefault((st.st_dev, st.st_ino), []).append(path)

    walk(b"")
    for paths in inodes.values():
        for path in paths:
            nodes[path] = nodes[path]._replace(links=tuple(sorted(paths)))
    return nodes


def differences(want, got):
    """One line for each property in which two scans differ."""
    lines = []
    for path in sorted(want.keys() | got.keys()):
        name = os.fsdecode(path) or "/"
        if path not in got:
            lines.append(f"{name}: missing")
        elif path not in want:
            lines.append(f"{name}: should not be there, is a {got[path].kind}")
        else:
            lines += [f"{name}: {field}: want {a!r}, got {b!r}"
                      for field, a, b in zip(Node._fields, want[path], got[path]) if a != b]
    return lines
