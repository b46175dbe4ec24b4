#!/usr/bin/python3
"""Every state of the card that a cut during an update may leave, from the writes that the emulated board really made.

    tests/cuts/replay.py [--starts 3] [--seed N] [--known-bad] [qemu-armv7]

The card of this board has no cache of its own, so what it was given is there, in that order, and a cut may come after
each sector: a state is a prefix of the recorded writes. In each of them the slot that boards/common/boot.cmd would start
must hold one whole version: the old one untouched, or the new one as it was in the end, to the byte. When another slot
becomes the next one, it must pass e2fsck, and the agent's state must know of the trial. Some states are started in the
emulator. --known-bad runs an agent that forgets its fsyncs, which must be found.
"""
import argparse
import pathlib
import random
import subprocess
import sys
import tempfile

from follower import VERSIONS, Follower, make_image
from board import Board, TOP
from card import Card, CardError
from writes import Writes

SECTOR = 512
OTHER = {"A": "B", "B": "A"}


class Recording:
    """The card of a board before an update, the writes of the update, and the card after it."""

    def __init__(self, follower, folder, agent=None):
        """`follower` runs what its tag names, and is off; afterwards it has the other version, and is off."""
        folder.mkdir()
        self.folder = folder
        self.before, self.after = folder / "before.img", folder / "after.img"
        self.writes = Writes(folder / "writes.log")
        board, machine = follower.device.board, follower.device.board.machine
        board.save(self.before)
        self.writes.attach(board)
        board.start()
        status = follower.device.wait(lambda s: True, 60, "an answer")
        self.old, self.new = status["booted"], OTHER[status["booted"]]
        if agent:
            self._replace_agent(board, agent)
        follower.publish(follower.other())
        follower.device.wait_version(follower.wanted)
        follower.switch_off()
        board.machine = machine
        board.save(self.after)

    @staticmethod
    def _replace_agent(board, agent):
        """Until the next start."""
        board.put("/data/agentd", agent.read_bytes(), mode="755")
        board.ssh("mount --bind /data/agentd /usr/sbin/agentd && kill $(pidof agentd)")


class Replay:
    def __init__(self, recording):
        self.r = recording
        self.path = recording.folder / "replay.img"
        Board._copy(recording.before, self.path)
        self.card = Card(self.path)
        self.file = open(self.path, "r+b", buffering=0)
        self.missing = self._differences()
        self.points = self.checked = 0
        self.faults = []

    def _range(self, name):
        offset, size = self.card.parts[f"slot-{name.lower()}"]
        return range(offset, offset + size, SECTOR)

    def _differences(self):
        """Sectors of the new slot that are not yet as they will be."""
        missing = set()
        span = self._range(self.r.new)
        with open(self.r.before, "rb") as a, open(self.r.after, "rb") as b:
            a.seek(span.start)
            b.seek(span.start)
            for at in range(span.start, span.stop, 1 << 20):
                x, y = a.read(1 << 20), b.read(1 << 20)
                if x != y:
                    missing |= {at + i for i in range(0, len(x), SECTOR) if x[i:i + SECTOR] != y[i:i + SECTOR]}
        return missing

    def states(self):
        """One after the other, each with whether the environment was just written."""
        new, old = self._range(self.r.new), self._range(self.r.old)
        with open(self.r.after, "rb") as after:
            for write in self.r.writes:
                for i in range(0, len(write.data), SECTOR):
                    at, data = write.at + i, write.data[i:i + SECTOR]
                    if at in old:
                        self.fault(f"the old slot is written to at {at:#x}")
                    if at in new:
                        after.seek(at)
                        (self.missing.discard if after.read(SECTOR) == data else self.missing.add)(at)
                    self.file.seek(at)
                    self.file.write(data)
                    self.points += 1
                    yield self._is_environment(at)

    def _is_environment(self, at):
        return any(start <= at < start + Card.ENV[2] for start in Card.ENV[:2])

    def check(self):
        """Which slot the present state starts; it must be whole."""
        self.checked += 1
        name = self.card.next_slot()
        if name == self.r.new and self.missing:
            self.fault(f"slot {name} would be started, with {len(self.missing)} sectors wrong")
        return name

    def check_flip(self, name):
        """The slot that is next has just become another one."""
        try:
            self.card.check_slot(name)
            if name == self.r.new and self.card.trial() != name:
                self.fault(f"slot {name} is armed, and the agent's state knows of no trial")
        except CardError as error:
            self.fault(str(error))

    def fault(self, what):
        self.faults.append(f"after sector {self.points}: {what}")

    def run(self, starts, rng):
        """All of them. Between two writes of the environment nothing changes which slot is next, so a few will do."""
        kept = []
        total = sum(len(write.data) // SECTOR for write in self.r.writes)
        marks = set(rng.sample(range(1, total + 1), starts))
        name = self.check()
        for environment in self.states():
            if environment or rng.random() < 0.002:
                before, name = name, self.check()
                if name != before:
                    self.check_flip(name)
            if self.points in marks:
                kept.append(self.r.folder / f"state-{self.points}.img")
                Board._copy(self.path, kept[-1])
        return kept


def start(family, image):
    """The board comes up from that card, by itself, with one of the two versions."""
    with Board(family, disk=image) as board:
        board.start()
        board.wait_boot(60)
        text = board.run("cat /app/version")[1].strip()
        assert text in VERSIONS, text


def agent_without_fsync(family):
    subprocess.run(["make", "-s", f"BOARD={family}", f"out/{family}/slipway-nosync"], check=True, cwd=TOP,
                   stdin=subprocess.DEVNULL)
    return TOP / "out" / family / "slipway-nosync"


def replay(follower, folder, starts=3, seed=1, known_bad=False):
    """Record an update of the board and look at each state. Returns (states, checked, started, faults)."""
    recording = Recording(follower, folder, agent_without_fsync(follower.family) if known_bad else None)
    run = Replay(recording)
    kept = run.run(0 if known_bad else starts, random.Random(seed))
    for image in kept:
        start(follower.family, image)
        image.unlink()
    return run.points, run.checked, len(kept), run.faults


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--known-bad", action="store_true")
    parser.add_argument("board", nargs="?", default="qemu-armv7")
    arguments = parser.parse_args()
    make_image(arguments.board)
    with tempfile.TemporaryDirectory(prefix="replay-") as folder, Follower(arguments.board, pathlib.Path(folder)) as follower:
        follower.install()
        follower.switch_off()
        states, checked, started, faults = replay(follower, pathlib.Path(folder) / "record", arguments.starts,
                                                  arguments.seed, arguments.known_bad)
    print(f"{states} states of the card, {checked} looked at, {started} started, {len(faults)} faults")
    for fault in faults[:5]:
        print("  " + fault)
    if arguments.known_bad:
        print("known-bad: " + ("caught" if faults else "NOT CAUGHT"))
    sys.exit(bool(faults) != arguments.known_bad)


if __name__ == "__main__":
    main()
