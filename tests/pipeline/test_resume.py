"""An install that is cut in the middle of one long layer goes on there: what is fetched again after each cut is bounded, and
what comes out is what an install without cuts makes. SLIPWAY_BIG=1: a layer of 100 MB, cut at each hundredth.

The agent is the real one on the simulated board. The front serves the layer out of memory, to a byte that the test sets,
and then is silent until the agent was killed: so what had been sent had been taken, too.
"""
import contextlib
import gzip
import os
import pathlib
import random
import threading
import time

import pytest

from device import DeviceError, SimDevice
from front import Image, digest_of, tar_of, tree_of

REPOSITORY, TAG = "fleet/web", "stable"
BIG = bool(os.environ.get("SLIPWAY_BIG"))
SIZE, CUTS = (100_000_000, 100) if BIG else (14_000_000, 20)
AGAIN_MAX = 1 << 20  # bytes that are fetched again after a cut


def content(rng, size):
    """What gzip makes about half of."""
    return b"".join(rng.randbytes(3000) + b"the same again " * 200 for _ in range(size // 6000 + 1))[:size]


def files(seed, size):
    """Small ones, one that is half of all, and large ones; of what gzip makes `size` bytes of."""
    rng, out = random.Random(seed), {"usr/": None, "usr/bin/": None}
    out |= {f"usr/a{n}": content(rng, rng.randrange(20_000)) for n in range(200)}
    out["usr/bin/half"] = content(rng, size)
    for n in range(3):
        out[f"usr/c{n}"] = content(rng, size // 6)
        out[f"usr/link{n}"] = "bin/half"
        out |= {f"usr/d{n}-{m}": content(rng, rng.randrange(9_000)) for m in range(100)}
    return out


class Layers:
    """An image with one long layer between two short ones."""

    def __init__(self, seed, size=SIZE, version="v1", compress=None, **more):
        upper = tar_of({"etc/": None, "etc/version": version.encode(), "usr/": None, "usr/a7": b"above", "usr/.wh.a8": b""} | more)
        lower = tar_of({"lib/": None, "lib/x": b"x" * 5000, "usr/": None, "usr/a1": b"hidden by the layer above"})
        how = {"compress": compress[1], "suffix": compress[0]} if compress else {}
        self.image = Image(version, [lower, tar_of(files(seed, size)), upper], **how)
        self.layer = self.image.layers[1]
        self.digest = digest_of(self.layer)
        self.version = version


class Meter:
    """What is sent of one layer, and how far."""

    def __init__(self, front, layers):
        self.layers, self.front = layers, front
        self.limit, self.gate = len(layers.layer), threading.Event()
        self.parts = []  # [first, end] of each answer
        self.ranges = True
        front.fault = self.answer
        layers.image.put(front.registry, REPOSITORY, TAG)

    def answer(self, request):
        if self.layers.digest not in request.path:
            return True
        body, first = self.layers.layer, request.first_byte() if self.ranges else 0
        end, gate = min(self.limit, len(body)), self.gate
        self.parts.append((first, max(first, end)))
        fields = {"Content_Type": "application/octet-stream"}
        if first:
            fields["Content_Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
        request.answer(206 if first else 200, body[first:end], length=len(body) - first, keep=True, **fields)
        if end < len(body):
            self.idle = True
            gate.wait(120)
        request.cut()
        return False

    def stop_at(self, limit):
        self.limit, self.gate, self.parts, self.idle = limit, threading.Event(), [], False


@contextlib.contextmanager
def new_device(front, folder, **options):
    with SimDevice(front, f"{REPOSITORY}:{TAG}", folder=folder, update={"poll_interval": 0, "stable": 1} | options) as device:
        device.start()
        device.wait(lambda status: True)
        yield device


def work_done(device):
    """Bytes that the agent's processes have read and written so far."""
    total = 0
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (path / "stat").read_text().rpartition(")")[2].split()[2] == str(device.process.pid):
                total += sum(int(line.split()[1]) for line in (path / "io").read_text().splitlines()[:2])
    return total


def wait_idle(device, meter):
    """Until all that was sent is taken, and worked on."""
    deadline, before, calm = time.monotonic() + 120, None, 0
    while calm < 4:
        assert time.monotonic() < deadline, device.log_tail()
        now = work_done(device)
        calm = calm + 1 if meter.idle and now == before else 0
        before = now
        time.sleep(0.03)


def cut(device):
    device.power_cut()


def cut_at(device, meter, limit, how=cut):
    """Go on up to byte `limit` of the layer, and be killed there. Where the agent asked from."""
    meter.stop_at(limit)
    device.order("update")
    wait_idle(device, meter)
    how(device)
    meter.gate.set()
    if device.process is None:
        device.start()
    assert len(meter.parts) == 1, f"{meter.parts}\n{device.log_tail()}"
    return meter.parts[0][0]


def finish(device, meter, slot="B"):
    """Without further cuts. Where the agent asked from, or None."""
    meter.stop_at(len(meter.layers.layer))
    device.order("update")
    try:
        status = device.wait(lambda s: s["booted"] == slot and s["update"]["state"] == "idle" or s["last_failure"], 60)
    except DeviceError:
        raise AssertionError(device.log_tail()) from None
    assert not status["last_failure"], status["last_failure"]
    assert not (device.dir / "state/checkpoint").exists()
    return meter.parts[0][0] if meter.parts else None


def wanted(layers, front, folder):
    """What an install without a cut makes of it."""
    with new_device(front, folder) as device:
        front.fault = None
        layers.image.put(front.registry, REPOSITORY, TAG)
        device.order("update")
        device.wait_version(layers.version)
        return tree_of(device.slot("B"))


@pytest.mark.parametrize("old", [False, True], ids=["empty slot", "another version"])
def test_cut_everywhere(old, front, tmp_path):
    layers = Layers("new")
    want = wanted(layers, front, tmp_path / "plain")
    with new_device(front, tmp_path / "device") as device:
        if old:  # what is there of it is compared, and half of the blocks stay
            for name in files("old", SIZE):
                data = files("new", SIZE)[name]
                place = device.slot("B") / name
                if data is None:
                    place.mkdir()
                elif isinstance(data, bytes):
                    place.write_bytes(data[:len(data) // 2] + random.Random(1).randbytes(len(data) // 3))
        meter, at, again = Meter(front, layers), 0, []
        size = len(layers.layer)
        for n in range(1, CUTS):
            first = cut_at(device, meter, size * n // CUTS)
            again.append(at - first)
            at = size * n // CUTS
        again.append(at - finish(device, meter))
        assert max(again) <= AGAIN_MAX, again
        assert tree_of(device.slot("B")) == want
        print(f"{CUTS - 1} cuts of a layer of {size} bytes: at most {max(again)} were fetched again, {sum(again)} in all")
