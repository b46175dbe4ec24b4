"""`agentctl plan`: what it says is what the update then does, to the byte where it says so; and it changes nothing."""
import contextlib
import json
import os
import pathlib
import pty
import random
import select
import subprocess
import threading
import tty

import jsonschema
import pytest

from chunked import Chunked
from device import SimDevice
from layouts import CODECS, Layout
from test_chunked import (BIG, REFERENCE, Push, app, blob_bytes, fixture_front, fixture_small,  # noqa: F401
                          new_device, toc_len, update)
from test_trust import Board, fixture_keys, fixture_works, push, root  # noqa: F401

SCHEMAS = pathlib.Path(__file__).resolve().parents[2] / "agent" / "ctl"


def fits(answer, name):
    jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{name}.schema.json").read_text())).validate(answer)
    return answer


def everything(device):
    """All that a plan may not change: the slots, and the state but for what any poll notes."""
    found = {}
    for path in sorted(device.dir.glob("slot-*/**/*")) + sorted((device.dir / "state").glob("**/*")):
        stat = path.lstat()
        found[str(path)] = (stat.st_mode, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    return found


def plan(device, code=0):
    before = everything(device)
    got, text = device.agentctl_raw("--json plan")
    assert got == code, text
    assert everything(device) == before, "a plan changed something"
    return fits(json.loads(text), "plan")


class Cable:
    """A null modem: what is written to one end is read at the other."""

    def __init__(self):
        (self.a, a), (self.b, b) = pty.openpty(), pty.openpty()
        for fd in a, b:
            tty.setraw(fd)
        self.ends = [os.ttyname(a), os.ttyname(b)]
        self.kept = [a, b]  # an end that nobody has open would be hung up
        threading.Thread(target=self.carry, daemon=True).start()

    def carry(self):
        with contextlib.suppress(OSError):
            while True:
                for fd in select.select([self.a, self.b], [], [])[0]:
                    os.write(self.b if fd == self.a else self.a, os.read(fd, 4096))


def page(device):
    lines = device.agentctl("plan").splitlines()
    assert len(lines) <= 23 and max(map(len, lines)) <= 79
    return "\n".join(lines)


def written(device):
    return device.status()["flash"]["slot_bytes_written"]


def test_says_what_comes(front, small, tmp_path):
    """First into an empty slot, then a few bytes of a large file, then a file that moved."""
    rng = random.Random("plan")
    big = bytearray(rng.randbytes(BIG))
    versions = [app("v0", bytes(big))]
    big[1_000_000:1_000_100] = rng.randbytes(100)
    versions.append(app("v1", bytes(big)))
    versions.append(app("v2", bytes(big), **{"app/asset-new": random.Random(5).randbytes(3000)}))
    with new_device(front, tmp_path / "device") as device:
        for number, (tar, slot) in enumerate(zip(versions, "BAB")):
            push = Push(tmp_path, front, [small, tar], Chunked().codec, f"v{number}")
            said = plan(device)
            assert said["version"] == f"v{number}" and said["slot"] == slot and said["activation"] == "reboot"
            assert said["waiting"] is None and said["cost"]["layers"] == {"all": 2, "streamed": 0, "local": 0}
            assert page(device).startswith(f"NEXT UPDATE: v{number}, sha256:")
            front.seen.clear()
            before, state = written(device), everything(device)
            update(device, push, slot)
            cost = said["cost"]
            # the gap between two parts is tuned while they come, and only guessed before
            fetched = blob_bytes(front, push.layout, 0) + blob_bytes(front, push.layout, 1)
            assert abs(fetched - cost["download"]["bytes"]) <= 8192 * cost["download"]["requests"]
            assert everything(device) != state, "the guard of plan() would see a change"
            assert written(device) - before <= cost["write_bytes"] <= written(device) - before + 3 * 32768
            assert cost["download"]["seconds"] is not None or number == 0
            if number == 0:
                assert fetched == cost["download"]["bytes"] and cost["files"]["kept"] == 0
            if number == 1:
                assert cost["content_bytes"]["chunks"] > BIG - 3 * 32768 and cost["files"]["copied"] > 200
            if number == 2:
                assert cost["files"]["kept"] > 200 and cost["content_bytes"]["fetched"] < 20_000
        assert plan(device) | {"cost": None, "current": True} == plan(device)
        assert page(device) == "NOTHING TO DO: the board runs what its tag names."


def test_over_serial(front, small, tmp_path):
    Push(tmp_path, front, [small], Chunked().codec, "1")
    cable = Cable()
    control = {"socket": tmp_path / "s", "serial": cable.ends[0]}
    with SimDevice(front, REFERENCE, folder=tmp_path / "device", control=control, update={"poll_interval": 0}) as device:
        device.socket = tmp_path / "s"
        device.start()
        device.wait(lambda status: True)
        said = plan(device)
        done = subprocess.run(["agentctl", "--json", "--serial", cable.ends[1], "plan"], executable=device.program,
                              stdout=subprocess.PIPE, text=True, timeout=60, check=True)
        assert fits(json.loads(done.stdout), "plan") == said


def test_streamed_layers(front, small, tmp_path):
    push = Push(tmp_path, front, [small], CODECS["gzip"], "1")
    with new_device(front, tmp_path / "device") as device:
        said = plan(device)
        assert said["cost"]["write_bytes"] is None and said["cost"]["layers"] == {"all": 1, "streamed": 1, "local": 0}
        assert "at most" in page(device)
        front.seen.clear()
        update(device, push, "B")
        assert blob_bytes(front, push.layout, 0) == said["cost"]["download"]["bytes"]


def test_tables_are_not_kept(front, small, tmp_path):
    """A plan leaves no table behind, and one that the update kept costs the next plan nothing."""
    push = Push(tmp_path, front, [small], Chunked().codec, "1")
    with new_device(front, tmp_path / "device") as device:
        assert plan(device)["cost"]["download"]["bytes"] > toc_len(push.layout, 0)
        assert not (device.dir / "state/stage/tables").exists()
        update(device, push, "B")
        Push(tmp_path, front, [small], Chunked().codec, "2")
        front.seen.clear()
        assert plan(device)["cost"]["download"] == {"bytes": 0, "requests": 0, "seconds": None}
        assert not [request for request in front.seen if request.part()]


@pytest.mark.parametrize("order, options, words", [
    ("hold", {}, "agentctl release"),
    (None, {"automatic": "no"}, "automatic = no"),
])
def test_why_it_waits(order, options, words, front, small, tmp_path):
    Push(tmp_path, front, [small], CODECS["gzip"], "1")
    with new_device(front, tmp_path / "device", **options) as device:
        if order:
            device.order(order)
        said = plan(device)
        assert words in said["waiting"] and said["cost"]
        assert page(device).startswith("WAITING: 1, sha256:") and words in page(device)
        fits(device.status(), "status")


def test_a_failed_install_waits(front, small, tmp_path):
    """The image is refused while it is installed; the plan says when that is tried again."""
    Push(tmp_path, front, [small], CODECS["gzip"], "1")

    def fault(request):
        return True if "/blobs/" not in request.path or request.path.endswith(config) else request.answer(404)

    config = ""
    with new_device(front, tmp_path / "device", poll_interval=3600) as device:
        manifest = Push(tmp_path, front, [small], CODECS["gzip"], "2").layout
        config = json.loads((manifest.blobs / manifest.digest.partition(":")[2]).read_bytes())["config"]["digest"]
        front.fault = fault
        device.agentctl("update")
        device.wait(lambda s: s["last_failure"] and s["update"]["state"] == "idle", 60)
        front.lift()
        said = plan(device)
        assert "its install failed 1 times; tried again in 3" in said["waiting"]


def test_no_plan(front, small, tmp_path):
    with new_device(front, tmp_path / "device") as device:
        device.agentctl("plan")
        front.fault = lambda request: request.answer(404)
        said = plan(device, 1)
        assert said["state"] == "failed" and said["error"] and said["cost"] is None
        assert "NO PLAN" in page(device)
        front.lift()
        push = Push(tmp_path, front, [small], Chunked(lie=lambda toc: toc.update(version=2)).codec)
        assert "version" in plan(device, 1)["error"], push
        assert device.status()["last_failure"] is None, "a plan is no failed update"


# --- who may say what it installs --------------------------------------------------------------------------------------


def test_unsigned_and_older(works, keys):
    with Board(works, [keys["a"]]) as board:
        push(works, "v1")
        assert "nobody signed" in plan(board, 1)["error"]
        works.sign(push(works, "v2"), keys["a"], version=2)
        assert plan(board)["version"] == "v2"
        board.installs("v2")
        works.sign(push(works, "v3"), keys["a"], version=1)
        assert "older than 2" in plan(board, 1)["error"]
        assert board.status()["last_failure"] is None


def test_brake(works, keys):
    works.sign(push(works, "v1"), keys["a"], version=1)
    works.notice("stable.brake", f"slipway brake\nrepository {works.repository}\nreason it burns\n", keys["a"])
    with Board(works, [keys["a"]]) as board:
        said = plan(board)
        assert said["waiting"] == "signature: the fleet's brake is on: it burns" and said["cost"] is None


def test_min_age(works, keys):
    works.sign(push(works, "v1"), keys["a"], version=1)
    with Board(works, [keys["a"]], min_age=3600) as board:
        board.agentctl("plan")  # any poll notes when it first saw a digest
        said = plan(board)
        assert "to be installed after 3600 s (min_age)" in said["waiting"] and said["cost"]["layers"]["all"] == 1


def test_a_newer_root_is_used_but_not_kept(works, keys):
    works.sign(push(works, "v1"), keys["b"], version=1)
    works.notice("slipway-root", root(1, keys["b"]), keys["a"])
    with Board(works, [keys["a"]]) as board:
        assert plan(board)["version"] == "v1", "signed by the key that the root brings"
        assert not list((board.dir / "state/stage").glob("root*"))
        board.installs("v1")
        assert list((board.dir / "state/stage").glob("root*")), "the install keeps it"


def test_a_failed_trial(front, small, tmp_path):
    """The board fell back: the plan says that it will not try by itself, and what a try would take."""
    layout = Layout(tmp_path / "layout", [small], CODECS["gzip"], {"Entrypoint": ["/no/such/program"]})
    front.registry.upload(layout.source, REFERENCE)
    with new_device(front, tmp_path / "device") as device:
        device.agentctl("update")
        device.wait_fallback(60)
        said = plan(device)
        assert "failed its trial here" in said["waiting"] and said["slot"] == "B"
        assert said["cost"]["layers"] == {"all": 1, "streamed": 0, "local": 1}
