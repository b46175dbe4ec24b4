"""A board follows a tag: install, trial, confirm, fall back; on the simulated board and on emulated ones."""
import json
import pathlib
import re
import subprocess

import pytest

from device import make_device, slot
from factory import Key, release
from images import Images, make_registry

TOP = pathlib.Path(__file__).resolve().parents[2]
REFERENCE = "fleet/web:stable"
GZIP_PEAK_MIB = 8
ZSTD_PEAK_MIB = 8 + 8  # the largest window, and the rest


@pytest.fixture(name="registry")
def fixture_registry(tmp_path):
    with make_registry(tmp_path / "registry") as registry:
        yield registry


def story(board, registry, **options):
    images = Images(board)
    key = Key(registry.dir, "release")
    release(images, "v1", registry, REFERENCE, key, 1)
    with make_device(board, registry, REFERENCE, keys=[key], **options) as device:
        device.start()
        first = device.wait_version("v1")
        assert first["booted"] == "B", "the first update goes to the slot that was not booted"
        check_peaks(first, GZIP_PEAK_MIB)
        check_answer(device, "v1")

        release(images, "v2", registry, REFERENCE, key, 2, compression="zstd")
        second = device.wait_version("v2")
        assert second["booted"] == "A"
        assert slot(second, "B")["version"] == "v1", "the version before is kept to go back to"
        check_peaks(second, ZSTD_PEAK_MIB)
        check_answer(device, "v2")
        check_scrub(device)

        bad = release(images, "v3", registry, REFERENCE, key, 3)
        device.wait_fallback()
        back = device.wait_version("v2")
        assert back["booted"] == "A"
        assert slot(back, "B")["state"] == "bad"
        failure = back["last_failure"]
        assert failure["digest"] == bad
        assert failure["cause"] == "app" and "exited with code 3" in failure["text"]
        check_ways(device, board)


def check_peaks(status, limit_mib):
    """What all processes of the agent took during the install, as the board remembers it after its restart."""
    peaks = {role["name"]: role["peak_kib"] for role in status["roles"]}
    assert all(peaks.values()), f"a role that never ran: {peaks}"
    assert sum(peaks.values()) <= limit_mib * 1024, peaks


def check_answer(device, version):
    """The app answers from outside, on the port of the board that leads to its own."""
    if device.family == "sim":
        return
    port = device.board.publish(80)
    said = subprocess.run(["curl", "-sS", "-m", "60", "--retry", "9", "--retry-all-errors", f"http://127.0.0.1:{port}/"],
                          stdout=subprocess.PIPE, text=True, check=True).stdout
    assert said == f"{version}\n"


def check_scrub(device):
    """Both slots, the one that runs too, are as they were written."""
    device.order("scrub")
    status = device.wait(lambda s: all(slot(s, name)["scrubbed_s"] for name in "AB"), 120, "a scrub")
    assert [slot(status, name)["damaged"] for name in "AB"] == [0, 0], status["last_failure"]
    assert not status["last_failure"]


def check_ways(device, board):
    """The same answer on the console, over ssh and over the serial line."""
    for way in ["console", "ssh", "serial"] if board != "sim" else [None]:
        words = {"way": way} if way else {}
        code, text = device.agentctl_raw("--json status", **words)
        assert code == 5, f"{way}: a failed update is told by the exit code: {text}"
        assert slot(json.loads(text), "B")["state"] == "bad", way
        code, text = device.agentctl_raw("why", **words)
        assert "exited with code 3" in " ".join(text.split()), way
        code, text = device.agentctl_raw("history", **words)
        assert code == 0, text
        whats = re.findall(r"UTC  [AB]  (\w+)", text)
        assert whats == ["installed", "confirmed"] * 2 + ["scrubbed"] * 2 + ["installed", "trial"], f"{way}: {text}"


def test_story_sim(registry):
    story("sim", registry)


def test_story_armv7(registry):
    story("qemu-armv7", registry, ram=64, app={"network": "private", "ports": "80:8080"})


def test_install_arm64(registry):
    """An update by the system calls of another architecture, by a layer's stream."""
    board, key = "qemu-arm64", Key(registry.dir, "release")
    subprocess.run(["make", "-s", "image", f"BOARD={board}"], check=True, cwd=TOP, stdin=subprocess.DEVNULL)
    release(Images(board), "v1", registry, REFERENCE, key, 1)
    with make_device(board, registry, REFERENCE, keys=[key]) as device:
        device.start()
        assert device.wait_version("v1")["booted"] == "B"


def test_watchdog(registry):
    """An agent that hangs on trial: the watchdog resets the board, and the boot loader goes back."""
    board = "qemu-armv7"
    with make_device(board, registry, REFERENCE, update={"tries": 1, "stable": 600}, agent={"watchdog": 10}) as device:
        device.start()
        assert device.wait(lambda s: True, 30, "an answer")["reset_cause"] != "watchdog"
        bad = Images(board).push("v1", registry, REFERENCE)
        trial = device.wait(lambda s: s["update"]["state"] == "trial", 120, "the trial")
        assert trial["booted"] == "B" and trial["watchdog_s"] == 10
        device.board.run("kill -STOP $(pidof agentd)")
        back = device.wait(lambda s: s["booted"] == "A", 60, "the reset by the watchdog")
        assert back["reset_cause"] == "watchdog"
        assert slot(back, "B")["state"] == "bad"
        assert back["last_failure"]["digest"] == bad and back["last_failure"]["cause"] == "boot"
