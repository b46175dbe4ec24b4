import pathlib
import sys
import tempfile

import pytest

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "e2e"), str(TESTS / "net")]

from device import SimDevice  # pylint: disable=wrong-import-position
from fence import Fence  # pylint: disable=wrong-import-position


@pytest.fixture(name="around", scope="session", autouse=True)
def fixture_around(tmp_path_factory):
    """The agents of this folder run behind a fence, with all folders of the tests passed through."""
    passed = tmp_path_factory.getbasetemp()
    tempfile.tempdir = str(passed)
    with Fence(passed) as fence:
        SimDevice.fence = fence.enter
        yield fence
        SimDevice.fence = ()


@pytest.fixture(name="fence", autouse=True)
def fixture_fence(around):
    """No case changes anything on the machine that runs the agent, whatever its registry sends."""
    before = around.changes()
    yield
    changed = [path for path in around.changes() if path not in before]
    assert not changed, "written outside of the device: " + " ".join(changed)
