"""zstd:chunked layers: what is installed by their table of contents is what their tar would give; of an update only what
changed is fetched; a table that lies is refused, and says why.

The agent is the real one on the simulated board, with a docker-registry behind a front that counts and may spoil answers.
"""
import contextlib
import json
import random

import pytest

from chunked import NEW, OLD, Chunked, compress, digest
from device import SimDevice
from fence import spared
from front import Front, tar_of
from images import Images
from layouts import CODECS, Layout, unpack
from test_equal import implicit, timeless
from tree import differences, scan

REPOSITORY, TAG = "fleet/web", "stable"
REFERENCE = f"{REPOSITORY}:{TAG}"
BIG = 3_000_000
SMALL = 64


@pytest.fixture(name="front")
def fixture_front(plain, certificates):
    """A new one for each test, which counts what it asked for."""
    with Front(plain, certificates) as front:
        yield front


@pytest.fixture(name="base", scope="module")
def fixture_base():
    images = Images("sim")
    images.build("v1")
    return (images.dir / "base.tar").read_bytes()


@pytest.fixture(name="small", scope="module")
def fixture_small():
    """A layer of many small files."""
    rng = random.Random("small")
    return tar_of({"usr": None} | {f"usr/{n}": rng.randbytes(rng.randrange(8000)) for n in range(200)})


@contextlib.contextmanager
def new_device(front, folder, **options):
    with SimDevice(front, REFERENCE, folder=folder, update={"poll_interval": 0, "stable": 1} | options) as device:
        device.start()
        device.wait(lambda status: True)
        yield device


class Push:
    """An image of layers, pushed; and what umoci makes of the same layers."""

    def __init__(self, folder, front, tars, codec, version="1"):
        config = {"Labels": {"org.opencontainers.image.version": version}}
        self.layout = Layout(folder / f"layout-{version}", tars, codec, config)
        front.registry.upload(self.layout.source, REFERENCE)
        self.version, self.tars = version, tars
        self.folder = folder / f"plain-{version}"

    def check(self, device, name):
        plain = Layout(self.folder, self.tars, CODECS["tar"])
        made_up = implicit_of(self.tars, self.folder)
        want = timeless(scan(unpack(plain.dir, self.folder / "bundle")), made_up)
        lines = differences(want, timeless(scan(device.slot(name)), made_up))
        assert not lines, "\n".join([f"{len(lines)} differences", *lines[:20]])


def implicit_of(tars, folder):
    paths = []
    for number, tar in enumerate(tars):
        paths.append(folder / f"{number}.tar")
        paths[-1].write_bytes(tar)
    return implicit(paths)


def update(device, push, slot):
    device.agentctl("update")
    status = device.wait(lambda s: s["booted"] == slot and s["update"]["state"] == "idle" or s["last_failure"], 60)
    assert not status["last_failure"] and status["booted"] == slot, status["last_failure"]
    device.wait_version(push.version)
    push.check(device, slot)


def refusal(device):
    """Slot B may be half written then, and is out of the boot order."""
    before = device.status()["last_failure"]
    with spared(device, "slot-b", "bootenv"):
        device.agentctl("update")
        failure = device.wait(lambda s: s["last_failure"] != before or s["booted"] == "B", 60)["last_failure"]
    assert failure != before, "the image was installed"
    return failure


def layer_of(layout, index):
    return json.loads((layout.blobs / layout.digest.partition(":")[2]).read_bytes())["layers"][index]


def blob_bytes(front, layout, index):
    """Bytes of layer `index` that were asked for."""
    layer = layer_of(layout, index)
    parts = [request.part() for request in front.seen if layer["digest"] in request.path]
    return sum(part.stop - part.start if part else layer["size"] for part in parts)


def toc_len(layout, index):
    notes = layer_of(layout, index)["annotations"]
    return int(next(value for key, value in notes.items() if key.endswith("manifest-position")).split(":")[1])


def app(version, big, **more):
    files = {f"app/asset-{n}": random.Random(n).randbytes(3000) for n in range(SMALL)}
    return tar_of({"app": None, "app/big": big, "app/empty": b"", "app/link": "big", "app/version": version.encode(),
                   **files, **more})


