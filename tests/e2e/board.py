"""An emulated board: boots the image of boards/image in QEMU, and is driven over its console, ssh and power switch.

    with Board("qemu-armv7") as board:
        board.start()
        boot = board.wait_boot()              # boot.slot == "A"
        code, text = board.run("uname -m")
        board.power_cut()
        board.start()

From the board the host is Board.HOST, so a registry on the host's port 5000 is 10.0.2.2:5000. From the host, the
board's control serial line is the tty `board.serial`. Each Board has a copy of the image as its card. Times are given as a quiet machine would need them, and multiplied by PATIENCE.
"""
import codecs
import collections
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
PATIENCE = float(os.environ.get("SLIPWAY_PATIENCE", "5"))

RESTARTING = "reboot: Restarting system"  # the kernel's last word
Boot = collections.namedtuple("Boot", "slot left seconds")


def settings(name, *keys):
    """What boards/<name>/image.conf says of these keys; "" where it says nothing."""
    script = '. "$0"; for key; do eval "printf \'%s\\0\' \\"\\${$key:-}\\""; done'
    said = subprocess.run(["sh", "-euc", script, TOP / "boards" / name / "image.conf", *keys], check=True,
                          stdout=subprocess.PIPE, text=True).stdout
    return said.split("\0")[:-1]


