"""`make DEPS=system`: the agent linked with another's libraries, here those of Debian trixie, installs an image."""
import os
import pathlib
import re
import subprocess

import pytest

from device import SimDevice
from front import Image, tar_of
from images import TOP

HERE = pathlib.Path(__file__).parent
OUT = "out/sim-system"


@pytest.fixture(name="program", scope="module")
def fixture_program():
    """Larger ceilings: OpenSSL and glibc take more than what the defaults were chosen for."""
    root = subprocess.run([HERE / "sysroot"], check=True, stdout=subprocess.PIPE, text=True, timeout=600).stdout.strip()
    libraries = f"{root}/usr/lib/x86_64-linux-gnu"
    folder = TOP / OUT
    folder.mkdir(parents=True, exist_ok=True)
    text = re.sub(r"^(CONFIG_MEM_\w+_KB)=(\d+)$", lambda m: f"{m[1]}={int(m[2]) + 8192}",
                  (TOP / "out/sim/.config").read_text(), flags=re.M)
    if not (folder / ".config").exists() or (folder / ".config").read_text() != text:
        (folder / ".config").write_text(text)
    subprocess.run(["make", "-s", "-j2", "BOARD=sim", "DEPS=system", f"OUT={OUT}", f"CC=gcc --sysroot={root}",
                    f"LDFLAGS=-Wl,-rpath,{libraries},--disable-new-dtags,--dynamic-linker={root}/lib64/ld-linux-x86-64.so.2",
                    f"{OUT}/slipway"], cwd=TOP, check=True, stdin=subprocess.DEVNULL, timeout=600,
                   env=dict(os.environ, PKG_CONFIG_SYSROOT_DIR=root, PKG_CONFIG_LIBDIR=f"{libraries}/pkgconfig"))
    return folder / "slipway"


def zstd(tar):
    return subprocess.run(["zstd", "-cq"], input=tar, stdout=subprocess.PIPE, check=True).stdout


@pytest.mark.parametrize("how", [{}, {"compress": zstd, "suffix": "+zstd"}], ids=["gzip", "zstd"])
def test_system_libraries(front, program, how):
    linked = subprocess.run(["readelf", "--dynamic", program], check=True, stdout=subprocess.PIPE, text=True).stdout
    needed = set(re.findall(r"NEEDED.*\[lib(\w+)", linked))
    assert {"curl", "mbedcrypto", "archive", "cjson", "lz4", "zstd", "z", "c"} <= needed
    front.lift()
    Image("v1", [tar_of({"bin/": None, "bin/sh": bytes(300_000)})], **how).put(front.registry, "fleet/system", "stable")
    with SimDevice(front, "fleet/system:stable", program=program, update={"poll_interval": 0, "stable": 60}) as device:
        device.start()
        device.wait(lambda status: True)
        device.order("update")
        status = device.wait(lambda s: s["update"]["state"] == "trial" or s["last_failure"], 60, "the trial")
        assert status["last_failure"] is None
        assert (device.slot(status["booted"]) / "bin/sh").read_bytes() == bytes(300_000)
