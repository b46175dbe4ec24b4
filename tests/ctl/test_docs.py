"""Man pages, shell completion and the example configuration: they name what the program has, and nothing else."""
import importlib.machinery
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from test_agentctl import PROGRAM, agentctl, values

TOP = pathlib.Path(__file__).resolve().parents[2]
PAGES = ["agentctl.1", "agentd.8", "agent.conf.5"]


def load(man=None):
    """toolchain/docs as a module, with the pages of another folder if one is given."""
    loader = importlib.machinery.SourceFileLoader("docs", str(TOP / "toolchain" / "docs"))
    docs = importlib.util.module_from_spec(importlib.util.spec_from_loader("docs", loader))
    loader.exec_module(docs)
    docs.MAN = man or docs.MAN
    return docs


def program_verbs():
    return set(re.findall(r"^  ([a-z]+) {2,}", agentctl("help")[1], re.M))


def program_options():
    return set(re.findall(r"--[a-z]+", agentctl("help")[1]))


def program_keys(tmp_path):
    path = tmp_path / "empty.conf"
    path.write_text("")
    return {key: value for key, (value, _) in values(agentctl("config", "show", str(path))[1]).items()}


def page_keys(docs):
    return {f"{section}.{key}": default or "" for section, key, _, default, _ in docs.keys()}


def test_verbs_and_options():
    docs = load()
    assert set(docs.verbs()) == program_verbs()
    named = {name for names, _ in docs.options() for name in names if name.startswith("--")}
    assert program_options() | {"--follow"} == named
    exits = [tag for section, tag, _ in docs.entries("agentctl.1") if section == "EXIT STATUS"]
    assert exits == list("012345")


def test_follow():
    """-f goes with those verbs that the page says it goes with."""
    for verb, (behind, _) in load().verbs().items():
        code, _, err = agentctl("--socket", "/nowhere", verb, "-f")
        assert ("[-f]" in behind) == ("-f does not go with" not in err), (verb, code)


def test_keys(tmp_path):
    assert page_keys(load()) == program_keys(tmp_path), "agent.conf.5, and what the program has"


@pytest.mark.parametrize("page, old, new", [
    ("agentctl.1", ".B confirm", ".B conform"),
    ("agentctl.1", ".TP\n.B rollback", ".PP\n.B rollback"),
    ("agent.conf.5", ".B tries ", ".B trys "),
    ("agent.conf.5", "default \\fB3\n", "default \\fB4\n"),
])
def test_known_bad(page, old, new, tmp_path):
    """A page that lacks something, or says it wrongly, is found out."""
    shutil.copytree(TOP / "agent" / "man", tmp_path / "man")
    text = (tmp_path / "man" / page).read_text()
    assert text.count(old) == 1
    (tmp_path / "man" / page).write_text(text.replace(old, new))
    docs = load(tmp_path / "man")
    assert set(docs.verbs()) != program_verbs() or page_keys(docs) != program_keys(tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_page_reads_well(page):
    done = subprocess.run(["groff", "-man", "-ww", "-Tascii", "-P-cbou", "-rLL=78n", str(TOP / "agent" / "man" / page)],
                          capture_output=True, text=True, check=True)
    assert done.stderr == "" and max(map(len, done.stdout.splitlines())) <= 80
    assert "NAME" in done.stdout and "SEE ALSO" in done.stdout and "\\f" not in done.stdout


def complete(tmp_path, *words):
    """What bash offers for the last word."""
    script = tmp_path / "agentctl"
    script.write_text(load().bash())
    line = " ".join(f"'{word}'" for word in words)
    done = subprocess.run(["bash", "--norc", "-euc", f"source {script}; COMP_WORDS=(agentctl {line}); COMP_CWORD={len(words)}; "
                           '_agentctl; printf "%s\\n" ${COMPREPLY[@]+"${COMPREPLY[@]}"}'],
                          capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stderr == ""
    return done.stdout.split()


def test_bash(tmp_path):
    assert set(complete(tmp_path, "")) == program_verbs() | program_options() | {"--follow"}
    assert complete(tmp_path, "hi") == ["history"]
    assert complete(tmp_path, "--socket", "/x", "sta") == ["status"]
    assert complete(tmp_path, "status", "") == ["-f"] and complete(tmp_path, "confirm", "") == []
    assert complete(tmp_path, "config", "") == ["show", "check"]
    (tmp_path / "board.conf").write_text("")
    assert complete(tmp_path, "config", "check", "bo") == ["board.conf"]
    assert complete(tmp_path, "update", "oci-") == ["oci-archive:"]
    assert complete(tmp_path, "--baud", "11") == ["115200"]


def test_zsh(tmp_path):
    """The real shell reads it, and is handed the verbs; its own completion system is left out."""
    script = tmp_path / "_agentctl"
    script.write_text(load().zsh())
    done = subprocess.run(["zsh", "-f", "-c", "_describe() { print -rl -- ${(P)2} }; _files() { }; "
                           "_arguments() { for a in $@; do case $a in 1:*) eval ${${a#*\\{}%\\}};; *) print -r -- $a; esac; done }; "
                           f"source {script}"], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert {line.partition(":")[0] for line in lines if not line.startswith("-")} >= program_verbs()
    assert {line.partition("[")[0] for line in lines if line.startswith("--")} == program_options() | {"--follow"}


def test_install(tmp_path):
    """What `make install` puts where; the program runs, and the example is a configuration with the defaults."""
    root = tmp_path / "root"
    subprocess.run(["make", "-s", "install", f"BOARD={PROGRAM.parent.name}", f"DESTDIR={root}", "PREFIX=/usr"], cwd=TOP,
                   stdout=subprocess.DEVNULL, check=True, env={k: v for k, v in os.environ.items() if k != "MAKEFLAGS"})
    found = {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}
    assert found == {"usr/sbin/agentd", "usr/bin/agentctl", "usr/lib/systemd/system/agentd.service",
                     "usr/share/man/man1/agentctl.1", "usr/share/man/man8/agentd.8", "usr/share/man/man5/agent.conf.5",
                     "usr/share/bash-completion/completions/agentctl", "usr/share/zsh/site-functions/_agentctl",
                     "usr/share/doc/slipway/agent.conf"}
    said = subprocess.run([root / "usr/bin/agentctl", "version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert said.startswith("agentctl ")
    assert "ExecStart=/usr/sbin/agentd\n" in (root / "usr/lib/systemd/system/agentd.service").read_text()
    example = root / "usr/share/doc/slipway/agent.conf"
    empty = program_keys(tmp_path)
    assert values(agentctl("config", "show", str(example))[1]) == {key: (value, "default") for key, value in empty.items()}
    defaults = {f"#{key.partition('.')[2]} = {value}" for key, value in empty.items() if value}
    lines = example.read_text().splitlines()
    assert defaults <= set(lines), "the defaults stand there, ready to be changed"
    example.write_text("\n".join(line[1:] if line in defaults else line for line in lines))
    assert agentctl("config", "check", str(example))[0] == 0
