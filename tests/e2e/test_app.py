"""The app in its bounds: it ends with its agent and is never there twice, and it can't take the device down. One image,
whose behaviour the section [app] chooses, on the simulated board and on an emulated one."""
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import time
import zlib

import pytest

from board import PATIENCE, free_port
from device import EmulatedDevice, SimDevice, configuration
from images import Images, SOURCES, make_registry

REFERENCE = "fleet/rogue:stable"
MARK = "mark-of-the-rogue"
WAIT_S = 60
ROGUE = {"/app/run": ((SOURCES / "app-rogue" / "run").read_bytes(), 0o755)}
ROGUE_CONFIG = ["--entrypoint", json.dumps(["/bin/sh", "/app/run"]), "--cmd", "good", "--user", "1234",
                "--label", "org.opencontainers.image.version=rogue"]


def processes(mark=MARK):
    """Of all processes those that bear the mark, without zombies."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


def spaces(pids):
    """Their pid namespaces: each start of the app has one of its own, whatever it forks."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/{pid}/ns/pid"))
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

    def forwards(self):
        """The processes that carry its app's ports; others' have another folder in their environment."""
        found = []
        for pid in processes("forward"):
            with contextlib.suppress(OSError):
                if f"SLIPWAY_SIM_DIR={self.dir}\0".encode() in pathlib.Path(f"/proc/{pid}/environ").read_bytes():
                    found.append(pid)
        return found

    def mounts(self):
        return [line for line in open("/proc/self/mounts") if str(self.dir) in line]

    def files(self):
        """What lies in its folders, but for the slots, the logs, and the halves of a record that a kill may leave."""
        found = {str(path.relative_to(self.dir)) for path in self.dir.rglob("*")}
        return {path for path in found if not path.startswith(("slot-a/", "slot-b/")) and not path.endswith(".new")}

    def app(self):
        status = self.status()
        return status["app"] if status else {"state": "?"}

    def wait_app(self, state):
        wait_until(lambda: self.app()["state"] == state, f"the app is not {state}")
        return self.app()


@pytest.fixture(name="rogue", scope="module")
def fixture_rogue(tmp_path_factory):
    top = tmp_path_factory.mktemp("rogue")
    images = Images("sim")
    images.derive("base", "rogue", files=ROGUE, config=ROGUE_CONFIG)
    with make_registry(top / "registry") as registry:
        images.push("rogue", registry, REFERENCE)
        with Rogue(registry, top / "device") as device:
            device.start()
            device.wait_version("rogue")
            device.known = device.files()
            yield device


@pytest.fixture(name="clean")
def fixture_clean(rogue):
    yield
    if not rogue.process:  # what a killed agent leaves is its successor's to clear away
        rogue.behave("done", restart="no")
        rogue.wait_app("down")
    rogue.end()
    assert processes() == [] and rogue.forwards() == []
    assert rogue.mounts() == []
    assert rogue.group() is None
    assert rogue.files() - rogue.known == set()


# --- kill -9 of the agent ---------------------------------------------------------------------------------------------