# --- what comes out --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("prefix", [OLD, NEW], ids=["old", "new"])
def test_equal(prefix, base, small, front, tmp_path):
    push = Push(tmp_path, front, [base if prefix == NEW else small], Chunked(prefix).codec)
    with new_device(front, tmp_path / "device") as device:
        update(device, push, "B")
    assert "in 1 parts of a layer" in (tmp_path / "device/agentd.log").read_text()


def test_stack(front, tmp_path):
    """Upper layers hide and white out; a hidden file is needed for the sake of a hard link."""
    tars = [tar_of({"d": None, "d/a": b"lower a" * 9, "d/b": b"lower b" * 9, "d/gone": b"x"}),
            tar_of({"d": None, "d/b": b"upper b" * 9, "d/.wh.gone": b"", "d/new": bytes(100_000)})]
    push = Push(tmp_path, front, tars, Chunked().codec)
    with new_device(front, tmp_path / "device") as device:
        update(device, push, "B")


def test_only_what_changed(front, small, tmp_path):
    rng = random.Random("big")
    big = bytearray(rng.randbytes(BIG))
    versions = [bytes(big)]
    big[1_000_000:1_000_100] = rng.randbytes(100)
    versions.append(bytes(big))  # overwritten
    versions.append(versions[1][:2_000_000] + rng.randbytes(100) + versions[1][2_000_000:])  # inserted
    slots = "BAB"
    with new_device(front, tmp_path / "device") as device:
        for number, (content, slot) in enumerate(zip(versions, slots)):
            before = device.status()["flash"]["slot_bytes_written"]
            push = Push(tmp_path, front, [small, app(f"v{number}", content)], Chunked().codec, f"v{number}")
            front.seen.clear()
            update(device, push, slot)
            written = device.status()["flash"]["slot_bytes_written"] - before
            if number == 0:
                continue
            assert blob_bytes(front, push.layout, 0) == 0, "an unchanged layer costs nothing, not even its table"
            assert blob_bytes(front, push.layout, 1) < toc_len(push.layout, 1) + 3 * 32768
            if number == 2:  # the inactive slot held v0: what was inserted shifts a third of the file
                assert written < BIG - 2_000_000 + 100_000


def test_renamed(front, tmp_path):
    content = random.Random("r").randbytes(500_000)
    first = Push(tmp_path, front, [tar_of({"a": content, "b": b"1" * 5000})], Chunked().codec, "1")
    with new_device(front, tmp_path / "device") as device:
        update(device, first, "B")
        second = Push(tmp_path, front, [tar_of({"c": content, "b": b"2" * 5000})], Chunked().codec, "2")
        front.seen.clear()
        update(device, second, "A")
        assert blob_bytes(front, second.layout, 0) < 4000


def test_from_gzip_to_chunked(front, small, tmp_path):
    """No digest of any file is known, but the files are there."""
    first = Push(tmp_path, front, [small], CODECS["gzip"], "1")
    with new_device(front, tmp_path / "device") as device:
        update(device, first, "B")
        second = Push(tmp_path, front, [small], Chunked().codec, "2")
        front.seen.clear()
        update(device, second, "A")
        assert blob_bytes(front, second.layout, 0) == toc_len(second.layout, 0)


def test_changed_by_hand(front, tmp_path):
    """What somebody did to the slots is found out: what changed is fetched again, not copied."""
    content = {f"f{n}": random.Random(n).randbytes(40_000) for n in range(4)}
    push = Push(tmp_path, front, [tar_of(content)], Chunked().codec, "1")
    with new_device(front, tmp_path / "device") as device:
        update(device, push, "B")
        file = device.slot("B") / "f1"
        file.write_bytes(b"changed" + file.read_bytes()[7:])
        push = Push(tmp_path, front, [tar_of(content)], Chunked().codec, "2")
        front.seen.clear()
        update(device, push, "A")
        assert 30_000 < blob_bytes(front, push.layout, 0) < 60_000


def test_full_verification(front, small, tmp_path):
    push = Push(tmp_path, front, [small], Chunked().codec)
    with new_device(front, tmp_path / "device", full_verification="yes") as device:
        update(device, push, "B")
    assert not any(request.part() for request in front.seen)