class BoardError(Exception):
    """The board did not do what was asked; the text ends with what its console showed last."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Board:
    HOST = "10.0.2.2"

    def __init__(self, name, image_dir=None, disk=None, data=(), work=None, ram=None, extra=()):
        """`image_dir` holds u-boot.bin and disk.img, out/<name> by default; `disk` is another image than that one, or
        what save() of another board wrote. `data` (path -> bytes) is put on the data partition before the first start:
        {"slipway/agent.conf": b"..."}. `work` keeps the card and console.log; without it they go with the board.
        `extra` are further options for QEMU."""
        qemu, restarts = settings(name, "QEMU", "QEMU_RESTARTS")
        self.program, *self.machine = qemu.split()
        self.restarts = restarts != "no"
        self.images = pathlib.Path(image_dir or TOP / "out" / name).resolve()
        self.extra = (["-m", str(ram)] if ram else []) + list(extra)
        self.keep = work is not None
        self.work = pathlib.Path(work or tempfile.mkdtemp(prefix="board-"))
        self.work.mkdir(parents=True, exist_ok=True)
        self.disk = self.work / "disk.img"
        self.log = self.work / "console.log"
        self.ssh_port = free_port()
        self.serial = None
        self._process = None
        self._seen = 0
        self._text = ""
        self._more = threading.Condition()
        self._key = self.work / "key"
        if not self.disk.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", self._key], check=True)
            self._copy(disk or self.images / "disk.img", self.disk)
            self._fill({**dict(data), "ssh/authorized_keys": self._key.with_suffix(".pub").read_bytes()})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        if not self.keep:
            shutil.rmtree(self.work)

    # --- power -------------------------------------------------------------------------------------------------------

    def start(self):
        """Switch on."""
        assert self._process is None, "the board is on"
        for name in "qmp", "u-boot.bin":
            (self.work / name).unlink(missing_ok=True)
        (self.work / "u-boot.bin").symlink_to(self.images / "u-boot.bin")
        command = [
            "setpriv", "--pdeathsig", "KILL", self.program, "-nodefaults", "-display", "none", "-serial", "stdio",
            "-chardev", "pty,id=control", "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.ssh_port}-:22",
            "-qmp", "unix:qmp,server=on,wait=off", *self.machine, *self.extra]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=subprocess.STDOUT, cwd=self.work)
        self._started = time.monotonic()
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        self._wait_for(self._monitor_answers, 5, "QEMU did not start", ends=True)
        devices = self.qmp("query-chardev")
        self.serial = next(d["filename"] for d in devices if d["label"] == "control").removeprefix("pty:")

    def power_cut(self):
        """Cut the power, at once."""
        self._process.kill()
        self._process.wait()
        self._process = None

    def stop(self):
        """Switch off, whatever state the board is in."""
        if self._process is not None:
            self.power_cut()

    def wait_off(self, timeout=10):
        """Wait until the board has switched itself off."""
        self._wait_for(lambda: self._process.poll() is not None, timeout, "the board stays on")
        self._process = None

    def qmp(self, verb, **arguments):
        """One command to QEMU's monitor: qmp("system_reset"), qmp("set_link", name="nic", up=False)."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10 * PATIENCE)
            sock.connect(os.path.relpath(self.work / "qmp"))
            stream = sock.makefile("rw")
            stream.readline()
            for request in {"execute": "qmp_capabilities"}, {"execute": verb, "arguments": arguments}:
                print(json.dumps(request), file=stream, flush=True)
                answer = json.loads(stream.readline())
                while "event" in answer:
                    answer = json.loads(stream.readline())
        if "error" in answer:
            raise BoardError(f"{verb}: {answer['error']['desc']}")
        return answer["return"]

    def publish(self, port):
        """A port of this machine that leads to `port` of the board, as somebody beside it would reach it."""
        own = free_port()
        said = self.qmp("human-monitor-command", **{"command-line": f"hostfwd_add net tcp:127.0.0.1:{own}-:{port}"})
        assert not said, said
        return own

    def save(self, path):
        """A copy of the card as it is now, for the `disk` of other boards. The board is off."""
        assert self._process is None, "the board is on"
        self._copy(self.disk, path)

    # --- console -----------------------------------------------------------------------------------------------------

    def send(self, text):
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def expect(self, pattern, timeout=10):
        """Wait for a regular expression on the console, behind what was matched before. Returns the match."""
        compiled = re.compile(pattern, re.MULTILINE)
        match = None

        def found():
            nonlocal match
            match = compiled.search(self._text, self._seen)
            return match

        self._wait_for(found, timeout, f"/{pattern}/ did not come", ends=True)
        self._seen = match.end()
        return match

    def wait_boot(self, timeout=20):
        """Wait for the next start of a slot and for the shell. Returns which slot, its tries left, and the seconds."""
        begin = time.monotonic()
        match = self.expect(r"^slot ([AB]), tries left after this one: (\d)", timeout)
        self.expect(r"^# ", timeout)
        return Boot(match[1], int(match[2]), time.monotonic() - begin)

    def run(self, command, timeout=10, check=True):
        """Run one line of shell on the console. Returns (exit code, output)."""
        # The echo of the line must not look like the marks, hence the quotes within.
        line = f'echo @@BE""GIN@; {command}; echo @@E""ND=$?@\n'
        assert len(line) < 4096, "a terminal takes no longer line: use put() and ssh()"
        self.send(line)
        begin = self.expect(r"@@BEGIN@\r?\n", timeout).end()
        match = self.expect(r"@@END=(\d+)@", timeout)
        output = self._text[begin:match.start()].replace("\r", "")
        code = int(match[1])
        if check and code:
            raise BoardError(f"{command!r} ended with {code}: {output}")
        return code, output

    # --- ssh ---------------------------------------------------------------------------------------------------------

    def ssh(self, command, data=None, timeout=20, check=True):
        """Run a command over ssh, with `data` (bytes) as its input. Returns its output as bytes. Not for a reboot: the
        connection would only be found dead by timeout."""
        self._wait_for(self._ssh_answers, timeout, "nobody answers ssh", ends=True)
        try:
            done = subprocess.run(
                ["ssh", "-q", "-i", self._key, "-p", str(self.ssh_port), "-o", "StrictHostKeyChecking=no",
                 "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "root@127.0.0.1", command],
                input=data, stdin=subprocess.DEVNULL if data is None else None, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, timeout=timeout * PATIENCE, check=False)
        except subprocess.TimeoutExpired as error:
            raise BoardError(f"ssh {command!r} took more than {timeout * PATIENCE:.0f} s") from error
        if check and done.returncode:
            raise BoardError(f"ssh {command!r} ended with {done.returncode}: {done.stdout.decode(errors='replace')}")
        return done.stdout

    def put(self, path, data, mode="644"):
        """Write a file on the board, whole and durable."""
        self.ssh(f"mkdir -p $(dirname {path}) && cat >{path}.new && chmod {mode} {path}.new && mv {path}.new {path} && sync",
                 data=data)

    # --- within ------------------------------------------------------------------------------------------------------

    @staticmethod
    def _copy(source, target):
        # A copy and no qcow2 overlay: of that, a cut of power would lose what a card without a cache has already stored.
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", source, target], check=True)

    def _fill(self, files):
        """Write files to the data partition of the card, which is not mounted, from outside."""
        table = json.loads(subprocess.run(["sfdisk", "-J", self.disk], check=True, stdout=subprocess.PIPE).stdout)
        data = next(p for p in table["partitiontable"]["partitions"] if p["name"] == "data")
        start, size = data["start"] * 512, data["size"] * 512
        dd = ["dd", "bs=1M", "iflag=skip_bytes,count_bytes", "oflag=seek_bytes", "conv=notrunc,sparse", "status=none"]
        with tempfile.TemporaryDirectory(dir=self.work) as folder:
            partition = pathlib.Path(folder) / "partition"
            subprocess.run([*dd, f"if={self.disk}", f"of={partition}", f"skip={start}", f"count={size}"], check=True)
            os.truncate(partition, size)
            # 1: repaired, such as the journal of a board that lost its power.
            if subprocess.run(["e2fsck", "-p", partition], stdout=subprocess.DEVNULL, check=False).returncode > 1:
                raise BoardError("the data partition is damaged")
            script = []
            for number, (path, content) in enumerate(files.items()):
                file = pathlib.Path(folder) / str(number)
                file.write_bytes(content)
                folders = [str(parent) for parent in pathlib.PurePath(path).parents][-2::-1]
                script += [f"mkdir {name}" for name in folders] + [f"rm {path}", f"write {file} {path}"]
            subprocess.run(["debugfs", "-w", "-f", "-", partition], input="\n".join(script), text=True, check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            subprocess.run(["fallocate", "-p", "-o", str(start), "-l", str(size), self.disk], check=True)
            subprocess.run([*dd, f"if={partition}", f"of={self.disk}", f"seek={start}"], check=True)

    def _monitor_answers(self):
        with socket.socket(socket.AF_UNIX) as sock:
            return sock.connect_ex(os.path.relpath(self.work / "qmp")) == 0

    def _ssh_answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.ssh_port), timeout=1) as sock:
                return sock.recv(4) == b"SSH-"
        except OSError:
            return False

    def _listen(self, process):
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        restarted = len(self._text)
        with open(self.log, "ab", buffering=0) as log:
            while data := os.read(process.stdout.fileno(), 65536):
                log.write(data)
                with self._more:
                    self._text += decoder.decode(data)
                    self._more.notify_all()
                if not self.restarts and RESTARTING in self._text[restarted:]:
                    restarted = len(self._text)
                    self.qmp("system_reset")
        with self._more:
            self._more.notify_all()

    def _wait_for(self, condition, timeout, complaint, ends=False):
        deadline = time.monotonic() + timeout * PATIENCE
        with self._more:
            while not condition():
                gone = self._process.poll() is not None
                if time.monotonic() > deadline or gone and ends:
                    tail = "\n".join(self._text.splitlines()[-15:])
                    why = "the board is off" if gone else f"in {timeout * PATIENCE:.0f} s"
                    raise BoardError(f"{complaint} ({why}); {self.log}:\n{tail}")
                self._more.wait(0.05)
