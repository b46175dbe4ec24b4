"""A device that runs the agent: the host's simulated board, or an emulated one. Both are asked in the same words.

    with make_device("sim", registry, "fleet/web:stable") as device:
        device.start()
        device.wait_version("v1")
        print(device.agentctl("status"))
"""
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time

from board import Board, PATIENCE, TOP, settings


def required(keys, paths, trust=None):
    """[trust] of a device that takes what `keys` (factory.Key) signed, if there are any."""
    keys = {"policy": "required", "keys": ", ".join(map(str, paths))} if keys else {}
    return keys | (trust or {})


class DeviceError(Exception):
    """The device did not come to do what was waited for."""


def configuration(image, ca, folder, **sections):
    """The text of an agent.conf. `sections` are dicts of further keys, or of other values."""
    usual = {"registry": {"image": image, "ca": ca or ""}, "update": {"poll_interval": 4, "stable": 4},
             "agent": {"state_dir": folder}, "trust": {"policy": "off"}}
    lines = []
    for name in {**usual, **sections}:
        keys = usual.get(name, {}) | sections.get(name, {})
        lines += [f"[{name}]"] + [f"{key} = {value}" for key, value in keys.items()] + [""]
    return "\n".join(lines)


def slot(status, name):
    """What a status says of slot "A" or "B"."""
    return next(s for s in status["slots"] if s["name"] == name)