# --- registries ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("answer", ["200", "416"])
def test_no_parts(answer, front, small, tmp_path):
    """The layer is streamed: it is downloaded once."""
    def fault(request):
        if "/blobs/" not in request.path or not request.part():
            return True
        if answer == "416":
            return request.answer(416)
        del request.headers["Range"]
        return True

    push = Push(tmp_path, front, [small], Chunked().codec)
    front.fault = fault
    with new_device(front, tmp_path / "device") as device:
        update(device, push, "B")
    whole = [request for request in front.seen if "/blobs/" in request.path and request.part() is None]
    assert len(whole) == 2 + (answer == "200"), "the config, the layer, and once the answer that was broken off"


def test_parts_come_to_an_end(front, small, tmp_path):
    """A registry that sends parts only at first: the rest is cut out of one whole download."""
    files = {f"f{n}": random.Random(n).randbytes(20_000) for n in range(40)}
    first = Push(tmp_path, front, [tar_of(files)], Chunked().codec, "1")
    with new_device(front, tmp_path / "device") as device:
        update(device, first, "B")
        files |= {f"f{n}": random.Random(f"new {n}").randbytes(20_000) for n in (3, 9, 20, 33)}
        second = Push(tmp_path, front, [tar_of(files)], Chunked().codec, "2")
        parts = []

        def fault(request):
            if "/blobs/" in request.path and request.part():
                parts.append(request.part())
                if len(parts) > 2:
                    del request.headers["Range"]
            return True

        front.seen.clear()
        front.fault = fault
        update(device, second, "A")
        assert len(parts) == 4, "the table, a part, a refused one, the rest as one"


# --- lies ------------------------------------------------------------------------------------------------------------

LIAR = {"a": b"a" * 1000, "b": random.Random("b").randbytes(100_000), "c": b"c" * 1000}


def entry(toc, name):
    return next(e for e in toc["entries"] if e["name"] == name and e["type"] != "chunk")


def chunks(toc, name):
    return [e for e in toc["entries"] if e["name"] == name and e["type"] == "chunk"]


def change(name, /, **values):
    return lambda toc: entry(toc, name).update(values)


def position(change_at, value):
    def tell(notes):
        key = next(key for key in notes if key.endswith("manifest-position"))
        fields = notes[key].split(":")
        fields[change_at] = value(int(fields[change_at]))
        notes[key] = ":".join(map(str, fields))
    return tell


def checksum(notes):
    notes.update({key: digest(b"another") for key in notes if key.endswith("manifest-checksum")})


def swap(toc):
    a, c = entry(toc, "a"), entry(toc, "c")
    a["offset"], a["endOffset"], c["offset"], c["endOffset"] = c["offset"], c["endOffset"], a["offset"], a["endOffset"]


LIES = {  # name: (lie, tell, cause, words)
    "wrong checksum": (None, checksum, "digest", "digest mismatch"),
    "raw length too small": (None, position(2, lambda n: n - 1), "size", "unpacks to more than"),
    "raw length too large": (None, position(2, lambda n: n + 1), "size", "want"),
    "table of 150 MB": (None, position(2, lambda n: 150 << 20), "limit", "limit is"),
    "table beyond the blob": (None, position(0, lambda n: n + 1000), "policy", "not inside the blob"),
    "bytes beyond the blob": (change("c", endOffset=10_000_000), None, "policy", "outside the blob's data"),
    "bytes in the table": (lambda toc: entry(toc, "c").update(endOffset=entry(toc, "c")["endOffset"] + 200), None,
                           "policy", "outside the blob's data"),
    "bytes overlap": (change("c", offset=1000), None, "policy", "overlap"),
    "bytes backwards": (swap, None, "policy", "overlap"),
    "end before the beginning": (change("a", endOffset=1), None, "policy", "overlap"),
    "chunks too short": (lambda toc: toc["entries"].remove(chunks(toc, "b")[-1]), None, "policy", "do not add up"),
    "chunks too long": (change("b", size=99_999), None, "policy", "do not add up"),
    "chunk missing": (lambda toc: toc["entries"].remove(chunks(toc, "b")[0]), None, "policy", "do not add up"),
    "chunk outside its file": (lambda toc: chunks(toc, "b")[1].update(offset=5), None, "policy", "outside its file"),
    "digest of another file": (change("a", digest=digest(b"c" * 1000)), None, "digest",
                               "not what the table of contents says"),
    "size of another file": (change("a", size=999), None, "size", "content"),
    "no digest": (lambda toc: entry(toc, "a").pop("digest"), None, "policy", "without digest"),
    "a name twice": (lambda toc: toc["entries"].insert(1, dict(entry(toc, "a"), size=0)), None, "policy", "twice"),
    "a name with ..": (change("a", name="../a"), None, "policy", "a name with .."),
    "a name with .. inside": (change("a", name="d/../a"), None, "policy", "a name with .."),
    "link target with ..": (change("a", type="hardlink", linkName="../x", size=0), None, "policy", ".."),
    "no name": (change("a", name=""), None, "policy", "empty name"),
    "unknown type": (change("a", type="door"), None, "policy", "door"),
    "owner -1": (change("a", uid=4294967295), None, "limit", "number up to"),
    "attribute of overlayfs": (change("a", xattrs={"trusted.overlay.opaque": "eQ=="}), None, "policy", "not allowed"),
    "device 0:0": (change("a", type="char", size=0), None, "policy", "0:0"),
    "another version": (lambda toc: toc.update(version=2), None, "format", "version"),
    "no JSON": (lambda toc: toc.update(raw=b"<html>"), None, "format", "JSON"),
    "text after the end": (lambda toc: toc.update(raw=b'{"version":1,"entries":[]} x'), None, "format", "after the end"),
    "a key twice": (lambda toc: toc.update(raw=b'{"version":1,"entries":[{"name":"a","name":"b"}]}'), None, "format",
                    "twice"),
    "cut": (lambda toc: toc.update(raw=b'{"version":1,"entries":['), None, "format", "too early"),
    "too deep": (lambda toc: toc.update(raw=b'{"x":' + b"[" * 50 + b"]" * 50 + b"}"), None, "format", "too deep"),
}


