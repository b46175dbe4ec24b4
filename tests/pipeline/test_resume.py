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

from device import SimDevice
from chunked import compress
from front import Front, Image, digest_of, tar_of, tree_of
from relink import relink

REPOSITORY, TAG = "fleet/web", "stable"
BIG = bool(os.environ.get("SLIPWAY_BIG"))
SIZE, CUTS = (128_000_000, 100) if BIG else (10_000_000, 16)
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
    with SimDevice(front, f"{REPOSITORY}:{TAG}", folder=folder, update={"poll_interval": 0, "stable": 1}, **options) as device:
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
    before = device.wait(lambda s: True)["last_failure"]
    device.order("update")
    status = device.wait(lambda s: s["booted"] == slot and s["update"]["state"] == "idle" or s["last_failure"] != before, 60)
    assert status["last_failure"] == before, status["last_failure"]
    assert not (device.dir / "state/stage/checkpoint").exists()
    return meter.parts[0][0] if meter.parts else None


def refused(device, meter):
    """Go on, and fail. The failure, after which no checkpoint is left."""
    meter.stop_at(len(meter.layers.layer))
    before = device.wait(lambda s: True)["last_failure"]
    device.order("update")
    failure = device.wait(lambda s: s["booted"] == "B" or s["last_failure"] != before, 60)["last_failure"]
    assert failure != before, "it was installed\n" + device.log_tail()
    assert not (device.dir / "state/stage/checkpoint").exists()
    return failure


class Place:
    """A checkpoint as it lies in the file (agent/FORMAT.md, "Checkpoints")."""
    ROOM, HASHED, GIVEN = 65536, 64 + 184, 64 + 192

    def __init__(self, device):
        self.path = device.dir / "state/stage/checkpoint"
        self.data = bytearray(self.path.read_bytes())

    def number(self, n, at, length=8):
        return int.from_bytes(self.data[n * self.ROOM + at:n * self.ROOM + at + length], "little")

    def sequence(self, n):
        return self.number(n, 16, 4)

    def newest(self):
        return max(range(4), key=self.sequence)

    def each(self):
        return [n for n in range(4) if self.sequence(n)]

    def flip(self, n, at):
        self.data[n * self.ROOM + at] ^= 1
        self.path.write_bytes(self.data)


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


@pytest.fixture(name="layers", scope="module")
def fixture_layers():
    return Layers("smaller", 6_000_000)


@pytest.fixture(name="want", scope="module")
def fixture_want(layers, plain, certificates, tmp_path_factory):
    with Front(plain, certificates) as front:
        return wanted(layers, front, tmp_path_factory.mktemp("want"))


@contextlib.contextmanager
def cut_device(front, layers, folder, share=0.8, how=cut, **options):
    """One that was cut in the middle of the layer, and its meter."""
    with new_device(front, folder, **options) as device:
        meter = Meter(front, layers)
        assert cut_at(device, meter, int(len(layers.layer) * share), how) == 0
        assert (device.dir / "state/stage/checkpoint").exists()
        yield device, meter


def test_network_lost(layers, want, front, tmp_path):
    """The processes live, and the install fails: no connection is made any more."""
    def lose(device):
        front.fault = lambda request: request.cut()
        meter.gate.set()
        device.wait(lambda s: s["last_failure"] and s["update"]["state"] == "idle", 120)

    with new_device(front, tmp_path) as device:
        meter = Meter(front, layers)
        cut_at(device, meter, 5_000_000, lose)
        front.fault = meter.answer
        device.power_cut()
        device.start()
        meter.stop_at(len(layers.layer))
        device.order("update")
        device.wait_version("v1")
        assert 5_000_000 - meter.parts[0][0] <= AGAIN_MAX and tree_of(device.slot("B")) == want


def test_registry_without_ranges(layers, want, front, tmp_path):
    with cut_device(front, layers, tmp_path) as (device, meter):
        meter.ranges = False
        assert finish(device, meter) == 0
        assert "goes on at byte" in device.log_tail() and tree_of(device.slot("B")) == want


