"""The app in its bounds: it ends with its agent and is never there twice, and it can't take the device down. One image,
whose behaviour the section [app] chooses, on the simulated board and on an emulated one."""
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import time
import zlib

import pytest

from device import SimDevice, configuration
from images import Images, SOURCES, make_registry

REFERENCE = "fleet/rogue:stable"
MARK = "mark-of-the-rogue"
WAIT_S = 60


def processes(mark=MARK):
    """Of all processes those that bear the mark, without zombies."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


def wait_until(condition, what):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Rogue(SimDevice):
    """A simulated board that has the app installed. behave() starts agentd anew with another [app]."""

    def __init__(self, registry, folder):
        self.registry = registry
        super().__init__(registry, REFERENCE, folder=folder, app={"args": "good " + MARK})

    def behave(self, mode, **keys):
        self.end()
        sections = {"control": {"socket": self.socket}, "app": {"args": f"{mode} {MARK}"} | keys}
        self.conf.write_text(configuration(f"{self.registry.host}/{REFERENCE}", self.registry.ca, self.dir / "state",
                                           **sections))
        (self.dir / "app.log").unlink(missing_ok=True)
        self.start()

    def end(self):
        if self.process:
            self.process.terminate()
            self.process.wait(WAIT_S)
            self.process = None

    def group(self):
        """The app's cgroup, as agentd names it; None where there is none."""
        name = f"slipway-{zlib.crc32(str(self.dir / 'state').encode()):08x}"
        return next(pathlib.Path("/sys/fs/cgroup").glob(f"**/{name}"), None)

    def mounts(self):
        return [line for line in open("/proc/self/mounts") if str(self.dir) in line]

    def app(self):
        status = self.status()
        return status["app"] if status else {"state": "?"}

    def wait_app(self, state):
        wait_until(lambda: self.app()["state"] == state, f"the app is not {state}: {self.log_tail()}")
        return self.app()


@pytest.fixture(name="rogue", scope="module")
def fixture_rogue(tmp_path_factory):
    top = tmp_path_factory.mktemp("rogue")
    images = Images("sim")
    images.derive("base", "rogue", files={"/app/run": ((SOURCES / "app-rogue" / "run").read_bytes(), 0o755)},
                  config=["--entrypoint", json.dumps(["/bin/sh", "/app/run"]), "--cmd", "good", "--user", "1234",
                          "--label", "org.opencontainers.image.version=rogue"])
    with make_registry(top / "registry") as registry:
        images.push("rogue", registry, REFERENCE)
        with Rogue(registry, top / "device") as device:
            device.start()
            device.wait_version("rogue")
            yield device


@pytest.fixture(autouse=True)
def fixture_nothing_is_left(rogue):
    yield
    if not rogue.process:  # what a killed agent leaves is its successor's to clear away
        rogue.behave("done", restart="no")
        rogue.wait_app("down")
    rogue.end()
    assert processes() == []
    assert rogue.mounts() == []
    assert rogue.group() is None


# --- kill -9 of the agent ---------------------------------------------------------------------------------------------

STATES = [  # (state, behaviour, further keys of [app])
    ("starting", "good", {"ready": "notify"}),
    ("ready", "good", {}),
    ("ready", "forker", {}),
    ("stopping", "deaf", {"stop_timeout": 6}),
    ("backoff", "crash", {}),
    ("failed", "crash", {"restart": "no"}),
    ("down", "done", {"restart": "no"}),
]


def bring_to(rogue, state, mode, keys):
    rogue.behave(mode, **keys)
    if state == "stopping":
        rogue.wait_app("ready")
        time.sleep(0.3)  # until the trap is set
        rogue.process.send_signal(signal.SIGTERM)
    rogue.wait_app(state)


@pytest.mark.parametrize("state, mode, keys", STATES, ids=[f"{s[0]}-{s[1]}" for s in STATES])
def test_killed_agent_leaves_nothing(rogue, state, mode, keys):
    bring_to(rogue, state, mode, keys)
    rogue.power_cut()
    wait_until(lambda: not processes(), "the app outlived its agent")


@pytest.mark.parametrize("state, mode, keys", STATES, ids=[f"{s[0]}-{s[1]}" for s in STATES])
def test_restarted_agent_does_not_double_it(rogue, state, mode, keys):
    """At once, as an init does that respawns it."""
    bring_to(rogue, state, mode, keys)
    rogue.power_cut()
    rogue.start()
    alive = 2 if mode == "forker" else 1
    most = 0
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        most = max(most, len(processes()))
    assert most <= alive


def test_a_child_that_outlives_its_agent_is_found():
    """The known-bad: what a plain child would do."""
    parent = subprocess.Popen(["sh", "-c", f"sh -c 'sleep 30; true' {MARK}-plain & wait"])
    try:
        wait_until(lambda: len(processes(MARK + "-plain")) == 2, "it did not start")
        parent.kill()
        parent.wait()
        assert len(processes(MARK + "-plain")) == 1
    finally:
        for pid in processes(MARK + "-plain"):
            os.kill(pid, signal.SIGKILL)