@pytest.fixture(name="refuser", scope="module")
def fixture_refuser(plain, certificates, tmp_path_factory):
    """One device that meets all the lies."""
    with Front(plain, certificates) as front, new_device(front, tmp_path_factory.mktemp("refuser")) as device:
        device.front = front
        yield device


@pytest.mark.parametrize("name", LIES)
def test_lie(name, refuser, tmp_path):
    lie, tell, cause, words = LIES[name]
    Push(tmp_path, refuser.front, [tar_of(LIAR)], Chunked(lie=lie, tell=tell).codec, "".join(c for c in name if c.isalnum()))
    failure = refusal(refuser)
    assert failure["cause"] == cause and words in failure["text"], failure["text"]
    assert "table of contents" in failure["text"] or cause in ("digest", "size", "policy"), failure["text"]


def test_no_lie(front, tmp_path):
    """What the lies are made from is installed."""
    push = Push(tmp_path, front, [tar_of(LIAR)], Chunked(lie=lambda toc: None, tell=lambda notes: None).codec)
    with new_device(front, tmp_path / "device") as device:
        update(device, push, "B")


def test_other_bytes_in_the_blob(front, tmp_path):
    """The registry sends other bytes than the table tells of: of any kind."""
    push = Push(tmp_path, front, [tar_of(LIAR)], Chunked().codec)
    layer = layer_of(push.layout, 0)
    table = int(layer["annotations"][NEW + "manifest-position"].split(":")[0])

    def fault(request):
        part = request.part()
        if layer["digest"] not in request.path or part is None or part.start >= table:
            return True
        status, body, fields = front.fetch(request)
        other = compress(b"x" * 1000)
        request.answer(status, other + body[len(other):], **fields)
        return None

    front.fault = fault
    with new_device(front, tmp_path / "device") as device:
        failure = refusal(device)
    assert failure["cause"] in ("digest", "format", "size"), failure


def test_damaged_table(front, small, tmp_path):
    """The table that is kept in the state directory is looked at before it is believed."""
    first = Push(tmp_path, front, [small], Chunked().codec, "1")
    with new_device(front, tmp_path / "device") as device:
        update(device, first, "B")
        (table,) = (tmp_path / "device/state/stage/tables").iterdir()
        data = bytearray(table.read_bytes())
        data[len(data) // 2] ^= 1
        table.write_bytes(data)
        second = Push(tmp_path, front, [small, tar_of({"x": b"y"})], Chunked().codec, "2")
        front.seen.clear()
        update(device, second, "A")
        assert blob_bytes(front, second.layout, 0) == toc_len(second.layout, 0)
        assert len(list((tmp_path / "device/state/stage/tables").iterdir())) == 2
