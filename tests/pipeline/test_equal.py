"""An image, as the agent installs it, is byte for byte what umoci unpacks.

The agent is the real one on the simulated board, all its processes, with a docker-registry. The image has a layer of
Debian packages and the odd layers of odd.py; each way of compressing a layer has a case. And the images that buildah
makes and compresses itself. Equal are: names, types, modes, owners, times, extended attributes, link targets, device
numbers, hard links and content; that the comparison sees each of these is tested at the end.

    SLIPWAY_BIG=1   one more image, of 300 MB and 10,000 files
"""
import os
import shutil
import stat
import subprocess
import tarfile

import pytest

import odd
from device import SimDevice
from images import BOARDS, Images
from layouts import CODECS, Layout, unpack
from tree import differences, scan

REFERENCE = "fleet/web:stable"
CONFIG = {"Entrypoint": ["/bin/sleep", "1000"], "Labels": {"org.opencontainers.image.version": "1"}}
BIG_PACKAGES = "base-files base-passwd coreutils dash python3 nodejs perl git tzdata ncurses-term vim-runtime mono-runtime"


@pytest.fixture(name="images", scope="module")
def fixture_images():
    images = Images("sim")
    images.build("v1")
    return images


@pytest.fixture(name="layers", scope="module")
def fixture_layers(images):
    return [images.dir / "base.tar", *odd.layers()]


@pytest.fixture(name="reference", scope="module")
def fixture_reference(layers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    return scan(unpack(Layout(folder / "layout", layers, CODECS["tar"]).dir, folder / "bundle"))


def implicit(layers):
    """Directories that hold something and that no layer names: no layer says of what time they are, so each tool makes
    that up, and so it does for the directories it makes them in."""
    named, parents = {""}, set()
    for layer in layers:
        with tarfile.open(layer) as tar:
            for member in tar:
                path = os.path.normpath(member.name)
                named.add(path)
                parents.add(os.path.dirname(path))
    made = set()
    for path in parents - named:
        while path not in named:
            made.add(path)
            path = os.path.dirname(path)
        made.add(path)
    return {os.fsencode(path) for path in made}


def timeless(nodes, paths):
    return {path: node._replace(mtime=0) if path in paths else node for path, node in nodes.items()}


def installed(folder, registry):
    """What the agent makes of the tag: a scan of the slot."""
    with SimDevice(registry, REFERENCE, folder=folder) as device:
        device.start()
        status = device.wait_installed()
        assert status["booted"] == "B", status["last_failure"]
        return scan(device.slot("B"))


def check(want, got):
    lines = differences(want, got)
    assert not lines, "\n".join([f"{len(lines)} differences", *lines[:20]])


@pytest.mark.parametrize("codec", CODECS)
def test_odd_layers(codec, layers, reference, registry, tmp_path):
    layout = Layout(tmp_path / "layout", layers, CODECS[codec], CONFIG)
    assert registry.upload(layout.source, REFERENCE) == layout.digest
    made_up = implicit(layers[:1])
    check(timeless(reference, made_up), timeless(installed(tmp_path / "device", registry), made_up))


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_buildah(compression, images, registry, tmp_path):
    images.push("v1", registry, REFERENCE, compression)
    want = scan(unpack(images.layout("v1"), tmp_path / "bundle"))
    check(want, installed(tmp_path / "device", registry))


def test_buildah_zstd_chunked(images, registry, tmp_path):
    """The zstd:chunked of Debian 12's buildah (1.28) asks for a window of 32 MiB; that of Debian 13's (1.39) for 8 MiB,
    and such layers, frame by frame with skippable frames, are among those of test_odd_layers."""
    images.push("v1", registry, REFERENCE, "zstd:chunked")
    with SimDevice(registry, REFERENCE, folder=tmp_path / "device") as device:
        device.start()
        failure = device.wait_installed()["last_failure"]
    assert failure["cause"] == "limit" and "zstd: window of 32768 KB, this build takes 8192 KB" in failure["text"]


@pytest.mark.skipif("SLIPWAY_BIG" not in os.environ, reason="takes a while; SLIPWAY_BIG=1 runs it")
def test_big(registry, tmp_path):
    base = tmp_path / "base.tar"
    subprocess.run([BOARDS / "common" / "debian-tar", "amd64", BIG_PACKAGES, "", base], check=True)
    layers = [base, *odd.layers()]
    layout = Layout(tmp_path / "layout", layers, CODECS["gzip"], CONFIG)
    registry.upload(layout.source, REFERENCE)
    want, made_up = scan(unpack(layout.dir, tmp_path / "bundle")), implicit(layers[:1])
    size = sum(int(node.content.split()[0]) for node in want.values() if node.content)
    print(f"{len(want)} nodes, {size / 1e6:.0f} MB, layers of {sum(map(os.path.getsize, layout.blobs.iterdir())) / 1e6:.0f} MB")
    assert len(want) > 10000 and size > 300e6
    check(timeless(want, made_up), timeless(installed(tmp_path / "device", registry), made_up))


# --- the comparison itself -------------------------------------------------------------------------------------------

def small_tree(root):
    """One of each kind of node."""
    (root / "d").mkdir(parents=True)
    (root / "f").write_bytes(b"content")
    (root / "other").write_bytes(b"content")
    os.link(root / "f", root / "d" / "linked")
    os.symlink("f", root / "s")
    os.mkfifo(root / "p")
    os.mknod(root / "c", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    for name in ["f", "other", "d/linked", "s", "p", "c", "d", "."]:
        os.utime(root / name, ns=(0, 1_000_000_001), follow_symlinks=False)


def change_content(root):
    (root / "f").write_bytes(b"Content")
    os.utime(root / "f", ns=(0, 1_000_000_001))


def change_links(root):
    """The same content, but not the same inode."""
    (root / "d" / "linked").unlink()
    shutil.copy2(root / "f", root / "d" / "linked")
    os.utime(root / "d", ns=(0, 1_000_000_001))


def change_kind(root):
    (root / "p").unlink()
    os.mknod(root / "p", 0o644 | stat.S_IFSOCK)
    os.utime(root / "p", ns=(0, 1_000_000_001))


def replace(make, name):
    def change(root):
        (root / name).unlink()
        make(root / name)
        os.utime(root / name, ns=(0, 1_000_000_001), follow_symlinks=False)
    return change


CHANGES = {  # property: (a change, the names that it shows at)
    "missing": (lambda root: (root / "other").unlink(), ["other"]),
    "should not be there": (lambda root: (root / "new").touch(), ["new"]),
    "kind": (change_kind, ["p"]),
    "mode": (lambda root: (root / "d").chmod(0o2755), ["d"]),
    "owner": (lambda root: os.chown(root / "s", 0, 1, follow_symlinks=False), ["s"]),
    "mtime": (lambda root: os.utime(root / "s", ns=(0, 1_000_000_002), follow_symlinks=False), ["s"]),
    "xattrs": (lambda root: os.setxattr(root / "other", "user.a", b""), ["other"]),
    "links": (change_links, ["d/linked", "f"]),
    "target": (replace(lambda path: os.symlink("g", path), "s"), ["s"]),
    "device": (replace(lambda path: os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5)), "c"), ["c"]),
    "content": (change_content, ["d/linked", "f"]),
}


