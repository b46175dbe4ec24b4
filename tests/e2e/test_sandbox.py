"""What pipeline/test_sandbox.py tries, with the system calls and the kernels of the emulated boards."""
import pathlib
import shlex
import signal
import subprocess
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/pipeline"))

# pylint: disable=wrong-import-position
import probe
from board import Board

PLACE = "/data/probe"
FILES = {"PROBE_FILE": f"{PLACE}/file", "PROBE_FOLDER": f"{PLACE}/new", "PROBE_ACTIVE": "/bin/busybox", "PROBE_DEVICE": "/dev/probe"}
# The active slot can't be written to on a board, sandbox or not.
TRIES = [(role, what) for role, what in probe.TRIES if what != "active"] + [("stage", "kill")]
SCRIPT = """
cd {place}
echo x >file; chmod 666 file; mkdir -p stage
try() {{
    role=$1; export PROBE=$2; shift 2
    for free in 1 0; do
        [ $free = 1 ] && export PROBE_FREE=1 || unset PROBE_FREE
        text=$(./slipway $role -c agent.conf "$@" 2>&1 >/dev/null </dev/null)
        echo "$role $PROBE $free $? $text" | tr '\\n' ' '; echo
        rmdir new 2>/dev/null; rm -f /dev/probe
    done
}}
"""


def program_for(name, folder):
    subprocess.run(["make", "-s", "image", f"BOARD={name}"], check=True, cwd=TOP, stdin=subprocess.DEVNULL)
    program = probe.make(folder, name)
    subprocess.run([f"{(TOP / 'out' / name / '.command').read_text().split()[0].removesuffix('gcc')}strip", program], check=True)
    return program.read_bytes()


@pytest.mark.parametrize("name", ["qemu-armv7", "qemu-arm64"])
def test_roles_cannot(name, tmp_path):
    conf = f"[trust]\npolicy = off\n[registry]\nimage = r/a\n[agent]\nstate_dir = {PLACE}\n"
    lines = [SCRIPT.format(place=PLACE), *(f"export {key}={value}" for key, value in FILES.items())]
    for role, what in TRIES:
        words = shlex.join(probe.ROLES[role][1:]).replace("-s A", "-s B")
        lines.append(f"try {role} {what} {words}")
    program = program_for(name, tmp_path)
    with Board(name, work=tmp_path / "board") as board:
        board.start()
        board.wait_boot()
        board.put(f"{PLACE}/slipway", program, "755")
        board.put(f"{PLACE}/agent.conf", conf.encode())
        said = board.ssh("sh 2>/dev/null", "\n".join(lines).encode(), timeout=60).decode().splitlines()
    assert len(said) == 2 * len(TRIES), said
    for line in said:
        role, what, free, code, *text = line.split(" ", 4)
        if free == "1":
            assert code == "0", f"the try itself does not work here: {line}"
        else:
            code = int(code) - 128 if code == str(128 + signal.SIGSYS) else int(code)
            assert code == signal.SIGSYS or probe.denied(code, " ".join(text)), line
