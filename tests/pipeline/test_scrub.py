"""Scrub: flash that loses what was written is found out. The slot that is not in use is mended, from the other one or the
registry; the running one is only reported. Whatever else is to be done comes first."""
import contextlib
import json
import os
import random
import time

import pytest

from chunked import Chunked
from device import SimDevice, slot
from front import Front, boot_environment, tar_of, tree_of
from layouts import CODECS, Layout

TAG = "stable"
SHARED = {f"lib/{n}": random.Random(n).randbytes(30_000) for n in range(10)}
SLOW = random.Random("slow").randbytes(24_000_000)
MONTH = 30 * 86400


@pytest.fixture(name="front")
def fixture_front(plain, certificates):
    """A new one for each test, which counts what it asked for."""
    with Front(plain, certificates) as front:
        yield front


def push(folder, front, repository, version, codec, files=()):
    own = {"etc": None, "etc/version": version.encode() * 2000, "lib": None}
    tars = [tar_of({"lib": None} | SHARED), tar_of(own | dict(files))]
    layout = Layout(folder / version, tars, codec, {"Labels": {"org.opencontainers.image.version": version}})
    front.registry.upload(layout.source, f"{repository}:{TAG}")
    return layout


def install(device, version):
    device.order("update")
    device.wait(lambda s: s["update"]["state"] == "trial", 30, "the trial")
    device.order("confirm")
    return device.wait_version(version, 10)


@contextlib.contextmanager
def two_versions(front, folder, repository, codec=CODECS["gzip"], files=(), **slots):
    """A device that runs v2 from slot A and has v1 in slot B."""
    update = {"poll_interval": 0, "stable": 60}
    with SimDevice(front, f"{repository}:{TAG}", update=update, slots=slots) as device:
        device.start()
        device.wait(lambda status: True)
        for version in "v1", "v2":
            push(folder, front, repository, version, codec, files)
            status = install(device, version)
        assert status["booted"] == "A"
        front.seen.clear()
        yield device


def rot(path, at=1000):
    """A bit flips, and nothing else changes."""
    info = path.stat()
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 4]))
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def scrub(device):
    """Both slots; returns the status after it."""
    device.order("scrub")
    return device.wait(lambda s: not s["update"]["scrubbing"], 30, "the end of the scrub")


def history(device):
    lines = device.agentctl_raw("--json history")[1].splitlines()
    return [event for line in lines for event in json.loads(line)["history"]]


# --- nothing, and not too much ----------------------------------------------------------------------------------------

def test_sound(front, tmp_path):
    with two_versions(front, tmp_path, "sound") as device:
        before = tree_of(device.slot("A")), tree_of(device.slot("B"))
        status = scrub(device)
        for name in "AB":
            assert slot(status, name)["scrubbed_s"] and slot(status, name)["damaged"] == 0
        assert not status["last_failure"] and not front.seen
        assert (tree_of(device.slot("A")), tree_of(device.slot("B"))) == before
        assert [event["what"] for event in history(device)][-2:] == ["scrubbed", "scrubbed"]


def test_nothing_on_record(front):
    with SimDevice(front, f"none:{TAG}", update={"poll_interval": 0}) as device:
        device.start()
        device.wait(lambda status: True)
        code, text = device.agentctl_raw("scrub")
        assert code == 1 and "nothing is on record" in text


def test_what_the_system_changed_is_no_damage(front, tmp_path):
    """Of a root that is writable: files that were written to, removed or made."""
    with two_versions(front, tmp_path, "changed") as device:
        (device.slot("A") / "lib/1").write_bytes(b"other")
        (device.slot("A") / "lib/2").unlink()
        (device.slot("A") / "lib/new").write_bytes(b"new")
        status = scrub(device)
        assert slot(status, "A")["damaged"] == 0 and not status["last_failure"]


# --- the running slot --------------------------------------------------------------------------------------------------

def test_active_is_reported_and_left_alone(front, tmp_path):
    with two_versions(front, tmp_path, "active") as device:
        rot(device.slot("A") / "lib/3")
        rot(device.slot("A") / "lib/7", 29_999)
        before = tree_of(device.slot("A"))
        status = scrub(device)
        assert slot(status, "A")["damaged"] == 2 and slot(status, "A")["state"] == "active"
        assert status["last_failure"]["event"] == "scrub" and status["last_failure"]["cause"] == "flash"
        assert "lib/3: content" in status["last_failure"]["text"]
        assert tree_of(device.slot("A")) == before and not front.seen
        code, page = device.agentctl_raw("status")
        assert code == 5 and "FLASH DAMAGE: 2 in the running slot A" in page
        assert "lib/3" in device.agentctl("why")
        events = len(history(device))
        scrub(device)
        assert len(history(device)) == events + 1, "what is known is told once; slot B is sound again"
        push(tmp_path, front, "active", "v3", CODECS["gzip"])
        assert install(device, "v3")["booted"] == "B"
        assert device.agentctl_raw("status")[0] == 0, "what runs now is sound"


