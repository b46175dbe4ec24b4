"""The classic layered web app, unchanged, on the armv7 board: Debian, runtime dependencies, a runtime of more than 100 MB, the
app; ENV, WORKDIR and ENTRYPOINT as for Docker, and curl from outside. Takes 4 minutes, hence only with SLIPWAY_BIG=1; the story of
the armv7 board (test_story.py) asks an app with a smaller runtime in the same way."""
import json
import os
import subprocess
import time

import pytest

from board import PATIENCE
from device import make_device
from images import Images, make_registry

REFERENCE = "fleet/shop:stable"
BOARD = "qemu-armv7"
RUNTIME_MIN = 100 * 10**6


def answer(port):
    return subprocess.run(["curl", "-sS", "-m", "20", f"http://127.0.0.1:{port}/"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, check=False).stdout


def unpacked(image):
    """Bytes of content in the layers of the runtime and below the app."""
    return sum(os.path.getsize(image.dir / f"{name}.tar") for name in ("deps", "node"))


@pytest.mark.skipif(not os.environ.get("SLIPWAY_BIG"), reason="SLIPWAY_BIG is not set")
def test_web_app(tmp_path):
    images = Images(BOARD)
    with make_registry(tmp_path / "registry") as registry:
        digest = images.push("webapp", registry, REFERENCE)
        assert unpacked(images) > RUNTIME_MIN
        config = json.loads(registry_config(registry, digest))
        assert config["config"]["Env"][-1] == "APP_URLS=http://+:80" and config["config"]["WorkingDir"] == "/app"
        began = time.monotonic()
        with make_device(BOARD, registry, REFERENCE, app={"network": "private", "ports": "8080:80"}) as device:
            device.start()
            status = device.wait_version("webapp", 300)
            print("installed and confirmed in %.0f s" % (time.monotonic() - began))
            assert status["app"]["weaker"] == "" and status["app"]["restarts"] == 0
            port = device.board.publish(8080)
            deadline = time.monotonic() + 60 * PATIENCE
            while answer(port) != "webapp\n":
                assert time.monotonic() < deadline, device.agentctl("logs")
                time.sleep(0.5)
            print(device.agentctl("status"))


def registry_config(registry, digest):
    """The image's config, by way of skopeo."""
    repository = REFERENCE.partition(":")[0]
    return subprocess.run(["skopeo", "inspect", "--config", "--cert-dir", registry.dir / "trust",
                           f"docker://{registry.host}/{repository}@{digest}"], check=True, stdout=subprocess.PIPE,
                          text=True).stdout