class Device:
    status_way = {}
    pause = 0.3  # between two looks at its status
    watch = None  # told each status that a wait sees, None while nobody answers

    def status(self):
        """The status as a dict, or None while nobody answers."""
        code, text = self.agentctl_raw("--json status", **self.status_way)
        try:
            return json.loads(text) if code in (0, 5) else None
        except ValueError:
            return None

    def agentctl(self, words):
        return self.agentctl_raw(words)[1]

    def order(self, words):
        """The same for what must be done, also by an agent that is just starting."""
        deadline = time.monotonic() + 20 * PATIENCE
        while True:
            code, text = self.agentctl_raw(words)
            if code == 0:
                return
            if code != 3 or time.monotonic() > deadline:
                raise DeviceError(f"agentctl {words}: {text}")
            time.sleep(self.pause)

    def wait(self, condition, timeout=60, what="the state waited for"):
        """Wait until condition(status) holds. Returns that status."""
        deadline = time.monotonic() + timeout * PATIENCE
        seen = None
        while time.monotonic() < deadline:
            status = self.status()
            if self.watch:
                self.watch(status)
            if status is not None:
                seen = status
                if condition(status):
                    return status
            time.sleep(self.pause)
        raise DeviceError(f"{what} did not come in {timeout * PATIENCE:.0f} s; last seen: {json.dumps(seen)}\n{self.log_tail()}")

    def wait_installed(self, timeout=20):
        """Have a factory-fresh device look for its first image, and wait until that is in slot B and booted, or refused."""
        self.wait(lambda s: True, 20, "an answer")
        self.agentctl("update")
        return self.wait(lambda s: s["booted"] == "B" or s["last_failure"], timeout, "the first image")

    def wait_version(self, version, timeout=120):
        """Wait until `version` runs, is confirmed, and its app is up."""
        def confirmed(s):
            active = slot(s, s["booted"])
            return active["state"] == "active" and active.get("version") == version and s["update"]["state"] == "idle"
        return self.wait(confirmed, timeout, f"version {version}, confirmed")

    def wait_fallback(self, timeout=180):
        """Wait until a trial failed and the device is back and idle."""
        def fell_back(s):
            return s["last_failure"] and s["last_failure"]["event"] == "trial" and s["update"]["state"] == "idle"
        return self.wait(fell_back, timeout, "the fall-back")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class SimDevice(Device):
    """agentd on the host. Starting it is a power-on, killing it a power cut."""

    family = "sim"
    pause = 0.05
    fence = ()  # words before the agent's command: what a test puts around it

    def __init__(self, registry, reference, /, folder=None, program=None, environment=None, keys=(), **sections):
        self.keep = folder is not None
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="sim-")
        self.dir = pathlib.Path(folder or self._temporary.name).resolve()
        self.program = pathlib.Path(program or TOP / "out" / "sim" / "slipway").resolve()
        self.socket = self.dir / "agentd.sock"
        self.conf = self.dir / "agent.conf"
        self.environment = dict(os.environ, SLIPWAY_SIM_DIR=str(self.dir), **(environment or {}))
        self.process = None
        for name in "slot-a", "slot-b", "state":
            (self.dir / name).mkdir(parents=True, exist_ok=True)
        sections.setdefault("control", {"socket": self.socket})
        sections["trust"] = required(keys, [key.public for key in keys], sections.get("trust"))
        self.conf.write_text(configuration(f"{registry.host}/{reference}", registry.ca, self.dir / "state", **sections))

    def start(self):
        with open(self.dir / "agentd.log", "ab") as log:
            self.process = subprocess.Popen([*self.fence, "env", "-C", self.dir, "setpriv", "--pdeathsig", "KILL",
                                             self.program, "agentd", "-c", self.conf],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment,
                                            start_new_session=True)

    def power_cut(self):
        """All processes of the agent at once: an app has a session of its own and ends with its parent."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20 * PATIENCE)
            except subprocess.TimeoutExpired:
                self.power_cut()
        self.process = None
        if self._temporary:
            self._temporary.cleanup()
            self._temporary = None

    def slot(self, name):
        return self.dir / f"slot-{name.lower()}"

    def agentctl_raw(self, words):
        done = subprocess.run(["agentctl", "--socket", self.socket, *words.split()], executable=self.program,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        return done.returncode, done.stdout

    def log_tail(self):
        log = self.dir / "agentd.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-25:]) if log.exists() else ""


class EmulatedDevice(Device):
    """agentd on an emulated board, asked on its console, over ssh, or over its second serial line."""

    status_way = {"way": "serial"}  # the one that a reboot in the middle of a question does not confuse

    def __init__(self, name, registry, reference, /, way="console", folder=None, ram=None, keys=(), **sections):
        self.family = name
        self.way = way
        files = {}
        if registry.ca:
            files["slipway/ca.crt"] = pathlib.Path(registry.ca).read_bytes()
        paths = [f"slipway/{key.public.name}" for key in keys]
        files |= {path: key.public.read_bytes() for path, key in zip(paths, keys)}
        sections["trust"] = required(keys, [f"/data/{path}" for path in paths], sections.get("trust"))
        sections.setdefault("control", {"serial": settings(name, "CONTROL")[0]})
        # A busy machine needs seconds to start Python on an emulated board; a crash after that is to be seen as one.
        sections.setdefault("update", {"poll_interval": 4, "stable": settings(name, "QEMU_STABLE")[0] or 12})
        files["slipway/agent.conf"] = configuration(
            f"{registry.board_host}/{reference}", registry.ca and "/data/slipway/ca.crt", "/data/slipway",
            **sections).encode()
        self.board = Board(name, data=files, work=folder, ram=ram)

    def start(self):
        self.board.start()
        return self.board.wait_boot()

    def power_cut(self):
        self.board.power_cut()

    def stop(self):
        self.board.__exit__()

    def agentctl_raw(self, words, way=None):
        way = way or self.way
        if way == "serial":
            done = subprocess.run(["agentctl", "--serial", self.board.serial, *words.split()],
                                  executable=TOP / "out" / "sim" / "slipway", stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, check=False)
            return done.returncode, done.stdout
        if way == "ssh":
            text = self.board.ssh(f"agentctl {words}; echo @$?", check=False).decode(errors="replace")
            text, _, code = text.rpartition("@")
            return (int(code), text) if code.strip().isdigit() else (255, text)
        code, text = self.board.run(f"agentctl {words}", check=False)
        return code, text

    def log_tail(self):
        return "\n".join(self.board.log.read_text(errors="replace").splitlines()[-40:])


def make_device(name, registry, reference, /, **options):
    if name == "sim":
        return SimDevice(registry, reference, **options)
    return EmulatedDevice(name, registry, reference, **options)
