"""How much is downloaded, how fast, and when: an update that may go no further waits, says until when, and goes on there.

The device's time of day is put on by what its file `clock` says; its zone is given by TZ.
"""
import contextlib
import json
import random
import time

import pytest

from chunked import Chunked
from device import SimDevice
from front import Front, tar_of
from layouts import Layout

TAG = "stable"
ZONE = "EAST-5"  # five hours before UTC
FILES = {f"etc/{n}": random.Random(n).randbytes(20_000) for n in range(30)}
DAY = 86400


@pytest.fixture(name="front")
def fixture_front(plain, certificates):
    """A new one for each test, which counts what it asked for."""
    with Front(plain, certificates) as front:
        yield front


class Clocked(SimDevice):
    """A device whose time of day a test sets."""

    def set(self, clock, day=0):
        """It is `clock` o'clock, so many days from now."""
        hours, minutes, seconds = map(int, clock.split(":"))
        local = int(time.time()) + 5 * 3600
        (self.dir / "clock").write_text(str(hours * 3600 + minutes * 60 + seconds - local % DAY + day * DAY))

    def unset(self):
        """It begins in 1970, as without a battery."""
        (self.dir / "clock").write_text(str(-int(time.time())))


@contextlib.contextmanager
def new_device(front, repository, clock="12:00:00", **update):
    update = {"poll_interval": 3600, "stable": 60} | update
    with Clocked(front, f"{repository}:{TAG}", environment={"TZ": ZONE}, update=update) as device:
        device.set(clock)
        yield device


def push(folder, front, repository, version="v1"):
    """Of files that each come alone, so that it shows what was fetched twice."""
    tar = tar_of({"etc": None, "etc/version": version.encode()} | FILES)
    layout = Layout(folder / version, [tar], Chunked().codec, {"Labels": {"org.opencontainers.image.version": version}})
    front.registry.upload(layout.source, f"{repository}:{TAG}")


def waiting(device, words, timeout=20):
    """Wait until it waits, and says so wherever a person may look. Returns the status."""
    status = device.wait(lambda s: s["update"]["detail"].startswith("waiting: ") and s["update"]["state"] == "idle", timeout)
    assert words in status["update"]["detail"]
    assert words in json.loads(device.agentctl("--json why"))["update"]["detail"]
    for verb in "status", "why":
        assert words in " ".join(device.agentctl(verb).split())
    assert not status["last_failure"]
    return status


def in_trial(device, timeout=30):
    return device.wait(lambda s: s["update"]["state"] == "trial" or s["last_failure"], timeout, "the trial")["update"]


def blobs(front):
    """Bytes of blobs that were asked for by ranges."""
    parts = [request.part() for request in front.seen if "/blobs/" in request.path]
    return sum(part.stop - part.start for part in parts if part)


def fetched(front):
    return [request for request in front.seen if "/blobs/" in request.path]


# --- hours -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("clock, open_in", [("06:00:00", 16 * 3600), ("12:00:00", 10 * 3600), ("21:59:00", 60), ("22:00:00", 0),
                                            ("00:10:00", 0), ("05:59:00", 0)])
def test_window(front, tmp_path, clock, open_in):
    """Over midnight, in the board's own zone. When they begin it comes by itself, and long before the next poll would."""
    push(tmp_path, front, "window")
    with new_device(front, "window", clock, download_window="22:00-06:00", poll_interval=100_000) as device:
        device.start()
        if not open_in:
            in_trial(device)
            return
        status = waiting(device, "not before 22:00 (download_window)")
        now = status["now_s"]
        assert open_in - 15 < status["update"]["waits_until_s"] - now <= open_in
        assert 0 <= now + status["update"]["next_poll_in_s"] - status["update"]["waits_until_s"] + 1 <= 602
        assert not fetched(front) and not status["slots"][1]["known"]


def test_window_begins(front, tmp_path):
    push(tmp_path, front, "begins")
    with new_device(front, "begins", "21:59:42", download_window="22:00-06:00", poll_interval=15) as device:
        device.start()
        waiting(device, "not before 22:00 (download_window)")
        in_trial(device, 45)


def test_plan_says_until_when(front, tmp_path):
    push(tmp_path, front, "plan")
    with new_device(front, "plan", download_window="22:00-06:00") as device:
        device.start()
        waiting(device, "not before 22:00")
        plan = json.loads(device.agentctl("--json plan"))
        assert "not before 22:00 (download_window)" in plan["waiting"] and plan["cost"]
        assert "not before 22:00" in waiting(device, "not before 22:00")["update"]["detail"]


def test_a_person_does_not_wait(front, tmp_path):
    """Neither for the hours nor for tomorrow; what came is counted."""
    push(tmp_path, front, "person")
    with new_device(front, "person", download_window="22:00-06:00", daily_budget="100K") as device:
        device.start()
        waiting(device, "not before 22:00")
        device.order("update")
        in_trial(device)
        assert device.status()["update"]["today_bytes"] > 600_000


