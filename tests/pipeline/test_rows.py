"""What an odd layer means, where tools differ: the rule is that a layer is extracted as if into an empty root of its
own, and layers stack as overlayfs stacks them. Each case is an image of small layers, the lowest first, installed by the
whole agent; what the tar alone decides has its cases in tests/unit/test_decode.py.
"""
import os

import pytest

from device import SimDevice
from fence import spared
from layouts import CODECS, Layout
from tars import END, block, info, tar_of

REFERENCE = "fleet/odd:rows"
DIR, SYM, LINK = b"5", b"2", b"1"


def file(name, content=b""):
    return info(name), content


def sym(name, target):
    return info(name, SYM, linkname=target)


def hard(name, target):
    return info(name, LINK, linkname=target)


def layer(*members):
    return tar_of(*members)


USR = layer(info("usr/bin/", DIR), file("usr/bin/sh", b"sh"), sym("bin", "usr/bin"))
TAKEN = {  # what: (layers, what is in the slot: content of a file, None for a directory, -> for a symlink)
    "whiteout of a path added in the same layer": (
        [layer(file("f", b"old")), layer(file("f", b"new"), file(".wh.f"))], {"f": b"new"}),
    "whiteout, then the path added again": (
        [layer(file("f", b"old")), layer(file(".wh.f"), file("f", b"new"))], {"f": b"new"}),
    "whiteout of a directory": ([layer(file("d/e/f"), file("g")), layer(file(".wh.d"))], {"g": b""}),
    "whiteout of nothing": ([layer(file("f")), layer(file(".wh.g"), file("d/.wh.g"))], {"f": b"", "d": None}),
    "opaque after what it does not hide": (
        [layer(file("d/old")), layer(file("d/new"), file("d/.wh..wh..opq"))], {"d": None, "d/new": b""}),
    # The two in which umoci would follow the link of the layer below.
    "whiteout through a symlink of a lower layer": (
        [USR, layer(file("bin/.wh.sh"))], {"usr": None, "usr/bin": None, "usr/bin/sh": b"sh", "bin": None}),
    "file through a symlink of a lower layer": (
        [USR, layer(file("bin/new", b"n"))],
        {"usr": None, "usr/bin": None, "usr/bin/sh": b"sh", "bin": None, "bin/new": b"n"}),
    "file through a symlink of the same layer": (
        [layer(info("usr/bin/", DIR), sym("bin", "usr/bin"), file("bin/new", b"n"))],
        {"usr": None, "usr/bin": None, "bin": "-> usr/bin", "usr/bin/new": b"n"}),
    "symlinks out of the root": (
        [layer(sym("up", "../../../../etc"), sym("abs", "/etc"), file("up/a", b"1"), file("abs/b", b"2"))],
        {"up": "-> ../../../../etc", "abs": "-> /etc", "etc": None, "etc/a": b"1", "etc/b": b"2"}),
    # umoci refuses this one. For overlayfs, and so for docker run, the layer above has a directory and hides the file.
    "parent is a file of a lower layer": ([layer(file("d", b"f")), layer(file("d/f"))], {"d": None, "d/f": b""}),
    "directory over a symlink": ([USR, layer(info("bin/", DIR), file("bin/new", b"n"))],
                                 {"usr": None, "usr/bin": None, "usr/bin/sh": b"sh", "bin": None, "bin/new": b"n"}),
    "hard link, then whiteout of its target": (
        [layer(file("f", b"old")), layer(file("f", b"new"), hard("h", "f"), file(".wh.f"))],
        {"f": b"new", "h": b"new"}),
    "hard link whose target an upper layer hides": (
        [layer(file("f", b"old"), hard("h", "f"), hard("i", "f")), layer(file(".wh.f"))], {"h": b"old", "i": b"old"}),
    "hard link through a symlink of the same layer": (
        [layer(info("usr/", DIR), file("usr/f", b"f"), sym("u", "usr"), hard("h", "u/f"))],
        {"usr": None, "usr/f": b"f", "u": "-> usr", "h": b"f"}),
    "one path in several spellings": (
        [layer(file("./a//f", b"1"), file("a/./f", b"2"), file("/a/b/../f", b"last"))], {"a": None, "a/f": b"last"}),
    "the same layer twice": ([layer(file("f", b"f"))] * 2, {"f": b"f"}),
    "an empty layer": ([layer(file("f", b"f")), END], {"f": b"f"}),
    "file where an upper layer has a directory": (
        [layer(file("d", b"f")), layer(info("d/", DIR), file("d/f"))], {"d": None, "d/f": b""}),
    "file below a directory that comes back": (
        [layer(file("d", b"f")), layer(file(".wh.d")), layer(file("d/f"))], {"d": None, "d/f": b""}),
}
REFUSED = {  # what: (layers, cause, words)
    "parent is a file of the same layer": ([layer(file("d", b"f"), file("d/f"))], "policy", "not a directory"),
    "hard link to a file of a lower layer": (
        [layer(file("f", b"f")), layer(hard("h", "f"))], "policy", "want an earlier file of this layer"),
    "hard link to a file of a lower layer, absolute": (
        [layer(file("f", b"f")), layer(hard("h", "/f"))], "policy", "want an earlier file of this layer"),
    "hard link to a file whited out in the same layer": (
        [layer(file("g")), layer(file("f", b"f"), file(".wh.f"), hard("h", "f"))], "policy", "whites out"),
    "hard link to nothing": ([layer(hard("h", "f"))], "policy", "got nothing at f"),
    "hard link to what comes later": ([layer(hard("h", "f"), file("f"))], "policy", "got nothing at f"),
    "hard link to a directory": ([layer(info("d/", DIR), hard("h", "d"))], "policy", "got directory"),
    "hard link to itself": ([layer(file("f"), hard("f", "f"))], "policy", "itself"),
    "hard link out of the root": ([block(b"h", LINK, link=b"../../etc") + END], "policy", "leaves the root"),
    "symlink loop as parent": ([layer(sym("a", "b"), sym("b", "a"), file("a/f"))], "policy", "links in the path"),
    "more in the tar than the slot can hold": (
        [layer(file("f")) + END, block(b"huge", size_field=b"\x80" + (1 << 50).to_bytes(11, "big"))], "space",
        "huge: file of 1125899906842624 bytes"),
}


