"""The checks that a system brings along: run when its app is well, in order, each held like an app and for a time; one that fails
ends the trial and is named."""
import json

import pytest

from device import SimDevice, slot
from images import Images, make_registry

REFERENCE = "fleet/checked:stable"
FOLDER = "/usr/lib/slipway/health.d/"
APP = ["--entrypoint", json.dumps(["/bin/sleep", "1000"])]


def script(text):
    return (f"#!/bin/sh\n{text}\n".encode(), 0o755)


# What a check is held by: its own tree read-only, itself alone in it, no rights of the board's.
HELD = script('! touch /x 2>/dev/null && [ $$ = 1 ] && ! mount -t tmpfs t /tmp 2>/dev/null && [ -f /usr/lib/slipway/health.d/20-held ]')
GOOD = {FOLDER + "10-first": script("sleep 0.3"), FOLDER + "20-held": HELD, FOLDER + ".hidden": script("exit 9")}
BAD = {
    "fails": ({"15-link": script("echo no link to be seen; echo more; exit 3")}, "health check 15-link: exit code 3: no link to be seen"),
    "hangs": ({"15-slow": script("sleep 100")}, "health check 15-slow: took longer than 1 s"),
    "not-executable": ({"15-plain": (b"#!/bin/sh\n", 0o644)}, "health check 15-plain: "),
}


@pytest.fixture(name="shop", scope="module")
def fixture_shop(tmp_path_factory):
    images = Images("sim")
    with make_registry(tmp_path_factory.mktemp("registry")) as registry:
        yield images, registry


def push(shop, name, files, config=()):
    images, registry = shop
    images.derive("base", name, files=files, config=["--label", f"org.opencontainers.image.version={name}", *config])
    images.push(name, registry, REFERENCE)


def test_checks(shop):
    push(shop, "checked", GOOD, APP)
    update = {"poll_interval": 1, "stable": 1, "check_timeout": 1}
    with SimDevice(shop[1], REFERENCE, update=update) as device:
        device.start()
        device.wait_version("checked")
        said = [line for line in device.log_tail().splitlines() if "health check" in line]
        assert [line.split()[-2] for line in said] == ["10-first:", "20-held:"], said
        assert device.status()["app"]["state"] == "ready"
        for name, (files, words) in BAD.items():
            push(shop, name, {FOLDER + path: content for path, content in files.items()})
            failed = device.wait(lambda s, v=name: s["update"]["state"] == "idle" and any(
                s["slots"][n]["state"] == "bad" and s["slots"][n]["version"] == v for n in (0, 1)), 60, f"the end of {name}")
            assert failed["last_failure"]["event"] == "trial" and failed["last_failure"]["cause"] == "app"
            assert failed["last_failure"]["text"].startswith(words), failed["last_failure"]["text"]
            assert slot(failed, failed["booted"])["version"] == "checked"
        push(shop, "mended", GOOD)
        device.wait_version("mended")
