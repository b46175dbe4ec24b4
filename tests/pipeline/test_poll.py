"""What polling costs and how it behaves when it is not wanted: one HEAD, nothing written, patience. What a person can
order. And that an install may be killed anywhere."""
import contextlib
import hashlib
import random
import re
import subprocess
import threading
import time

from device import SimDevice, slot
from front import Image, tar_of, tree_of

TAG = "stable"
KILLS = 30
CUTS = 10
APP = r'''
#include <stdio.h>
#include <unistd.h>
int main(void)
{
    for (int i = 1; i <= 300; i++) {
        printf("line %d\n", i);
        fflush(stdout);
    }
    for (;;)
        pause();
}
'''


@contextlib.contextmanager
def new_device(front, repository, interval=0, **options):
    front.lift()
    with SimDevice(front, f"{repository}:{TAG}", update={"poll_interval": interval, "stable": 60}, **options) as device:
        device.start()
        device.wait(lambda status: True)
        yield device


def make_image(version, files=(), **more):
    own = {"etc/": None, "etc/version": version.encode(), "etc/name": "version"}
    return Image(version, [tar_of({**own, **dict(files)})], **more)


def push(front, repository, version, **more):
    return make_image(version, **more).put(front.registry, repository, TAG)


def trial(device, front, repository, version, **more):
    """Push, have it installed, and stop at its trial."""
    push(front, repository, version, **more)
    device.order("update")
    return device.wait(lambda s: s["update"]["state"] == "trial", 30, "the trial")


def install(device, front, repository, version, **more):
    trial(device, front, repository, version, **more)
    device.order("confirm")
    return device.wait_version(version, 10)


def wait_booted(device, name):
    return device.wait(lambda s: s["booted"] == name and s["update"]["state"] == "idle", 20, "the way back")


def wait_heads(front, count):
    """Wait until this many polls more have come. Returns all requests since."""
    front.seen.clear()
    deadline = time.monotonic() + 60
    while len(front.seen) < count:
        assert time.monotonic() < deadline, f"{len(front.seen)} requests in a minute, want {count}"
        time.sleep(0.05)
    return list(front.seen)


def kept(device):
    """All that a device keeps, but for its log."""
    return {name: seen for name, seen in tree_of(device.dir).items() if name not in (".", "agentd.log")}


# --- what it costs ---------------------------------------------------------------------------------------------------

def test_idle_poll_is_one_head_and_no_write(front):
    with new_device(front, "idle", interval=1) as device:
        install(device, front, "idle", "v1")
        wait_heads(front, 1)
        before, writes = kept(device), device.status()["flash"]
        start = time.monotonic()
        seen = wait_heads(front, 4)
        assert time.monotonic() - start > 2.5, "the interval is 1 s, give or take a tenth"
        assert [(r.method, r.path) for r in seen] == [("HEAD", f"/v2/idle/manifests/{TAG}")] * len(seen)
        assert device.status()["flash"] == writes
        assert kept(device) == before


def test_a_write_would_be_seen(front):
    """The known-bad for the test above: an order that is kept does write."""
    with new_device(front, "write") as device:
        before = kept(device)
        device.order("hold")
        assert kept(device) != before


# --- what is not tried again, and orders ------------------------------------------------------------------------------

def test_a_failed_version_waits_for_a_person(front):
    with new_device(front, "failed", interval=1) as device:
        first = install(device, front, "failed", "v1")
        trial(device, front, "failed", "v2")
        device.order("rollback")
        back = wait_booted(device, first["booted"])
        assert slot(back, "AB".replace(back["booted"], ""))["state"] == "bad"
        assert back["last_failure"]["text"] == "rolled back by hand"

        seen = wait_heads(front, 3)
        assert {r.method for r in seen} == {"HEAD"}, "it was fetched again"
        assert device.status()["booted"] == first["booted"]

        device.order("update")
        device.wait(lambda s: s["update"]["state"] == "trial", 20, "the second trial")
        device.order("confirm")
        device.wait_version("v2", 10)


def test_orders(front):
    with new_device(front, "orders") as device:
        code, text = device.agentctl_raw("confirm")
        assert code == 1 and "no version on trial" in text
        code, text = device.agentctl_raw("rollback")
        assert code == 1 and "no good version to go back to" in text
        install(device, front, "orders", "v1")
        second = install(device, front, "orders", "v2")
        device.order("rollback")
        back = wait_booted(device, "AB".replace(second["booted"], ""))
        assert slot(back, back["booted"])["version"] == "v1"
        assert device.agentctl_raw("confirm")[0] == 1, "there is no trial any more"