# --- the other one -------------------------------------------------------------------------------------------------------

def mended(device, before):
    """By the next poll, or when a person asks for it."""
    device.order("update")
    status = device.wait(lambda s: slot(s, "B")["state"] == "good" or s["last_failure"]["event"] != "scrub", 20)
    assert slot(status, "B")["state"] == "good", status["last_failure"]
    assert tree_of(device.slot("B")) == before and slot(status, "B")["damaged"] == 0
    assert history(device)[-1]["what"] == "mended" and status["booted"] == "A" and status["update"]["state"] == "idle"
    assert boot_environment(device)["BOOT_B_LEFT"] == "3" and boot_environment(device)["BOOT_ORDER"] == "A B"


@pytest.mark.parametrize("codec", [CODECS["gzip"], Chunked().codec], ids=["gzip", "chunked"])
def test_mended_from_the_other_slot(front, tmp_path, codec):
    """What both versions have is not fetched."""
    with two_versions(front, tmp_path, "local", codec) as device:
        before = tree_of(device.slot("B"))
        written = device.status()["flash"]["slot_bytes_written"]
        rot(device.slot("B") / "lib/3")
        status = scrub(device)
        assert slot(status, "B")["state"] == "damaged" and slot(status, "B")["damaged"] == 1
        assert boot_environment(device)["BOOT_B_LEFT"] == "0"
        code, text = device.agentctl_raw("rollback")
        assert code == 1 and "no good version to go back to" in text
        front.seen.clear()
        mended(device, before)
        big = [r for r in front.seen if "/blobs/" in r.path and r.part() and r.part().stop - r.part().start > 10_000]
        assert not big, "content was fetched"
        assert device.status()["flash"]["slot_bytes_written"] - written <= 30_000
        device.order("rollback")
        device.wait(lambda s: s["booted"] == "B" and s["update"]["state"] == "idle", 20, "the way back")


@pytest.mark.parametrize("codec", [CODECS["gzip"], Chunked().codec], ids=["gzip", "chunked"])
def test_mended_from_the_registry(front, tmp_path, codec):
    """What only the old version has: the file alone, where its layer has a table."""
    with two_versions(front, tmp_path, "remote", codec) as device:
        before = tree_of(device.slot("B"))
        written = device.status()["flash"]["slot_bytes_written"]
        rot(device.slot("B") / "etc/version")
        assert slot(scrub(device), "B")["state"] == "damaged"
        front.seen.clear()
        mended(device, before)
        assert any("/blobs/" in r.path for r in front.seen)
        assert device.status()["flash"]["slot_bytes_written"] - written <= 4096


def test_mended_after_a_cut(front, tmp_path):
    """It stays damaged over restarts, and power may fail in the midst of mending it."""
    with two_versions(front, tmp_path, "cut", Chunked().codec) as device:
        before = tree_of(device.slot("B"))
        rot(device.slot("B") / "etc/version")
        scrub(device)
        device.power_cut()
        device.start()
        status = device.wait(lambda s: True)
        assert slot(status, "B")["state"] == "damaged" and status["booted"] == "A"
        front.fault = lambda request: "/blobs/" not in request.path or time.sleep(1)
        device.order("update")
        device.wait(lambda s: s["update"]["state"] == "installing", 20, "the mending")
        device.power_cut()
        front.lift()
        device.start()
        device.wait(lambda s: s["update"]["state"] == "idle")
        mended(device, before)


def test_a_new_version_comes_first(front, tmp_path):
    """It takes the damaged slot, and nothing of the damage is left."""
    with two_versions(front, tmp_path, "new") as device:
        rot(device.slot("B") / "lib/3")
        scrub(device)
        push(tmp_path, front, "new", "v3", CODECS["gzip"])
        assert install(device, "v3")["booted"] == "B"
        assert (device.slot("B") / "lib/3").read_bytes() == SHARED["lib/3"]
        assert slot(scrub(device), "B")["damaged"] == 0


def test_much_damage(front, tmp_path):
    """More than is marked file by file."""
    many = {f"lib/many-{n}": b"%d" % n * 1000 for n in range(100)}
    with two_versions(front, tmp_path, "much", Chunked().codec, files=many) as device:
        before = tree_of(device.slot("B"))
        for n in range(90):
            rot(device.slot("B") / f"lib/many-{n}", 5)
        assert slot(scrub(device), "B")["damaged"] == 90
        mended(device, before)


