"""Slots of kind disk on the simulated board: the file that the image's label dev.slipway.disk names goes raw onto the
inactive one, with the same checks as a tree. The whole agent, a docker-registry, filesystem images made by their tools.

The simulated board has no kernel to mount what was written, so the app's root is filled by hand.
"""
import random
import shutil
import subprocess

import pytest

from device import SimDevice, slot
from fence import spared
from layouts import CODECS, Layout
from tars import info, tar_of

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


def config(label="images/root.img"):
    labels = {"org.opencontainers.image.version": "1"} | ({"dev.slipway.disk": label} if label else {})
    return {"Entrypoint": ["/bin/busybox", "sleep", "1000"], "Labels": labels}


class Disks:
    """A device with two worn partitions."""

    def __init__(self, registry, folder, **environment):
        self.a, self.b = folder / "disk-a", folder / "disk-b"
        self.device = SimDevice(registry, REFERENCE, folder=folder, environment=environment,
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
    """stage's second operation on a disk is the sync: what it leaves on the medium loses a bit."""
    layers = [tar_of((info("images/root.img"), b"r" * 50000))]
    registry.upload(Layout(tmp_path / "layout", layers, config=config()).source, REFERENCE)
    disks = Disks(registry, tmp_path / "device", SLIPWAY_SIM_FLIP="2")
    cause, text = disks.failure()
    assert cause == "flash" and "content: want xxh64" in text
    assert disks.b.read_bytes()[:2] == b"sr", "the bit was lost indeed"
