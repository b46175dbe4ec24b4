"""Apps that follow images of their own: [app NAME]. Each goes by the same way as the system, into two trees of its own below
the state directory, and is activated by its restart; the system's slots and its app are left alone."""
import json
import os
import pathlib
import random
import time

import pytest

from device import SimDevice, slot
from images import Images
from test_app import processes, wait_until

SYSTEM = "fleet/system:stable"
WEB = "apps/web:stable"
MARK = "987654321"  # seconds that each of the apps sleeps
SCRIPT = b"""#!/bin/sh
# An app of the test: keeps a count of its starts in its volume, and does what its image says.
echo "$(cat /app/version) starts, data $(cat /var/lib/web/starts 2>/dev/null)"
echo "$(cat /app/version)" >>/var/lib/web/starts
case $(cat /app/mode) in crash) exit 3 ;; esac
exec sleep %s
""" % MARK.encode()


def app_files(version, mode="good", size=300_000):
    return {"/app/run": (SCRIPT, 0o755), "/app/version": version.encode(), "/app/mode": mode.encode(),
            "/app/large": random.Random(1).randbytes(size), "/app/asset": random.Random(version).randbytes(4096),
            "/var/lib/web/.keep": b""}


def config(version):
    return ["--entrypoint", json.dumps(["/bin/sh", "/app/run"]), "--volume", "/var/lib/web",
            "--label", f"org.opencontainers.image.version={version}"]


@pytest.fixture(name="images", scope="module")
def fixture_images():
    images = Images("sim")
    for version, mode in ("w1", "good"), ("w2", "good"), ("w3", "crash"):
        images.derive("base", version, files=app_files(version, mode), config=config(version))
    return images


class Board(SimDevice):
    """A simulated board with one app beside the system, which has no image of its own."""

    def __init__(self, registry, folder, **keys):
        self.registry = registry
        web = {"image": f"{registry.host}/{WEB}", "memory": "16M", "stop_timeout": 1} | keys
        super().__init__(registry, SYSTEM, folder=folder, update={"poll_interval": 600, "stable": 2}, **{"app web": web})

    def web(self):
        code, text = self.agentctl_raw("--json status web")
        return json.loads(text) if code in (0, 5) else None

    def wait_web(self, condition, what, timeout=30):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            seen = self.web()
            if seen and condition(seen):
                return seen
            time.sleep(0.05)
        raise AssertionError(f"{what} did not come; last seen: {json.dumps(seen)}\n{self.log_tail()}")

    def wait_version(self, version, timeout=30):
        """Confirmed and running."""
        return self.wait_web(lambda s: s["update"]["state"] == "idle" and s["app"]["state"] == "ready" and
                             slot(s, s["booted"])["state"] == "active" and slot(s, s["booted"]).get("version") == version,
                             version, timeout)

    def update(self, images, version):
        images.push(version, self.registry, WEB)
        self.order("update web")


@pytest.fixture(name="board")
def fixture_board(registry, tmp_path):
    with Board(registry, tmp_path / "device") as device:
        device.start()
        yield device


def test_story(board, images):
    """Two versions, one that fails: the old one comes back with its data, and the cause is told."""
    board.update(images, "w1")
    first = board.wait_version("w1")
    assert first["booted"] == "B" and first["target"] == "web"
    pid = first["app"]["pid"]
    board.update(images, "w2")
    second = board.wait_version("w2")
    assert second["booted"] == "A" and slot(second, "B")["version"] == "w1" and second["app"]["pid"] != pid
    board.update(images, "w3")
    board.wait_web(lambda s: s["last_failure"], "the fall-back")
    back = board.wait_version("w2")
    assert back["booted"] == "A" and slot(back, "B")["state"] == "bad"
    assert "exited with code 3" in back["last_failure"]["text"]
    code, why = board.agentctl_raw("why web")
    assert code == 5 and "exited with code 3" in " ".join(why.split())
    log = board.agentctl("logs web")
    assert "w2 starts, data w1 w2 w3" in " ".join(log.split()[-20:]) or "w2 starts, data w1" in log, log


def starts(board, name="web"):
    """What each start of the app wrote into its volume."""
    path = board.dir / "state/apps" / name / "volumes/-var-lib-web/starts"
    return path.read_text().split() if path.exists() else []


def test_two_apps_and_a_system(images, registry, tmp_path):
    """The system is updated, and restarts, while two apps run; each target has its own versions, and none the other's. They
    end before the board restarts, and are there again after it, none of them twice."""
    images.push("v1", registry, SYSTEM)
    images.push("w1", registry, WEB)
    images.push("w2", registry, "apps/db:stable")
    keys = {"memory": "16M", "stop_timeout": 1}
    with SimDevice(registry, SYSTEM, folder=tmp_path / "device", update={"poll_interval": 600, "stable": 2},
                   **{"app web": keys | {"image": f"{registry.host}/{WEB}"},
                      "app db": keys | {"image": f"{registry.host}/apps/db:stable"}}) as device:
        def beside(status):
            return {app["name"]: (app["app"], app["version"], app["update"]) for app in status["apps"]}

        device.start()
        device.wait(lambda s: beside(s) == {"web": ("ready", "w1", "idle"), "db": ("ready", "w2", "idle")} and s["booted"] == "B"
                    and s["update"]["state"] == "idle", 90, "all three")
        before = [starts(device, name) for name in ("web", "db")]
        assert ceiling(device) > 0
        images.push("v2", registry, SYSTEM)
        device.order("update")
        device.wait_version("v2")
        device.wait(lambda s: beside(s) == {"web": ("ready", "w1", "idle"), "db": ("ready", "w2", "idle")}, 30, "the apps again")
        assert [starts(device, name) for name in ("web", "db")] == [before[0] + ["w1"], before[1] + ["w2"]]
        assert len(processes(MARK)) == 2
        assert "w1" in device.agentctl("apps") and "there is no app mail" in device.agentctl("status mail")
    assert not processes(MARK)


def ceiling(device):
    """KB between what agentd takes and its ceiling."""
    status = pathlib.Path(f"/proc/{agent_pid(device)}/status").read_text()
    data = int(status.partition("VmData:")[2].split()[0])
    limit = device.status()["roles"][0]["limit_kib"]
    print(f"agentd: VmData {data} of {limit} KB")
    return limit - data


def agent_pid(device):
    """Behind the fence, the process that was started is the agent itself."""
    return device.process.pid