def test_layers_above_are_through(front, tmp_path):
    """Of what was complete before the cut nothing is fetched again, and below it the next one is cut."""
    upper, lower = Layers("upper", 3_000_000), Layers("lower", 3_000_000)
    image = lower.image = Image("v1", [tar_of(files("lower", 3_000_000)), tar_of({"opt/": None} | {
        f"opt/{name.replace('/', '-')}": data for name, data in files("upper", 3_000_000).items() if data and data != "bin/half"})])
    upper.image, upper.layer, upper.digest = image, image.layers[1], digest_of(image.layers[1])
    lower.layer, lower.digest = image.layers[0], digest_of(image.layers[0])
    want = wanted(lower, front, tmp_path / "plain")
    with cut_device(front, lower, tmp_path / "device", 0.7) as (device, meter):
        assert front.count("GET", upper.digest) == 2
        front.seen.clear()
        for _ in range(3):  # also when the next try ends before it comes to the cut
            device.order("update")
            time.sleep(random.Random(_).random() / 3)
            device.power_cut()
            device.start()
        finish(device, meter)
        assert front.count("GET", upper.digest) == 0 and tree_of(device.slot("B")) == want
        assert len(lower.layer) * 0.7 - meter.parts[0][0] <= AGAIN_MAX


def test_layer_above_that_leaves_no_table(layers, front, tmp_path):
    """It is streamed at each try, and the long one below it goes on all the same."""
    odd = Layers("smaller", 6_000_000, real=None, link="real", **{"link/f": b"through a link of the layer"})
    with new_device(front, tmp_path) as device:
        meter, limit = Meter(front, odd), 3_000_000
        assert odd.layer == layers.layer and cut_at(device, meter, limit) == 0
        assert limit - finish(device, meter) <= AGAIN_MAX
        assert (device.slot("B") / "real/f").read_bytes() == b"through a link of the layer"


@pytest.mark.parametrize("frames", [1, 40])
def test_zstd(frames, front, tmp_path):
    """One frame can't be gone on with, many can."""
    def pack(tar):
        step = len(tar) // frames + 1
        return b"".join(compress(tar[at:at + step]) for at in range(0, len(tar), step))

    layers = Layers("zstd", 5_000_000, compress=("+zstd", pack))
    with new_device(front, tmp_path) as device:
        meter, limit = Meter(front, layers), len(layers.layer) * 3 // 4
        assert cut_at(device, meter, limit) == 0
        first = finish(device, meter)
        assert first == 0 if frames == 1 else limit - first <= AGAIN_MAX
        assert (device.slot("B") / "usr/bin/half").read_bytes() == files("zstd", 5_000_000)["usr/bin/half"]


def test_killed_while_it_goes_on(layers, want, front, tmp_path):
    """At any moment, again and again: of what was reached before, no more than the bound comes again."""
    rng = random.Random("kills")
    with cut_device(front, layers, tmp_path) as (device, meter):
        reached = int(len(layers.layer) * 0.8)
        for _ in range(8):
            meter.stop_at(reached)
            device.order("update")
            time.sleep(rng.random() / 2)
            device.power_cut()
            meter.gate.set()
            device.start()
            assert all(reached - first <= AGAIN_MAX for first, _ in meter.parts), meter.parts
        assert reached - finish(device, meter) <= AGAIN_MAX and tree_of(device.slot("B")) == want


# --- what a cut of power may leave ------------------------------------------------------------------------------------

def newest_files(device, count):
    return sorted((path for path in device.slot("B").rglob("*") if path.is_file() and not path.is_symlink()),
                  key=lambda path: path.stat().st_ctime_ns)[-count:]


def zero(path):
    """Its length and time are known, its content is not."""
    stat = path.stat()
    path.write_bytes(bytes(stat.st_size))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def zero_half(device):
    """Of the large file, that is through by then."""
    zero(device.slot("B") / "usr/bin/half")


def lose_last(device):
    for path in newest_files(device, 20):
        path.unlink()


def zero_last(device):
    for path in newest_files(device, 5):
        zero(path)


def shorten(name, by):
    def spoil(device):
        path = device.dir / "state/stage" / name
        os.truncate(path, path.stat().st_size - by)
    return spoil


def blank(name, at):
    """A page that was never written."""
    def spoil(device):
        path = device.dir / "state/stage" / name
        data = bytearray(path.read_bytes())
        data[at:at + 4096] = bytes(len(data[at:at + 4096]))
        path.write_bytes(data)
    return spoil