STATES = [  # (state, behaviour, further keys of [app])
    ("starting", "good", {"ready": "notify"}),
    ("ready", "good", {}),
    ("ready", "forker", {}),
    ("ready", "serve", {"network": "private", "ports": "127.0.0.1:%d:80" % free_port()}),
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


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("state, mode, keys", STATES, ids=[f"{s[0]}-{s[1]}" for s in STATES])
def test_killed_agent(rogue, state, mode, keys):
    """Its app is not doubled by the next agent, which starts at once, as under an init; and does not outlive the last."""
    bring_to(rogue, state, mode, keys)
    rogue.power_cut()
    rogue.start()
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        assert len(spaces(processes())) <= 1
    rogue.power_cut()
    wait_until(lambda: not processes(), "the app outlived its agent")


@pytest.mark.usefixtures("clean")
def test_killed_while_it_starts_the_app(rogue):
    """Between any two steps of a start, and of what starts beside it."""
    seed = time.time_ns()
    chance = random.Random(seed)
    rogue.behave("serve", network="private", ports=f"127.0.0.1:{free_port()}:80")
    for number in range(25):
        time.sleep(chance.random() * 0.12)
        rogue.power_cut()
        wait_until(lambda: not processes() and not rogue.forwards(), f"kill {number} of seed {seed} left a process")
        assert rogue.mounts() == []
        rogue.start()
    rogue.power_cut()


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


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("mode, keys", [
    ("good", {}), ("burn", {}), ("talk", {}), ("deaf", {}), ("forker", {}), ("bomb", {"pids": 40, "cpu": 1}),
    ("hog", {"memory": "24M", "cpu": 1}), ("crash", {})], ids=lambda value: value if isinstance(value, str) else "")
def test_agent_answers(rogue, mode, keys):
    """Within 200 ms on a quiet machine, 99 times of 100, whatever the app does."""
    rogue.behave(mode, stop_timeout=1, **keys)
    wait_until(lambda: f"rogue {mode} " in rogue.agentctl("logs"), f"{mode} does not run")
    times = []
    for _ in range(100):
        began = time.monotonic()
        assert rogue.agentctl_raw("status")[0] in (0, 5)
        times.append(time.monotonic() - began)
    slow = sorted(times)[98]
    print(f"{mode}: 99 of 100 answers within {slow * 1000:.0f} ms")
    assert slow < 0.2 * PATIENCE


# --- a network of its own ---------------------------------------------------------------------------------------------

def fetched(port, host="127.0.0.1"):
    """What the app's server says of itself, with curl, as anybody would ask; "" when nobody answers."""
    return subprocess.run(["curl", "-sS", "-m", "10", f"http://[{host}]:{port}/run" if ":" in host else
                           f"http://{host}:{port}/run"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          check=False).stdout.decode()


@pytest.mark.usefixtures("clean")
def test_published_port(rogue):
    """An app on port 80 that is not root is reached from outside, and by nothing else; the port outlives app and forwarder."""
    port, inside = free_port(), "behaves as it is told"
    rogue.behave("serve", network="private", ports=f"{port}:80")
    app = rogue.wait_app("ready")
    wait_until(lambda: inside in fetched(port), "no answer")
    assert inside in fetched(port, "::1")
    assert inside not in fetched(80)
    assert len(pathlib.Path(f"/proc/{app['pid']}/net/dev").read_text(encoding="ascii").splitlines()) == 3, "more than lo"

    os.kill(app["pid"], signal.SIGKILL)
    wait_until(lambda: inside in fetched(port), "no answer after a restart")
    assert rogue.app()["restarts"] == 1

    (forward,) = rogue.forwards()
    assert pathlib.Path(f"/proc/{forward}").stat().st_uid == 65534, "worker_uid, never root's"
    os.kill(forward, signal.SIGKILL)
    wait_until(lambda: inside in fetched(port), "no answer after the forwarder's restart")
    assert rogue.app()["restarts"] == 1

    with socket.create_server(("", free_port())) as taken:
        rogue.behave("serve", network="private", ports=f"{taken.getsockname()[1]}:80", restart="no")
        rogue.wait_app("failed")
        assert f"port {taken.getsockname()[1]} of the board: Address " in rogue.log_tail()
    rogue.power_cut()
    wait_until(lambda: not rogue.forwards(), "the forwarder outlived its agent")


@pytest.mark.usefixtures("clean")
def test_private_without_ports(rogue):
    """The known-bad of the test above: the same app, and nobody reaches it."""
    rogue.behave("serve", network="private")
    rogue.wait_app("ready")
    time.sleep(0.5)
    assert fetched(80) == ""


# --- bounds, on an emulated board: the kernel has all of cgroup v2 ------------------------------------------------------

TIMED = "for i in $(seq 20); do s=$(date +%s%N); agentctl status >/dev/null; echo $((($(date +%s%N)-s)/1000000)); done"


class EmulatedRogue(EmulatedDevice):
    conf = "/data/slipway/agent.conf"

    def ssh(self, command, **options):
        return self.board.ssh(command, **options).decode()

    def behave(self, mode, runs=True, **keys):
        """Another [app], and agentd killed: init starts it again."""
        section = "[app]\n" + "".join(f"{key} = {value}\n" for key, value in {"args": f"{mode} {MARK}", **keys}.items())
        text = re.sub(r"\[app\]\n([^\[\n].*\n)*", lambda _: section, self.ssh(f"cat {self.conf}"))
        self.board.put(self.conf, text.encode())
        self.ssh("until kill -9 $(pidof agentd); do sleep 0.2; done 2>/dev/null")  # init may be starting it just now
        if runs:
            wait_until(lambda: f"rogue {mode} " in self.agentctl("logs"), f"{mode} does not run")

    def group(self, file):
        return self.ssh(f"cat /sys/fs/cgroup/slipway-*/{file}")

    def agent_pid(self):
        """The one that init started: a child that it just forked has its name too."""
        found = [line.split() for line in self.ssh("ps -o pid,ppid,comm").splitlines()]
        (pid,) = [pid for pid, parent, name in found if (parent, name) == ("1", "agentd")]
        return pid

    def milliseconds(self):
        """How long the agent takes to answer, the slowest of 20."""
        return max(map(int, self.ssh(TIMED, timeout=60).split()))

    def marked(self):
        """Processes of the app; the pattern does not match itself."""
        pattern = MARK[:-1] + f"[{MARK[-1]}]"
        return self.ssh(f"grep -ls {pattern} /proc/[0-9]*/cmdline | cut -d/ -f3", check=False).split()

    def left(self):
        """What an app has left on the board: processes, groups, mounts."""
        return self.marked() + self.ssh("ls -d /sys/fs/cgroup/slipway-* 2>/dev/null; grep slipway /proc/mounts",
                                        check=False).split()


@pytest.fixture(name="board", scope="module")
def fixture_board(tmp_path_factory):
    top = tmp_path_factory.mktemp("board")
    images = Images("qemu-armv7")
    images.derive("os", "rogue", files=ROGUE, config=ROGUE_CONFIG)
    with make_registry(top / "registry") as registry:
        images.push("rogue", registry, REFERENCE)
        with EmulatedRogue("qemu-armv7", registry, REFERENCE, app={"args": "good " + MARK}) as device:
            device.start()
            device.wait_version("rogue")
            yield device


def test_board_is_held_in_full(board):
    app = board.status()["app"]
    assert app["weaker"] == ""
    assert app["memory"]["limit_kib"] and app["pids"]["limit"] == 512


def test_fork_bomb(board):
    board.behave("bomb", pids=40, restart="no")
    agent = board.agent_pid()
    board.wait(lambda s: s["app"]["pids"]["refused"] > 0, 60, "the end of forking")
    assert board.status()["app"]["pids"]["now"] <= 40
    print("fork bomb: answers within %d ms" % board.milliseconds())
    assert board.agent_pid() == agent


def test_memory_hog(board):
    board.behave("hog", memory="24M", restart="no")
    agent = board.agent_pid()
    app = board.wait(lambda s: s["app"]["state"] == "failed", 120, "the end of the hog")["app"]
    assert app["last_exit"]["cause"] == "over its memory budget" and app["last_exit"]["signal"] == signal.SIGKILL
    assert app["memory"]["oom_kills"] >= 1
    assert board.agent_pid() == agent
    assert "over its memory budget" in " ".join(board.agentctl("why").split())


def test_too_large_a_budget(board):
    """Refused with the sum, not tried."""
    board.behave("good", runs=False, memory="2G", restart="no")
    status = board.wait(lambda s: s["app"]["state"] == "failed", 60, "the refusal")
    assert "app 2097152 KB + agent" in status["last_failure"]["text"]


def test_spinning_app(board):
    board.behave("burn", cpu="0.3")
    used = [int(board.group("cpu.stat").split()[1])]
    began = time.monotonic()
    print("spinning app: answers within %d ms" % board.milliseconds())
    used.append(int(board.group("cpu.stat").split()[1]))
    share = (used[1] - used[0]) / 1e6 / (time.monotonic() - began)
    assert share < 0.4, f"it used {share:.0%} of a processor"


def test_log_filler(board):
    board.behave("talk")
    print("log filler: answers within %d ms" % board.milliseconds())
    assert int(board.ssh("stat -c %s /run/slipway/app.log")) < 70_000
    assert board.status()["roles"][0]["peak_kib"] <= board.status()["roles"][0]["limit_kib"] * 2


def test_deaf_app_and_double_forker(board):
    for mode in "deaf", "forker":
        board.behave(mode, stop_timeout=2)
        before = board.wait(lambda s: s["app"]["state"] == "ready", 60, "the app")["app"]["pid"]
        board.ssh("kill $(pidof agentd)")
        board.wait(lambda s: s["app"]["state"] == "ready" and s["app"]["pid"] != before, 60, "the next start of it")
        found = board.ssh("".join(f"readlink /proc/{pid}/ns/pid; " for pid in board.marked()), check=False).split()
        assert len(set(found)) == 1


def test_published_port_of_a_board(board):
    """curl from outside, by the address that the board has there."""
    board.behave("serve", network="private", ports="8080:80")
    board.wait(lambda s: s["app"]["state"] == "ready", 60, "the app")
    port = board.board.publish(8080)
    wait_until(lambda: "behaves as it is told" in fetched(port), "no answer")
    began = time.monotonic()
    for _ in range(20):
        assert "behaves as it is told" in fetched(port)
    print("published port: %.0f ms a request" % ((time.monotonic() - began) / 20 * 1000))
    resident = board.ssh("grep VmData $(grep -ls 'forwar[d]' /proc/[0-9]*/cmdline | sed s/cmdline/status/)").split()
    print("forward: " + " ".join(resident))
    assert int(resident[1]) <= 768


def test_nothing_is_left(board):
    board.behave("done", restart="no")
    board.wait(lambda s: s["app"]["state"] == "down", 60, "the end")
    wait_until(lambda: not board.left(), "the app left something")