def test_window_ends(front, tmp_path):
    """In the midst of the download: it goes on in the next ones, and fetches nothing twice."""
    push(tmp_path, front, "ends")
    with new_device(front, "ends", "05:59:47", download_window="22:00-06:00", rate_limit="32K") as device:
        device.start()
        status = waiting(device, "not before 22:00 (download_window)", 40)
        assert status["slots"][1]["state"] == "writing" and 50_000 < blobs(front)
        came = status["update"]["today_bytes"]
        assert 30_000 < came < 500_000
        device.power_cut()
        device.conf.write_text(device.conf.read_text().replace("32K", "64M"))
        front.seen.clear()
        device.set("22:00:05")
        device.start()
        in_trial(device)
        assert blobs(front) < 640_000 - came + 200_000, "what had come was fetched again"
        assert not device.status()["last_failure"]


def test_no_clock(front, tmp_path):
    push(tmp_path, front, "clock")
    with new_device(front, "clock", download_window="22:00-06:00") as device:
        device.unset()
        device.start()
        if time.clock_gettime(time.CLOCK_BOOTTIME) < DAY - 600:
            waiting(device, "the clock is not set, so the hour is not known (download_window)")
            device.set("23:00:00")
            device.order("plan")
            assert not json.loads(device.agentctl("--json plan"))["waiting"]
        else:
            in_trial(device)


# --- budget ----------------------------------------------------------------------------------------------------------

def test_budget(front, tmp_path):
    """Used up in the midst of the download: it goes on at midnight, after a restart, too, and fetches nothing twice."""
    push(tmp_path, front, "budget")
    with new_device(front, "budget", "23:50:00", daily_budget="300K", rate_limit="64K") as device:
        device.start()
        status = waiting(device, "MB were downloaded today, no more before tomorrow (daily_budget)")
        assert abs(status["update"]["waits_until_s"] - status["now_s"] - 600) < 60
        assert 300 * 1024 <= status["update"]["today_bytes"] < 300 * 1024 + 100_000
        asked = blobs(front)

        device.power_cut()
        device.start()
        again = waiting(device, "no more before tomorrow (daily_budget)")
        assert again["update"]["today_bytes"] >= 300 * 1024, "a restart is no new day"
        assert blobs(front) == asked

        device.power_cut()
        device.conf.write_text(device.conf.read_text().replace("300K", "700K"))
        device.set("00:00:00", day=1)
        device.start()
        in_trial(device)
        assert device.status()["update"]["today_bytes"] < 450_000, "what had come was fetched again"


def test_midnight(front, tmp_path):
    """The budget is renewed by itself."""
    push(tmp_path, front, "midnight")
    with new_device(front, "midnight", "23:59:42", daily_budget="500K", poll_interval=1) as device:
        device.start()
        waiting(device, "no more before tomorrow (daily_budget)")
        in_trial(device, 60)


def test_polls_are_counted_and_go_on(front, tmp_path):
    """A budget that polls alone use up stops no poll; and none of them is a write."""
    push(tmp_path, front, "polls")
    with new_device(front, "polls", daily_budget="64K", automatic="no", poll_interval=1) as device:
        device.start()
        device.wait(lambda s: s["update"]["today_bytes"] > 0, 20)
        before = device.status()
        device.wait(lambda s: s["update"]["today_bytes"] >= before["update"]["today_bytes"] + 2000, 40)
        assert {r.method for r in front.seen} == {"HEAD"}
        assert device.status()["flash"] == before["flash"]


def test_power_cuts_do_not_renew_the_budget(front, tmp_path):
    """Of what came before a cut, no more than an eighth of the budget is forgotten."""
    push(tmp_path, front, "cut")
    with new_device(front, "cut", daily_budget="800K", rate_limit="64K") as device:
        device.start()
        came = device.wait(lambda s: s["update"]["today_bytes"] > 300_000, 40)["update"]["today_bytes"]
        device.power_cut()
        front.fault = lambda request: request.answer(403)
        device.start()
        after = device.wait(lambda s: True)["update"]["today_bytes"]
        assert after >= came - 800 * 1024 / 8 - 64 * 1024


# --- rate ------------------------------------------------------------------------------------------------------------

def test_rate(front, tmp_path):
    """A person's update holds to it, too, and nothing takes it for a stall."""
    push(tmp_path, front, "rate")
    with new_device(front, "rate", rate_limit="128K") as device:
        device.start()
        start = time.monotonic()
        device.wait(lambda s: True)
        in_trial(device, 60)
        assert time.monotonic() - start > 600_000 / (128 * 1024) * 0.8


# --- memory ----------------------------------------------------------------------------------------------------------

def test_pressure(front, tmp_path):
    """A board that is short of memory is not given more to do; when it no longer is, the update comes by itself. Where the
    kernel does not count it, as in all tests above, nothing waits."""
    push(tmp_path, front, "pressure")
    with new_device(front, "pressure", poll_interval=3, max_pressure=30) as device:
        said = device.dir / "memory_pressure"
        said.write_text("some avg10=34.50 avg60=9.00 avg300=2.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n")
        device.start()
        waiting(device, "short of memory: 34 % of the time somebody waits for it, more than 30 (max_pressure)")
        assert not fetched(front)
        said.write_text(said.read_text().replace("34.50", "30.99"))
        in_trial(device)
