"""Layers in ordinary gzip or zstd that the device has streamed before: while the slots hold what shows of one, nothing of it
is fetched again, and what comes out is what its tar would give. Where they don't, it is streamed.
"""
import io
import os
import tarfile

import pytest

from layouts import CODECS
from test_chunked import (Push, blob_bytes, fixture_base, fixture_front, fixture_small, layer_of,  # noqa: F401
                          new_device, update)
from test_plan import plan
from front import tar_of

LOWER = {"d": None, "d/a": b"lower a" * 900, "d/b": b"lower b" * 900, "d/gone": b"x" * 5000, "s": "d/a", "e": b"",
         "o": None, "o/old": b"old" * 3000}


def app(version, **more):
    return tar_of({"app": None, "app/version": version.encode(), **more})


def tar_in_order(*members):
    """Of files (path, bytes) and hard links (path, target)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, data in members:
            info = tarfile.TarInfo(path)
            info.mtime = 1_700_000_000
            if isinstance(data, str):
                info.type, info.linkname = tarfile.LNKTYPE, data
            else:
                info.size = len(data)
            tar.addfile(info, None if isinstance(data, str) else io.BytesIO(data))
    return out.getvalue()


def fetched(front, push):
    """Bytes of each layer, the lowest first."""
    return [blob_bytes(front, push.layout, number) for number in range(len(push.tars))]


def size(push, number):
    return layer_of(push.layout, number)["size"]


def follow(front, folder, device, versions, codec="gzip"):
    """Install one version after the other, each of layers. Yields each push, with `cost` as its plan said."""
    for number, (tars, slot) in enumerate(zip(versions, "BABA"), 1):
        push = Push(folder, front, tars, CODECS[codec], f"v{number}")
        push.cost = plan(device)["cost"]
        front.seen.clear()
        update(device, push, slot)
        yield push


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_only_the_changed_layer(codec, base, front, tmp_path):
    """v2 copies the base from the active slot, v3 finds it in its place."""
    with new_device(front, tmp_path / "device") as device:
        for push in follow(front, tmp_path, device, [[base, app(f"v{n}")] for n in range(3)], codec):
            assert fetched(front, push)[1] == size(push, 1)
            if push.version == "v1":
                assert fetched(front, push)[0] == size(push, 0) and push.cost["layers"]["local"] == 0
                continue
            assert fetched(front, push)[0] == 0
            assert push.cost["layers"] == {"all": 2, "streamed": 1, "local": 1}
            assert push.cost["download"]["bytes"] == size(push, 1)
            assert push.cost["files"]["kept" if push.version == "v3" else "copied"] > 500
        tables = sorted(path.name for path in (device.dir / "state/stage/tables").iterdir())
        assert len(tables) == 2 and all(name.startswith("layer-") for name in tables), "one for each layer of v3"


def test_stacks_that_change(front, tmp_path):
    """What upper layers hide is not needed while they hide it, and fetched when they do no longer."""
    lower = tar_of(LOWER)
    hides = tar_of({"d": None, "d/b": b"upper b" * 900, "d/.wh.gone": b"", "o": None, "o/.wh..wh..opq": b"", "o/new": b"n"})
    more = tar_of({"d": "o", "o": None, "o/x": b"x"})
    versions = [[lower, hides], [lower, hides, app("2")], [lower, more], [lower, app("4")]]
    expected = [True, False, True, True]  # what `more` lets show, o/old, was hidden so far; d/b, too, until v4
    with new_device(front, tmp_path / "device") as device:
        for push, streamed in zip(follow(front, tmp_path, device, versions), expected):
            assert fetched(front, push)[0] == (size(push, 0) if streamed else 0), push.version


def test_hard_links(front, tmp_path):
    """A link stays a link; one to a file that an upper layer hides from now on needs content that no slot tells of."""
    lower = tar_in_order(("a", b"a" * 5000), ("b", b"b" * 5000), ("d/a-link", "a"), ("z", "b"))
    versions = [[lower, app("1")], [lower, app("2")], [lower, tar_of({"a": b"new" * 1000})]]
    with new_device(front, tmp_path / "device") as device:
        for push, streamed in zip(follow(front, tmp_path, device, versions), [True, False, True]):
            assert bool(fetched(front, push)[0]) == streamed


@pytest.mark.parametrize("lower", [
    tar_of({"real": None, "link": "real", "link/f": b"f" * 5000}),
    tar_in_order(("a", b"1" * 5000), ("a", b"2" * 5000)),
], ids=["through a link", "a path twice"])
def test_no_table_of_an_odd_layer(lower, front, tmp_path):
    """Streamed each time: what its paths come to depends on more than its table would say."""
    with new_device(front, tmp_path / "device") as device:
        for push in follow(front, tmp_path, device, [[lower, app("1")], [lower, app("2")]]):
            assert fetched(front, push)[0] == size(push, 0)


def spoil_slot(device, slot):
    file = device.slot(slot) / "d/b"
    file.write_bytes(b"changed" + file.read_bytes()[7:])


def spoil_table(device, at):
    for path in (device.dir / "state/stage/tables").iterdir():
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)


def swap_tables(device):
    one, other = (device.dir / "state/stage/tables").iterdir()
    other.rename(one)


@pytest.mark.parametrize("spoil", [
    lambda device: spoil_slot(device, "B"),
    lambda device: (device.slot("B") / "d/b").unlink(),
    lambda device: spoil_table(device, 5),
    lambda device: spoil_table(device, -40),
    swap_tables,
    lambda device: (device.dir / "state/stage/toc-b").unlink(),
], ids=["file changed", "file gone", "table is none", "table damaged", "another's table", "slot without list"])
def test_streamed_when_in_doubt(spoil, front, tmp_path):
    lower = tar_of(LOWER)
    with new_device(front, tmp_path / "device") as device:
        push = Push(tmp_path, front, [lower, app("1")], CODECS["gzip"], "1")
        update(device, push, "B")
        spoil(device)
        push = Push(tmp_path, front, [lower, app("2")], CODECS["gzip"], "2")
        front.seen.clear()
        update(device, push, "A")
        assert fetched(front, push)[0] == size(push, 0)


def test_rot_in_the_active_slot(front, tmp_path):
    """Content that changed by itself, size and time as before: it is noticed while it is copied, and streamed the next time."""
    lower = tar_of(LOWER)
    with new_device(front, tmp_path / "device") as device:
        update(device, Push(tmp_path, front, [lower, app("1")], CODECS["gzip"], "1"), "B")
        stat = (device.slot("B") / "d/b").stat()
        spoil_slot(device, "B")
        os.utime(device.slot("B") / "d/b", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        push = Push(tmp_path, front, [lower, app("2")], CODECS["gzip"], "2")
        device.agentctl("update")
        failure = device.wait(lambda s: s["last_failure"], 60)["last_failure"]
        assert "layer 1 of 2: d/b: its content in the slots changed" in failure["text"]
        front.seen.clear()
        device.agentctl("update")
        device.wait(lambda s: s["booted"] == "A" and s["update"]["state"] == "idle", 60)
        push.check(device, "A")
        assert fetched(front, push)[0] == size(push, 0)


def test_full_verification(front, small, tmp_path):
    with new_device(front, tmp_path / "device", full_verification="yes") as device:
        for push in follow(front, tmp_path, device, [[small, app("1")], [small, app("2")]]):
            assert fetched(front, push) == [size(push, 0), size(push, 1)]
