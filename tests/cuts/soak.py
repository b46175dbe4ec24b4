#!/usr/bin/python3
"""Cut the power of an emulated board at random moments of its updates, over and over.

    tests/cuts/soak.py [--cuts 200] [--seed N] [qemu-armv7]

The board follows a tag that moves between two versions. Each round it is switched on, and must answer by itself with one
of the two, or the factory's; at a random moment its emulator is killed; then the slot that ran must pass e2fsck without
a word. At the end the board is left alone and must reach the version that the tag names. Prints where the cuts fell. What the emulator was told to write survives it; see replay.py for what a cut may lose.
"""
import argparse
import collections
import pathlib
import random
import tempfile
import time

from follower import VERSIONS, Follower, make_image
from board import PATIENCE
from card import Card
from device import DeviceError, slot

BOOT_CUTS = 0.2  # of the cuts, while the board starts
BOOT_S = 4
SPAN_S = 15  # within so long of an answer the others fall; on a quiet machine an update takes that, with its trial
LATE_CUTS = 0.4  # of these, wait for the image to be in the slot first
LATE_PHASES = ("reading", "sealing", "restarting", "trial")
LATE_S = 6
LATE_PATIENCE_S = 60


class Soak:
    """`follower` is a board that is off, from the factory or with a version."""

    def __init__(self, follower, seed):
        self.follower, self.device = follower, follower.device
        self.random = random.Random(seed)
        self.phases = collections.Counter()
        self.allowed = (*VERSIONS, None)  # None: the factory's

    def cut(self):
        """One round. Returns where the cut fell."""
        self.device.board.start()
        if self.random.random() < BOOT_CUTS:
            time.sleep(self.random.uniform(0, BOOT_S))
            self.device.power_cut()
            return "starting"
        status = self.device.wait(lambda s: True, 90, "an answer after a cut")
        active = slot(status, status["booted"]).get("version")
        if active not in self.allowed:
            raise DeviceError(f"slot {status['booted']} has version {active}: {self.device.log_tail()}")
        self.allowed = VERSIONS if active else self.allowed
        self.move(status, active)
        phase = self.wait_random()
        self.device.power_cut()
        Card(self.device.board.disk).check_slot(status["booted"])
        return phase

    def move(self, status, active):
        """A board that has what it should gets something new to do."""
        if status["update"]["state"] != "idle":
            return
        if active == self.follower.wanted:
            self.follower.publish(self.follower.other())
        # cut on every start of its trial, a version counts as one that failed: a person may ask for it again
        self.device.agentctl_raw("update", **self.device.status_way)

    def phase(self):
        status = self.device.status()
        if status is None:
            return "restarting"
        return status["update"]["detail"].split(" ")[0] or status["update"]["state"]

    def wait_random(self):
        """Watch the board until the moment of the cut."""
        begin, span, phase = time.monotonic(), SPAN_S, self.phase()
        if self.random.random() < LATE_CUTS:
            while phase not in LATE_PHASES and time.monotonic() < begin + LATE_PATIENCE_S:
                phase = self.phase()
            span = LATE_S
        end = time.monotonic() + self.random.uniform(0, span)
        while time.monotonic() < end:
            phase = self.phase()
            time.sleep(0.1)
        return phase

    def finish(self):
        """Left alone, the board gets there."""
        self.device.board.start()
        status = self.device.wait(lambda s: True, 90, "an answer at the end")
        if slot(status, status["booted"]).get("version") != self.follower.wanted:
            self.move(status, None)
        self.device.wait_version(self.follower.wanted)


def soak(follower, cuts, seed):
    """Cut the power so often. Returns where the cuts fell; the board is on, and has what its tag names."""
    run = Soak(follower, seed)
    for number in range(cuts):
        phase = run.cut()
        run.phases[phase] += 1
        print(f"cut {number + 1} of {cuts}: {phase}", flush=True)
    run.finish()
    return run.phases


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("board", nargs="?", default="qemu-armv7")
    arguments = parser.parse_args()
    make_image(arguments.board)
    print(f"seed {arguments.seed}, patience {PATIENCE}")
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, Follower(arguments.board, pathlib.Path(folder)) as follower:
        phases = soak(follower, arguments.cuts, arguments.seed)
    for phase, count in phases.most_common():
        print(f"{phase:>12} {count:4} {'#' * count}")
    print(f"{arguments.cuts} power cuts, and the board came back each time")


if __name__ == "__main__":
    main()