def test_missing_and_changed_nodes(front, tmp_path):
    """The third one is the folder, whose time says that something left it."""
    with two_versions(front, tmp_path, "nodes", Chunked().codec) as device:
        before = tree_of(device.slot("B"))
        (device.slot("B") / "lib/1").unlink()
        (device.slot("B") / "lib/2").chmod(0o600)
        assert slot(scrub(device), "B")["damaged"] == 3
        mended(device, before)


@pytest.mark.parametrize("codec", [CODECS["gzip"], Chunked().codec], ids=["gzip", "chunked"])
def test_disk(front, tmp_path, codec):
    """A raw slot: its checksum is on record since the install."""
    with disk_device(front, tmp_path, codec) as device:
        path = device.slot("B")
        before = path.read_bytes()
        status = scrub(device)
        assert slot(status, "B")["damaged"] == 0 and slot(status, "B")["scrubbed_s"] and not status["last_failure"]
        rot(path, 300_000)
        assert slot(scrub(device), "B")["state"] == "damaged"
        device.order("update")
        device.wait(lambda s: slot(s, "B")["state"] == "good", 30, "the other slot, mended")
        assert path.read_bytes() == before


@contextlib.contextmanager
def disk_device(front, folder, codec):
    with SimDevice(front, f"disk:{TAG}", update={"poll_interval": 0, "stable": 60}, slots={"kind": "disk"}) as device:
        for name in "AB":
            device.slot(name).rmdir()
            device.slot(name).write_bytes(bytes(1_000_000))
        device.start()
        device.wait(lambda status: True)
        for version in "v1", "v2":
            content = random.Random(version).randbytes(600_000)
            labels = {"org.opencontainers.image.version": version, "dev.slipway.disk": "root.img"}
            layout = Layout(folder / version, [tar_of({"root.img": content})], codec, {"Labels": labels})
            front.registry.upload(layout.source, f"disk:{TAG}")
            install(device, version)
        yield device


# --- when ------------------------------------------------------------------------------------------------------------

def test_by_itself(front, tmp_path):
    """Once a month, and then no more; all that it writes is the record of it."""
    with two_versions(front, tmp_path, "month") as device:
        device.conf.write_text(device.conf.read_text().replace("poll_interval = 0", "poll_interval = 1"))
        device.power_cut()
        device.start()
        time.sleep(3)
        assert not slot(device.status(), "B")["scrubbed_s"]
        writes = device.status()["flash"]["state_writes"]
        (device.dir / "clock").write_text(str(MONTH + 60))
        status = device.wait(lambda s: all(slot(s, name)["scrubbed_s"] for name in "AB"), 40, "a scrub")
        assert device.wait(lambda s: not s["update"]["scrubbing"])["flash"]["state_writes"] == writes + 1
        time.sleep(3)
        assert device.status()["flash"]["state_writes"] == writes + 1
        assert slot(device.status(), "B")["scrubbed_s"] == slot(status, "B")["scrubbed_s"]


def test_off(front, tmp_path):
    with two_versions(front, tmp_path, "off", scrub="off") as device:
        device.conf.write_text(device.conf.read_text().replace("poll_interval = 0", "poll_interval = 1"))
        device.power_cut()
        (device.dir / "clock").write_text(str(MONTH * 3))
        device.start()
        device.wait(lambda s: s["update"]["last_poll_s"], 30)
        time.sleep(2)
        assert not any(slot(device.status(), name)["scrubbed_s"] for name in "AB")


def test_an_update_ends_it(front, tmp_path):
    """At 4 MB/s, two slots of 24 MB take a while; the update is through long before, and polls go on beside it."""
    with two_versions(front, tmp_path, "slow", CODECS["tar"], files={"lib/slow": SLOW}) as device:
        device.order("scrub")
        start = time.monotonic()
        device.wait(lambda s: "reading slot" in s["update"]["detail"] and s["update"]["scrubbing"], 10, "its progress")
        assert device.agentctl_raw("scrub")[0] == 1
        device.order("update")
        device.wait(lambda s: s["update"]["state"] == "idle" and s["update"]["scrubbing"], 10, "a poll beside it")
        push(tmp_path, front, "slow", "v3", CODECS["tar"], {"lib/slow": SLOW})
        device.order("update")
        status = device.wait(lambda s: s["update"]["state"] == "trial", 60, "the trial")
        assert not status["update"]["scrubbing"] and not status["last_failure"]
        assert "something else comes first" in device.log_tail()
        assert time.monotonic() - start < 2 * len(SLOW) / 4_194_304


def test_rate(front, tmp_path):
    with two_versions(front, tmp_path, "rate", CODECS["tar"], files={"lib/slow": SLOW}) as device:
        start = time.monotonic()
        scrub(device)
        assert time.monotonic() - start > 2 * len(SLOW) / 4_194_304 * 0.9
