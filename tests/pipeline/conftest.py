import pathlib
import sys
import tempfile

import pytest

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "e2e"), str(TESTS / "net")]

# pylint: disable=wrong-import-position
from certificates import make_certificates
from device import SimDevice
from fence import Fence
from front import Front
from images import make_registry


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


@pytest.fixture(name="registry", scope="module")
def fixture_registry(tmp_path_factory):
    with make_registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture(name="plain", scope="module")
def fixture_plain(tmp_path_factory):
    """A registry without TLS, to stand behind a front."""
    with make_registry(tmp_path_factory.mktemp("plain"), tls=False) as registry:
        yield registry


@pytest.fixture(name="certificates", scope="module")
def fixture_certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


@pytest.fixture(name="front", scope="module")
def fixture_front(plain, certificates):
    with Front(plain, certificates) as front:
        yield front
