"""No role can do what it need not (probe.py). Each try is made without the sandbox, too, where it works: so the test can fail.
On the emulated boards the same is tried by e2e/test_sandbox.py."""
import os
import subprocess

import pytest

import probe


@pytest.fixture(name="program", scope="module")
def fixture_program(tmp_path_factory):
    return probe.make(tmp_path_factory.mktemp("probe"))


def run(program, folder, role, what, **environment):
    """Start the role; it ends at the probe. Returns its code and what it said."""
    folder.chmod(0o755)
    conf, file = folder / "agent.conf", folder / "everybody-may-read-this"
    conf.write_text(f"[trust]\npolicy = off\n[registry]\nimage = r/a\n[agent]\nstate_dir = {folder}\n")
    file.write_text("x")
    file.chmod(0o666)
    for place in folder / "slot-a", folder / "slot-b", folder / "stage":
        place.mkdir(exist_ok=True)
    active = folder / "slot-b/file"
    active.write_text("x")
    environment |= {"PROBE": what, "PROBE_FILE": str(file), "PROBE_FOLDER": str(folder / "new"), "PROBE_ACTIVE": str(active),
                    "PROBE_DEVICE": str(folder / "stage/null"), "SLIPWAY_SIM_DIR": str(folder)}
    role, *words = probe.ROLES[role]
    done = subprocess.run([program, role, "-c", conf, *words], cwd=folder, env=os.environ | environment,
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=20,
                          check=False)
    return done.returncode, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="without root there is less to give up")
@pytest.mark.parametrize("role, what", probe.TRIES)
def test_role_cannot(role, what, program, tmp_path):
    code, text = run(program, tmp_path, role, what, PROBE_FREE="1")
    assert code == 0, f"the try itself does not work here: {text}"
    if what == "create":
        (tmp_path / "new").rmdir()
    if what == "device":
        (tmp_path / "stage/null").unlink()
    code, text = run(program, tmp_path, role, what)
    assert probe.denied(code, text), f"code {code}: {text}"
    assert not (tmp_path / "new").exists()
