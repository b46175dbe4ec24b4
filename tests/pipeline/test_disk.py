"""Slots of kind disk on the simulated board: the file that the image's label dev.slipway.disk names goes raw onto the
inactive one, with the same checks as a tree. The whole agent, a docker-registry, filesystem images made by their tools.

The simulated board has no kernel to mount what was written, so the app's root is filled by hand.
"""
import contextlib
import json
import random
import shutil
import subprocess

import pytest

from chunked import Chunked
from device import SimDevice, slot
from fence import spared
from front import Front
from layouts import CODECS, Layout
from tars import info, tar_of
from test_chunked import LIES, blob_bytes, toc_len

REFERENCE = "fleet/disk:stable"
PARTITION = 8 << 20
WORN = b"\xa5" * PARTITION  # what a partition holds before
FILESYSTEMS = {
    "squashfs": ["mksquashfs", "{tree}", "{image}", "-all-root", "-quiet", "-no-progress"],
    "erofs": ["mkfs.erofs", "{image}", "{tree}"],
    "ext4": ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", "{tree}", "{image}", "7M"],
}


def filesystem(kind, folder):
    """A filesystem image of about 4 MB."""
    tree, image = folder / "tree", folder / "image"
    (tree / "usr" / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "usr" / "bin")
    (tree / "data").write_bytes(random.Random(kind).randbytes(3 << 20))
    subprocess.run([word.format(tree=tree, image=image) for word in FILESYSTEMS[kind]], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return image.read_bytes()


def config(label="images/root.img", version="1"):
    labels = {"org.opencontainers.image.version": version} | ({"dev.slipway.disk": label} if label else {})
    return {"Entrypoint": ["/bin/busybox", "sleep", "1000"], "Labels": labels}


class Disks:
    """A device with two worn partitions."""

    def __init__(self, registry, folder, update=None, **environment):
        self.a, self.b = folder / "disk-a", folder / "disk-b"
        self.device = SimDevice(registry, REFERENCE, folder=folder, environment=environment, update=update or {},
                                slots={"kind": "disk", "a": self.a, "b": self.b})
        for path in self.a, self.b:
            path.write_bytes(WORN)
        root = self.device.slot("B")
        for name in "bin", "proc", "sys", "dev", "tmp", "run":
            (root / name).mkdir()
        shutil.copy("/bin/busybox", root / "bin")

    def install(self):
        with self.device as device, spared(device, "disk-b", "bootenv", "booted"):
            device.start()
            status = device.wait_installed()
        assert self.a.read_bytes() == WORN, "the active slot is never written"
        return status

    def refusal(self):
        """The cause of a failure that left the slot as it was."""
        failure = self.failure()
        assert self.b.read_bytes() == WORN, "refused before the first write"
        return failure

    def failure(self):
        status = self.install()
        assert status["booted"] == "A" and slot(status, "B")["state"] != "active"
        return status["last_failure"]["cause"], status["last_failure"]["text"]


@pytest.mark.parametrize("kind, codec", [("squashfs", "gzip"), ("erofs", "zstd"), ("ext4", "lz4"), ("ext4", "tar")])
def test_written_raw(kind, codec, registry, tmp_path):
    image = filesystem(kind, tmp_path)
    layers = [tar_of(info("images/root.img", size=0), (info("images/old"), b"o" * 1000)),
              tar_of((info("etc/before"), b"b" * 5000), (info("./images/root.img"), image), (info("z"), b"behind")),
              tar_of((info("etc/unused"), b"u" * 100))]
    registry.upload(Layout(tmp_path / "layout", layers, CODECS[codec], config("/images/root.img")).source, REFERENCE)
    disks = Disks(registry, tmp_path / "device")
    with disks.device as device:
        device.start()
        device.wait_installed()
        device.wait_version("1", 30)
    assert disks.b.read_bytes() == image + WORN[len(image):], "the file, and nothing behind it"
    assert disks.a.read_bytes() == WORN


def test_one_byte_too_large(registry, tmp_path):
    layers = [tar_of((info("images/root.img"), bytes(PARTITION + 1)))]
    registry.upload(Layout(tmp_path / "layout", layers, config=config()).source, REFERENCE)
    cause, text = Disks(registry, tmp_path / "device").refusal()
    assert cause == "space" and f"need {PARTITION + 1} bytes, have {PARTITION}" in text


def test_just_fits(registry, tmp_path):
    image = random.Random(1).randbytes(PARTITION)
    registry.upload(Layout(tmp_path / "layout", [tar_of((info("images/root.img"), image))], config=config()).source,
                    REFERENCE)
    disks = Disks(registry, tmp_path / "device")
    assert disks.install()["booted"] == "B" and disks.b.read_bytes() == image


@pytest.mark.parametrize("label, words", [
    ("images/other.img", "no layer has the file images/other.img"), ("../images/root.img", "want the path of a file"),
    ("/", "want the path of a file"), ("images", "images is not a regular file"),
    ("images/link", "images/link is not a regular file"), ("images/hard", "images/hard is not a regular file"),
    ("images/gone.img", "images/gone.img is not a regular file"), ("images/root.img/", "want the path of a file"),
    ("images/empty", "no layer has the file images/empty"), (None, "no label dev.slipway.disk")])
def test_wrong_label(label, words, registry, tmp_path):
    layers = [tar_of((info("images/root.img"), b"r" * 5000), (info("images/gone.img"), b"g" * 5000)),
              tar_of(info("images/", b"5"), info("images/link", b"2", linkname="root.img"), info("images/empty"),
                     info("images/f"), info("images/hard", b"1", linkname="images/f"), info("images/.wh.gone.img"))]
    registry.upload(Layout(tmp_path / "layout", layers, config=config(label)).source, REFERENCE)
    assert words in Disks(registry, tmp_path / "device").refusal()[1]


def test_image_for_a_disk_on_a_device_with_trees(registry, tmp_path):
    layers = [tar_of((info("images/root.img"), b"r" * 5000))]
    registry.upload(Layout(tmp_path / "layout", layers, config=config()).source, REFERENCE)
    with SimDevice(registry, REFERENCE, folder=tmp_path / "device") as device:
        device.start()
        failure = device.wait_installed()["last_failure"]
    assert failure["cause"] == "policy" and "slots are of kind tree" in failure["text"]


def test_wrong_diff_id(registry, tmp_path):
    """Known when all is written: the slot is not armed."""
    layers = [tar_of((info("images/root.img"), b"r" * 50000))]
    layout = Layout(tmp_path / "layout", layers, config=config(), diff_ids=["sha256:" + "0" * 64])
    registry.upload(layout.source, REFERENCE)
    cause, text = Disks(registry, tmp_path / "device").failure()
    assert cause == "digest" and "diff_id mismatch" in text


def test_read_back_sees_one_bit(registry, tmp_path):
    """stage's second operation on its disk is the sync: what it leaves on the medium loses a bit."""
    layers = [tar_of((info("images/root.img"), b"r" * 50000))]
    registry.upload(Layout(tmp_path / "layout", layers, config=config()).source, REFERENCE)
    disks = Disks(registry, tmp_path / "device", SLIPWAY_SIM_FLIP="2")
    cause, text = disks.failure()
    assert cause == "flash" and "content: want xxh64" in text
    assert disks.b.read_bytes()[:2] == b"sr", "the bit was lost indeed"


# --- by a table of contents ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def followed(plain, certificates, folder, **options):
    """A running device with two worn partitions, and the front that counts what it asks for."""
    with Front(plain, certificates) as front:
        disks = Disks(front, folder, update={"poll_interval": 0, "stable": 1} | options)
        with disks.device as device:
            device.start()
            device.wait(lambda status: True)
            yield front, disks, device


def push(folder, front, image, version, codec=None, label="images/root.img"):
    tars = [tar_of((info("images/root.img"), image), (info("images/z"), b"z" * 70000)), tar_of((info("etc/upper"), b"u"))]
    labels = {key: value for key, value in config(label, version).items() if key == "Labels"}  # no app: it has no root
    layout = Layout(folder / f"layout-{version}", tars, codec or Chunked().codec, labels)
    front.registry.upload(layout.source, REFERENCE)
    front.seen.clear()
    return layout


def update(device, version):
    before = device.status()["flash"]["slot_bytes_written"]
    device.agentctl("update")
    device.wait(lambda s: s["last_failure"] or slot(s, s["booted"]).get("version") == version, 60)
    status = device.wait_version(version, 30)
    assert not status["last_failure"], status["last_failure"]
    return status["flash"]["slot_bytes_written"] - before


def planned(device):
    return json.loads(device.agentctl("--json plan"))["cost"]


def changed(image):
    """As a filesystem image with one package anew: some bytes differ, and what is behind the package moves, by a chunk."""
    rng = random.Random("changed")
    return image[:1_000_000] + rng.randbytes(10_240 + 32_768) + image[1_010_240:3_000_000] + rng.randbytes(100) + image[3_000_100:]


def test_only_chunks_that_changed(plain, certificates, tmp_path):
    first = filesystem("ext4", tmp_path)[:7 << 20]
    versions = [first, changed(first), changed(first), first]
    with followed(plain, certificates, tmp_path / "device") as (front, disks, device):
        for number, (image, partition) in enumerate(zip(versions, (disks.b, disks.a) * 2)):
            layout = push(tmp_path, front, image, f"v{number}")
            said = planned(device)
            front.seen.clear()
            written = update(device, f"v{number}")
            assert partition.read_bytes()[:len(image)] == image
            fetched = sum(blob_bytes(front, layout, layer) for layer in (0, 1))
            assert abs(said["download"]["bytes"] - fetched) <= 8192 * said["download"]["requests"]
            assert written <= said["write_bytes"] <= written + 4 * 32768
            if number == 0:
                assert fetched < len(image), "holes are not fetched"
            if number == 1:
                assert fetched < 2 * toc_len(layout, 0) + 200_000
            if number == 2:
                assert fetched == 0, "the tables are kept, and all of it is in the other slot"
            if number == 3:
                assert fetched < 2 * toc_len(layout, 0) + 200_000


def test_cut_and_taken_up(plain, certificates, tmp_path):
    """No record is left of a slot that was half written: its content is."""
    image = random.Random("cut").randbytes(4 << 20)
    with followed(plain, certificates, tmp_path / "device") as (front, disks, device):
        layout = push(tmp_path, front, image, "v0")
        disks.b.write_bytes(image[:3 << 20] + WORN[3 << 20:])
        update(device, "v0")
        assert blob_bytes(front, layout, 0) < toc_len(layout, 0) + (1 << 20) + 50_000
        assert disks.b.read_bytes()[:len(image)] == image


def test_changed_by_hand(plain, certificates, tmp_path):
    """A record that is no longer true is found out when the slot is read back, and the next try does without it."""
    image = random.Random("hand").randbytes(2 << 20)
    with followed(plain, certificates, tmp_path / "device") as (front, disks, device):
        for version in "v0", "v1":  # both slots
            push(tmp_path, front, image, version)
            update(device, version)
        data = bytearray(disks.b.read_bytes())
        data[1_000_000] ^= 1
        disks.b.write_bytes(data)
        push(tmp_path, front, image, "v2")
        device.agentctl("update")
        failure = device.wait(lambda s: s["last_failure"], 30)["last_failure"]
        assert failure["cause"] == "flash" and "not what the table of contents says" in failure["text"]
        device.wait(lambda s: s["update"]["state"] == "idle", 30)
        device.agentctl("update")
        device.wait_version("v2", 60)
        assert disks.b.read_bytes()[:len(image)] == image


def test_full_verification(plain, certificates, tmp_path):
    image = random.Random("full").randbytes(1 << 20)
    with followed(plain, certificates, tmp_path / "device", full_verification="yes") as (front, disks, device):
        push(tmp_path, front, image, "v0")
        update(device, "v0")
        assert disks.b.read_bytes()[:len(image)] == image
        assert not any(request.part() for request in front.seen)


@pytest.mark.parametrize("name", ["wrong checksum", "bytes beyond the blob", "bytes overlap", "chunks too short",
                                  "chunk outside its file", "digest of another file", "no JSON", "another version"])
def test_lies(name, plain, certificates, tmp_path):
    """Also where the lie is about another file than the disk's, but for one about bytes that would never be fetched."""
    lie, tell, cause, words = LIES[name]
    label = {"digest of another file": "a", "bytes beyond the blob": "c"}.get(name, "b")
    liar = {"a": b"a" * 1000, "b": random.Random("b").randbytes(100_000), "c": b"c" * 1000}
    with followed(plain, certificates, tmp_path / "device") as (front, disks, device):
        layout = Layout(tmp_path / "layout", [tar_of(*[(info(path), data) for path, data in liar.items()])],
                        Chunked(lie=lie, tell=tell).codec, config(label))
        front.registry.upload(layout.source, REFERENCE)
        device.agentctl("update")
        failure = device.wait(lambda s: s["last_failure"], 30)["last_failure"]
        assert failure["cause"] == cause and words in failure["text"]
        assert disks.a.read_bytes() == WORN


@pytest.mark.parametrize("label, words", [("images", "no layer has the file"), ("images/gone", "no layer has the file"),
                                          ("images/link", "is not a regular file")])
def test_wrong_label_in_a_table(label, words, plain, certificates, tmp_path):
    with followed(plain, certificates, tmp_path / "device") as (front, disks, device):
        tars = [tar_of((info("images/root.img"), b"r" * 5000), info("images/link", b"2", linkname="root.img"))]
        front.registry.upload(Layout(tmp_path / "layout", tars, Chunked().codec, config(label)).source, REFERENCE)
        device.agentctl("update")
        assert words in device.wait(lambda s: s["last_failure"], 30)["last_failure"]["text"]
        assert disks.b.read_bytes() == WORN
