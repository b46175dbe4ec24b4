"""Apps that follow images of their own: [app NAME]. Each goes by the same way as the system, into two trees of its own below
the state directory, and is activated by its restart; the system's slots and its app are left alone."""
import datetime
import json
import pathlib
import random
import re
import time

import pytest

from board import PATIENCE
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
trap 'echo "$(cat /app/version) ends"; kill $!; exit 0' TERM
sleep %s &
wait
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

    def end(self):
        """agentd is asked to end; its folder stays."""
        self.process.terminate()
        self.process.wait(20)
        self.process = None

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
    assert re.search(r"w2 starts, data w1\nw2\n(w3\n)+", re.sub(r"\d{4}-\S+Z ", "", log)), log
    gap = time_of(log, "w2 starts") - time_of(log, "w1 ends")
    print(f"from the end of the old version to the first line of the new one: {gap * 1000:.0f} ms")
    assert 0 < gap < 0.5 * PATIENCE


def time_of(log, words):
    """When the first line with these words was printed, in seconds."""
    stamp = re.search(rf"^(\S+)Z {words}", log, re.M)[1]
    return datetime.datetime.fromisoformat(stamp).timestamp()


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


def is_whole(tree, version):
    """The tree is that of this version, to the byte as far as the app's own files go."""
    want = {path: data if isinstance(data, bytes) else data[0] for path, data in app_files(version).items()}
    return all((tree / path.lstrip("/")).is_file() and (tree / path.lstrip("/")).read_bytes() == data for path, data in want.items())


def tree_of(board, status):
    return board.dir / "state/apps/web" / status["booted"].lower()


def test_cuts(board, images):
    """The agent and all its processes are killed at any moment of an update, from the poll to the end of the trial. What runs
    after it is the old version or the new one, whole, and once; and the update comes to its end."""
    board.update(images, "w1")
    whole = board.wait_version("w1")
    assert is_whole(tree_of(board, whole), "w1") and not is_whole(tree_of(board, whole), "w2"), "it can tell the two apart"
    chance, seen = random.Random(5), []
    for number in range(8):
        old, new = ("w1", "w2") if number % 2 == 0 else ("w2", "w1")
        board.update(images, new)
        time.sleep(chance.uniform(0, 1.6))
        at = board.web()
        seen.append(at["update"]["state"] if at else "?")
        board.power_cut()
        wait_until(lambda: not processes(MARK), "the app outlived its agent")
        board.start()
        status = board.wait_web(lambda s: s["app"]["state"] == "ready", "an app that runs")
        version = slot(status, status["booted"])["version"]
        assert version in (old, new) and is_whole(tree_of(board, status), version)
        wait_until(lambda: processes(MARK), "the app does not get as far")
        assert len(processes(MARK)) == 1
        if status["update"]["state"] != "trial":
            wait_until(lambda: board.agentctl_raw("update web")[0] == 0 or board.web()["update"]["state"] == "trial", "the update")
        board.wait_version(new)
    print("cut while", ", ".join(seen))
    assert len(set(seen)) > 1, "the moments were all alike"


def test_a_trial_that_is_cut_off_each_time(board, images):
    """It has so many starts, and then the old version is back, with the cause."""
    board.update(images, "w1")
    board.wait_version("w1")
    board.end()
    text = board.conf.read_text()
    board.conf.write_text(text.replace("stable = 2", "stable = 600"))
    board.start()
    board.wait_web(lambda s: s["app"]["state"] == "ready", "the app")
    board.update(images, "w2")
    for _ in range(3):
        status = board.wait_web(lambda s: s["update"]["state"] == "trial" and s["app"]["state"] == "ready", "the trial")
        assert slot(status, status["booted"])["version"] == "w2"
        board.power_cut()
        board.start()
    status = board.wait_web(lambda s: s["app"]["state"] == "ready" and s["update"]["state"] != "trial", "the fall-back")
    assert slot(status, status["booted"])["version"] == "w1"
    assert "in 3 starts; the agent fell back to slot B" in status["last_failure"]["text"]


def test_a_removed_app_and_its_data(board, images):
    """Without its section it is not there any more, but all it kept is; with it, it goes on without a download."""
    board.update(images, "w1")
    board.wait_version("w1")
    text = board.conf.read_text()
    board.end()
    board.conf.write_text("\n\n".join(part for part in text.split("\n\n") if not part.lstrip().startswith("[app web]")))
    board.start()
    assert board.wait(lambda s: True)["apps"] == [] and not processes(MARK)
    assert board.agentctl_raw("status web")[0] == 1
    assert starts(board) == ["w1"]
    board.end()
    board.conf.write_text(text)
    board.start()
    board.wait_version("w1")
    wait_until(lambda: starts(board) == ["w1", "w1"], "its data is another")


def test_budgets_are_added_up(registry, images, tmp_path):
    """What all apps are promised has to fit; one that does not is not started, and there is nothing to go back to."""
    images.push("w1", registry, WEB)
    keys = {"image": f"{registry.host}/{WEB}", "memory": "512G"}
    with Board(registry, tmp_path / "device", memory="16M") as device:
        device.conf.write_text(device.conf.read_text() + "\n[app big]\n" + "\n".join(f"{k} = {v}" for k, v in keys.items()) + "\n")
        device.start()
        status = device.wait_web(lambda s: s["last_failure"], "the refusal", 60)
        assert "memory: app 16384 KB + other apps 536870912 KB + agent" in status["last_failure"]["text"]
        status = device.wait_web(lambda s: s["update"]["state"] == "idle", "the end")
        assert status["app"]["state"] == "none" and slot(status, "B")["state"] == "bad"
        assert device.agentctl_raw("rollback web")[0] == 1
