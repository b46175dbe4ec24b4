"""The short forms of `make soak` on one emulated board: its power is cut ten times, and then its writes are replayed."""
import pathlib
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from follower import Follower, make_image  # noqa: E402
from replay import replay  # noqa: E402
from soak import soak  # noqa: E402

BOARD = "qemu-armv7"


@pytest.fixture(scope="module", name="follower")
def fixture_follower(tmp_path_factory):
    make_image(BOARD)
    with Follower(BOARD, tmp_path_factory.mktemp("cuts")) as follower:
        yield follower


def test_ten_cuts(follower):
    seed = int(time.time())
    print(f"tests/cuts/soak.py --cuts 10 --seed {seed}")
    assert soak(follower, 10, seed).total() == 10
    follower.switch_off()


def test_states_of_the_card(follower, tmp_path):
    states, checked, started, faults = replay(follower, tmp_path / "record", starts=1)
    print(f"{states} states, {checked} looked at, {started} started")
    assert states > 1000 and started == 1
    assert not faults, faults[:5]


def test_forgotten_fsyncs_are_found(follower, tmp_path):
    *_, faults = replay(follower, tmp_path / "record", known_bad=True)
    assert any("knows of no trial" in fault for fault in faults), faults
