"""A board follows a tag: install, trial, confirm, fall back; on the simulated board and on emulated ones."""
import json
import re

import pytest

from device import make_device, slot
from factory import Key, release
from images import Images, make_registry

REFERENCE = "fleet/web:stable"


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

        release(images, "v2", registry, REFERENCE, key, 2, compression="zstd")
        second = device.wait_version("v2")
        assert second["booted"] == "A"
        assert slot(second, "B")["version"] == "v1", "the version before is kept to go back to"

        bad = release(images, "v3", registry, REFERENCE, key, 3)
        device.wait_fallback()
        back = device.wait_version("v2")
        assert back["booted"] == "A"
        assert slot(back, "B")["state"] == "bad"
        failure = back["last_failure"]
        assert failure["digest"] == bad
        assert failure["cause"] == "app" and "exited with code 3" in failure["text"]
        check_ways(device, board)


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
        assert whats == ["installed", "confirmed"] * 2 + ["installed", "trial"], f"{way}: {text}"


def test_story_sim(registry):
    story("sim", registry)


def test_story_armv7(registry):
    story("qemu-armv7", registry)