@pytest.mark.parametrize("spoil", [
    zero_half, lose_last, zero_last, shorten("toc-b", 5000), shorten("tables/stream", 700), blank("toc-b", 8192),
    blank("tables/stream", 8192), blank("checkpoint", 0),
    lambda device: (device.dir / "state/stage/tables/stream").unlink(), lambda device: (device.dir / "state/stage/toc-b").unlink(),
    lambda device: (device.dir / "state/stage/checkpoint").unlink(),
], ids=["old zeros", "files lost", "zeros", "short list", "short table", "blank list", "blank table", "blank checkpoint",
        "no table", "no list", "no checkpoint"])
def test_lost_with_the_power(spoil, layers, want, front, tmp_path):
    """What a checkpoint builds on isn't there: one from before that counts, or the layer comes from its first byte."""
    with cut_device(front, layers, tmp_path) as (device, meter):
        device.power_cut()
        spoil(device)
        device.start()
        finish(device, meter)
        assert tree_of(device.slot("B")) == want


def test_an_agent_that_does_not_look(layers, front, tmp_path):
    """Known-bad: it believes that the begin of the file in progress is there. The read-back finds it out."""
    program = relink(tmp_path, "agent/slot/reuse.c", "slot_reuse_begins", """
        #include "slot/priv.h"
        bool slot_reuse_begins(struct slot_tree *s, const char *path, uint64_t len, uint64_t xxh64)
        {
            (void)s, (void)path, (void)len, (void)xxh64;
            return true;
        }
        """)
    with cut_device(front, layers, tmp_path / "device", 0.4, program=program) as (device, meter):
        zero(device.slot("B") / "usr/bin/half")
        assert "usr/bin/half" in refused(device, meter)["text"]


# --- checkpoints that are wrong -----------------------------------------------------------------------------------------

def test_damaged_checkpoints(layers, want, front, tmp_path):
    """Each by a bit: the one before counts, at the last none."""
    with cut_device(front, layers, tmp_path) as (device, meter):
        device.power_cut()
        place = Place(device)
        assert len(place.each()) == 4
        for n in place.each():
            place.flip(n, 500)
        device.start()
        assert finish(device, meter) == 0 and tree_of(device.slot("B")) == want


def test_one_damaged_checkpoint(layers, want, front, tmp_path):
    with cut_device(front, layers, tmp_path) as (device, meter):
        device.power_cut()
        place = Place(device)
        place.flip(place.newest(), 70)
        device.start()
        again = int(len(layers.layer) * 0.8) - finish(device, meter)
        assert AGAIN_MAX // 2 < again < 2 * AGAIN_MAX and tree_of(device.slot("B")) == want


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_checkpoint_of_another_image(version, layers, front, tmp_path):
    """The tag has moved on: to another layer, or to the same one below others."""
    other = Layers("smaller" if version == "v2" else "other", 6_000_000, version)
    want = wanted(other, front, tmp_path / "plain")
    with cut_device(front, layers, tmp_path / "device") as (device, _):
        meter = Meter(front, other)
        assert finish(device, meter) == 0
        device.wait_version(version)
        assert tree_of(device.slot("B")) == want


def test_another_blob_so_far(front, tmp_path):
    """What decode was given before the cut was not the layer, and a place that lies before that is told: whoever took decode
    over may have told anything. Without its first bytes being seen again, the layer would be found whole."""
    layers = Layers("plain", 0, compress=("", lambda tar: tar))
    true = layers.layer = tar_of({"big": random.Random("big").randbytes(4_000_000)})
    layers.image, layers.digest = Image("v1", [true], compress=lambda tar: tar, suffix=""), digest_of(true)
    false_from, limit = 800_000, 1_300_000  # between the first place and the second
    for n in range(20):
        with new_device(front, tmp_path / str(n)) as device:
            meter = Meter(front, layers)
            layers.layer = true[:false_from] + bytes(limit - false_from) + true[limit:]
            cut_at(device, meter, limit)
            layers.layer = true
            place = Place(device)
            hashed, given = (place.number(place.newest(), at) for at in (place.HASHED, place.GIVEN))
            if not hashed <= false_from < given:
                false_from = (hashed + given) // 2
                continue
            failure = refused(device, meter)
            assert failure["cause"] == "digest" and "begin of the blob" in failure["text"]
            assert finish(device, meter) == 0
            return
    raise AssertionError("no checkpoint lay before the false bytes")
