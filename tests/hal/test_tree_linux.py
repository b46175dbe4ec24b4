"""The conformance test of tree slots (test_tree.c) on a filesystem of the real kernel, on a loop device."""
import os
import pathlib
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(name="device")
def fixture_device(tmp_path):
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(32 << 20)
    done = subprocess.run(["losetup", "--find", "--show", image], check=True, stdout=subprocess.PIPE, text=True)
    device = done.stdout.strip()
    yield device
    subprocess.run(["losetup", "--detach", device], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_ext4(device):
    subprocess.run(["mkfs.ext4", "-q", "-F", device], check=True)
    program = TOP / "out/sim-san/tests/hal/test_tree"
    done = subprocess.run([program], env=os.environ | {"SLIPWAY_TEST_TREE": device}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