def test_app_and_its_log(front, tmp_path):
    (tmp_path / "app.c").write_text(APP)
    subprocess.run(["gcc", "-static", "-Os", "-o", tmp_path / "app", tmp_path / "app.c"], check=True)
    files = {"app": ((tmp_path / "app").read_bytes(), 0o755), "dev/": None, "proc/": None, "run/": None}
    with new_device(front, "app") as device:
        status = install(device, front, "app", "v1", files=files, Entrypoint=["/app"])
        assert status["app"]["state"] in ("up", "ready"), status["app"]
        lines = re.findall(r"line (\d+)$", device.agentctl("logs"), re.M)
        assert lines == [str(n) for n in range(1, 301)]


# --- patience --------------------------------------------------------------------------------------------------------

def refuse(request):
    request.answer(403)


def test_back_off_grows_and_ends(front):
    with new_device(front, "patience", interval=1) as device:
        install(device, front, "patience", "v1")
        front.fault = refuse
        waits = []
        for failures in range(1, 16):
            device.order("update")
            status = device.wait(lambda s: s["update"]["state"] == "idle", 20, "the end of the poll")
            waits.append(status["update"]["next_poll_in_s"])
            assert 0 <= waits[-1] <= 1 + min(2 ** (failures + 1), 3600)
        assert max(waits[:3]) <= 17 and max(waits[11:]) > 60, waits
        front.lift()
        device.order("update")
        status = device.wait(lambda s: s["update"]["state"] == "idle", 20, "the end of the poll")
        assert status["update"]["detail"] == "" and status["update"]["next_poll_in_s"] <= 1


def test_a_failed_install_is_not_fetched_at_each_poll(front):
    """Polls go on, so that a tag that moves is seen; the image that failed is fetched after a pause that doubles."""
    with new_device(front, "heavy", interval=1) as device:
        push(front, "heavy", "v1")
        front.fault = lambda request: "/blobs/" not in request.path or request.answer(200, b"spoiled")
        device.wait(lambda s: s["last_failure"], 30, "the first failure")
        before = len(front.seen)
        time.sleep(12)
        device.wait(lambda _: sum(r.method == "HEAD" for r in front.seen[before:]) > 5, 30, "six more polls")
        seen = front.seen[before:]
        assert sum("/blobs/" in r.path for r in seen) <= 5, seen
        device.wait(lambda s: "its install failed" in s["update"]["detail"], 20, "the reason why it waits")
        front.lift()
        push(front, "heavy", "v2")
        device.wait(lambda s: s["update"]["state"] == "trial", 30, "the trial of the next version")


def test_retry_after_is_obeyed(front):
    with new_device(front, "later") as device:
        push(front, "later", "v1")
        front.fault = lambda request: len(front.seen) > 1 or request.answer(429, Retry_After=3)
        device.order("update")
        device.wait(lambda s: s["update"]["state"] == "trial", 20, "the trial")
        assert front.seen[1].came_at - front.seen[0].came_at >= 3


def test_long_retry_after_is_obeyed_by_the_next_poll(front):
    """A registry that wants to be left alone for long is: nobody waits for it with a process."""
    with new_device(front, "muchlater", interval=1) as device:
        push(front, "muchlater", "v1")
        front.fault = lambda request: request.answer(503, Retry_After=5000)
        device.order("update")
        status = device.wait(lambda s: s["update"]["state"] == "idle", 20, "the end of the poll")
        assert 4990 <= status["update"]["next_poll_in_s"] <= 5000 * 1.1 + 1
        assert "503" in status["update"]["detail"] and "5000 s" in status["update"]["detail"]
        assert len(front.seen) == 1


# --- killed anywhere -------------------------------------------------------------------------------------------------

FILES = {f"bin/{n:03}": random.Random(n).randbytes(n * 700) for n in range(60)} | {
    f"bin/to-{n:03}": f"{n:03}" for n in range(60)}


def content(device, booted):
    """Types, modes and content of what is in a slot."""
    return {name: (seen[0], seen[6]) for name, seen in tree_of(device.slot(booted)).items() if name != "."}


