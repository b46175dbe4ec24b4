"""An emulated board and the tag that it follows, from one version to another and back."""
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from board import TOP  # noqa: E402
from device import make_device  # noqa: E402
from images import Images, make_registry  # noqa: E402

REFERENCE = "fleet/web:stable"
VERSIONS = ("v1", "v2")


def make_image(family):
    """The factory's card, from what was just built."""
    subprocess.run(["make", "-s", "image", f"BOARD={family}"], check=True, cwd=TOP, stdin=subprocess.DEVNULL)


class Follower:
    def __init__(self, family, folder):
        self.family = family
        self.images = Images(family)
        self.registry = make_registry(folder / "registry")
        self.publish(VERSIONS[0])
        # no version here crashes, so a trial may be short
        self.device = make_device(family, self.registry, REFERENCE, folder=folder / "device",
                                  update={"poll_interval": 4, "stable": 4})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.device.stop()
        self.registry.stop()

    def publish(self, version):
        self.wanted = version
        self.images.push(version, self.registry, REFERENCE)

    def other(self):
        """The version that the tag does not name."""
        return VERSIONS[1 - VERSIONS.index(self.wanted)]

    def install(self):
        """Switch on a board from the factory, until it has what the tag names."""
        self.device.board.start()
        self.device.wait(lambda s: True, 60, "an answer")
        return self.device.wait_version(self.wanted)

    def switch_off(self):
        """With nothing lost that QEMU still holds."""
        self.device.board.qmp("quit")
        self.device.board.wait_off()