@pytest.mark.parametrize("what", CHANGES)
def test_comparison_sees(what, tmp_path):
    change, names = CHANGES[what]
    for name in "a", "b":
        small_tree(tmp_path / name)
    want = scan(tmp_path / "a")
    check(want, scan(tmp_path / "b"))
    change(tmp_path / "b")
    os.utime(tmp_path / "b", ns=(0, 1_000_000_001))
    lines = differences(want, scan(tmp_path / "b"))
    assert [line.split(":")[0] for line in lines] == names
    assert all(line.split(": ", 1)[1].startswith(what) for line in lines)


def test_the_odd_layers_are_odd(reference):
    """That what odd.py is meant to show is there to be compared."""
    odd_nodes = {path: node for path, node in reference.items() if path.split(b"/")[0] == b"o"}
    assert {node.kind for node in odd_nodes.values()} == {
        "file", "directory", "symlink", "fifo", "character device", "block device"}
    assert any(node.mtime < 0 and node.mtime % 1_000_000_000 for node in odd_nodes.values())
    assert any(node.xattrs.get("user.binary") == odd.BINARY for node in odd_nodes.values())
    assert any("security.capability" in node.xattrs for node in odd_nodes.values())
    assert any(node.owner[0] == 2 ** 32 - 2 for node in odd_nodes.values())
    assert {node.mode & 0o7000 for node in odd_nodes.values()} >= {0o1000, 0o2000, 0o4000}
    assert max(map(len, odd_nodes)) > 1000 and b"n" * 255 in {path.split(b"/")[-1] for path in odd_nodes}
    assert odd_nodes[b"o/gone-2"].links == (b"o/gone-2", b"o/gone-3") and b"o/gone-1" not in odd_nodes
    assert odd_nodes[b"o/split-1"].links == (b"o/split-1",) and b"o/opaque/below" not in odd_nodes
    assert set(odd_nodes) >= {b"o/opaque/new", b"o/back/above", b"o/d", b"o/setgid/through", b"o/renewed/above"}
    assert not set(odd_nodes) & {b"o/back/below", b"o/renewed/below", b"o/opaque-late/below", b"o/merged/below"}