def converge(device, version):
    """Drive a device that was just started until `version` is confirmed."""
    deadline = time.monotonic() + 60
    while True:
        status = device.wait(lambda s: s["update"]["state"] in ("idle", "trial"), 30, "rest")
        if status["update"]["state"] == "trial":
            device.agentctl_raw("confirm")
        elif slot(status, status["booted"]).get("version") == version:
            return status["booted"]
        else:
            device.agentctl_raw("update")
        assert time.monotonic() < deadline, status


def version_files(number):
    return FILES | {"bin/own": str(number).encode() * 1000, f"bin/only-{number}": b""}


def struck(device, front, number, strike):
    """Install version `number`, let strike() end the agent in the midst of it, start again, and see that it is well."""
    before = converge(device, f"v{number - 1}")
    old = content(device, before)
    push(front, "killed", f"v{number}", files=version_files(number))
    strike()
    with contextlib.suppress(FileNotFoundError):
        device.socket.unlink()
    device.environment.pop("SLIPWAY_SIM_CUT", None)
    device.start()
    status = device.wait(lambda s: True, 20)
    if status["booted"] == before:
        assert content(device, before) == old, "the slot in use was touched"
    booted = converge(device, f"v{number}")
    assert booted != before
    want = {name: data if isinstance(data, str) else hashlib.sha256(data).hexdigest()
            for name, data in version_files(number).items()}
    assert {name: seen[1] for name, seen in content(device, booted).items() if name.startswith("bin/")} == want


def other_state(status):
    """Of the slot that does not run."""
    return slot(status, "AB".replace(status["booted"], "")).get("state")


def stop_in_the_layer(front, request, gate):
    status, body, fields = front.fetch(request)
    if len(body) < 100_000:
        request.answer(status, body, **fields)
    else:
        request.halt(body, len(body) // 2, gate, status, **fields)


def test_killed_anywhere(front):
    """At moments spread at random over a whole install, and every third time for certain in the midst of a layer."""
    chance = random.Random("kills")
    with new_device(front, "killed") as device:
        start = time.monotonic()
        trial(device, front, "killed", "v0", files=version_files(0))
        length = time.monotonic() - start

        def strike_at_random():
            device.order("update")
            time.sleep(chance.random() * length)
            device.power_cut()

        def strike_in_the_layer():
            gate = threading.Event()
            front.fault = lambda request: "/blobs/" not in request.path or stop_in_the_layer(front, request, gate)
            device.order("update")
            device.wait(lambda s: other_state(s) == "writing", 20, "a slot that is being written")
            device.power_cut()
            gate.set()
            front.lift()

        for number in range(1, KILLS + 1):
            struck(device, front, number, strike_in_the_layer if number % 3 == 0 else strike_at_random)


def test_cut_at_operations(front):
    """At operations of the simulated device, spread over all that an install does."""
    with new_device(front, "killed") as device:
        device.power_cut()
        operations = device.dir / "operations"
        device.environment["SLIPWAY_SIM_COUNT"] = str(operations)
        device.start()
        for version in "first", "second", "v0":  # the third one finds most of itself in its slot, as those below do
            operations.write_text("")
            push(front, "killed", version, files=version_files(0))
            converge(device, version)
        device.environment.pop("SLIPWAY_SIM_COUNT")
        total = operations.read_text().count("tree.")  # almost all of them by one process
        cuts = 0

        def strike():
            nonlocal cuts
            device.power_cut()
            device.environment["SLIPWAY_SIM_CUT"] = str(1 + (number - 1) * total // CUTS)
            device.start()
            deadline = time.monotonic() + 30
            while device.process.poll() is None and (device.status() or {}).get("update", {}).get("state") != "trial":
                device.agentctl_raw("update")
                assert time.monotonic() < deadline
                time.sleep(0.05)
            cuts += device.process.poll() is not None
            device.power_cut()

        for number in range(1, CUTS + 1):
            struck(device, front, number, strike)
        assert cuts >= CUTS // 2, f"{cuts} of {CUTS} cuts happened"


# --- what flash says of itself ------------------------------------------------------------------------------------------

def test_wear_is_shown(front):
    with new_device(front, "wear") as device:
        assert device.status()["flash"]["wear"] is None and "eMMC" not in device.agentctl("status")
        (device.dir / "life_time").write_text("0x03 0x01\n")
        assert device.status()["flash"]["wear"] == {"kind": "emmc", "used_a_percent": 30, "used_b_percent": 10,
                                                    "spare": "normal"}
        assert "eMMC: 30 % used" in device.agentctl("status")
