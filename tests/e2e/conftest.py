import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))


def pytest_sessionstart(session):
    """The emulated board's card, made anew from what was just built."""
    top = pathlib.Path(__file__).resolve().parents[2]
    subprocess.run(["make", "-s", "image", "BOARD=qemu-armv7"], check=True, cwd=top, stdin=subprocess.DEVNULL)