# It is what Docker shows, and seldom what was meant.
WARNED = ["whiteout through a symlink of a lower layer", "file through a symlink of a lower layer", "directory over a symlink"]


def content(slot):
    """What is in a slot, in the words of TAKEN."""
    found = {}
    for folder, folders, files in os.walk(slot):
        for name in folders + files:
            path = os.path.join(folder, name)
            value = None
            if os.path.islink(path):
                value = "-> " + os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb") as opened:
                    value = opened.read()
            found[os.path.relpath(path, slot)] = value
    return found


def install(layers, registry, folder):
    """Returns the device's status, and what it put into the slot."""
    config = {"Entrypoint": ["/app"], "Labels": {"org.opencontainers.image.version": "1"}}
    registry.upload(Layout(folder / "layout", layers, CODECS["tar"], config).source, REFERENCE)
    with SimDevice(registry, REFERENCE, folder=folder / "device") as device:
        device.start()
        device.wait(lambda status: True)
        with spared(device, "slot-b", "bootenv", "booted"):
            return device.wait_installed(), content(device.slot("B"))


@pytest.mark.parametrize("what", TAKEN)
def test_taken(what, registry, tmp_path):
    layers, want = TAKEN[what]
    status, got = install(layers, registry, tmp_path)
    # There is no /app in it, so the trial may be over already.
    assert status["booted"] == "B" or status["last_failure"]["event"] == "trial", status["last_failure"]
    assert got == want
    log = (tmp_path / "device/agentd.log").read_text()
    assert ("bin: a directory of an upper layer takes the place of this link to usr/bin" in log) == (what in WARNED)


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what, registry, tmp_path):
    layers, cause, words = REFUSED[what]
    status, _ = install(layers, registry, tmp_path)
    assert status["booted"] == "A"
    failure = status["last_failure"]
    assert (failure["event"], failure["cause"]) == ("install", cause) and words in failure["text"], failure
