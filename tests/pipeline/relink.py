"""Programs that are the agent but for one function: what a proof must catch, or what an attacker would run."""
import pathlib
import shlex
import subprocess

TOP = pathlib.Path(__file__).resolve().parents[2]


def relink(folder, source, symbol, code, original=None, board="sim"):
    """Link out/<board>'s objects anew into `folder`/slipway, with `code` (C) in the place of `symbol`, which is defined in
    `source`. With `original`, the replaced function goes on under that name."""
    out = TOP / "out" / board
    compile_command, _, link = (out / ".command").read_text().strip().partition(" / ")
    start, _, libraries = link.partition(" -Wl,--start-group")
    (folder / "new.c").write_text(code)
    replaced = (out / "obj" / source).with_suffix(".o")
    how = f"--redefine-sym={symbol}={original}" if original else f"--weaken-symbol={symbol}"
    subprocess.run([compile_command.split()[0].removesuffix("gcc") + "objcopy", how, replaced, folder / "old.o"], check=True)
    objects = [path for path in sorted((out / "obj").rglob("*.o"))
               if path != replaced and path.relative_to(out / "obj").parts[0] in ("agent", "hal", "boards")
               and (TOP / path.relative_to(out / "obj").with_suffix(".c")).exists()]
    program = folder / "slipway"
    subprocess.run([*shlex.split(compile_command), "-c", folder / "new.c", "-o", folder / "new.o"], check=True, cwd=TOP)
    subprocess.run([*shlex.split(start), "-o", program, folder / "new.o", folder / "old.o", *objects,
                    *shlex.split("-Wl,--start-group" + libraries)], check=True, cwd=TOP)
    return program
