"""agentctl as a person and a script meet it: against a real agentd of the simulated board that follows nothing yet."""
import json
import os
import pathlib
import subprocess
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

PROGRAM = pathlib.Path(os.environ.get("OUT", "out/sim")).resolve() / "slipway"


def agentctl(*words, socket=None, **options):
    environment = dict(os.environ, SLIPWAY_SOCKET=str(socket)) if socket else None
    done = subprocess.run(["agentctl", *words], executable=PROGRAM, env=environment, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30, check=False, **options)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(name="agent", scope="module")
def fixture_agent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agent")
    for name in "slot-a", "slot-b":
        (folder / name).mkdir()
    conf = folder / "agent.conf"
    conf.write_text(f"[control]\nsocket = {folder}/s\n[agent]\nstate_dir = {folder}/state\n")
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", PROGRAM, "agentd", "-c", conf], stdout=log,
                                   stderr=log, stdin=subprocess.DEVNULL, env=dict(os.environ, SLIPWAY_SIM_DIR=folder))
    for _ in range(100):
        if agentctl("status", socket=folder / "s")[0] == 0:
            break
        time.sleep(0.1)
    yield folder / "s"
    process.terminate()
    process.wait(20)


@pytest.mark.parametrize("words, says", [
    ([], "usage: agentctl"),
    (["stauts"], "there is no verb 'stauts'; did you mean 'status'?"),
    (["xyzzy"], "there is no verb 'xyzzy'\n"),
    (["hold", "now"], "one verb at a time; left over: now"),
    (["status", "web", "now"], "one verb at a time; left over: now"),
    (["why", "a", "b", "c"], "left over: c"),
    (["why", "-f"], "-f does not go with why"),
    (["--socket"], "unknown option, or one without its value: --socket"),
    (["--baud", "9600", "status"], "--baud goes with --serial"),
    (["logs", "--since", "1w"], "--since wants a time, as in 90s, 10m, 2h, 1d: 1w"),
    (["logs", "--since=0"], "--since wants a time, as in 90s, 10m, 2h, 1d: 0"),
    (["status", "--since", "1m"], "--since does not go with status"),
    (["--serial", "/dev/null", "--baud", "fast", "status"], "--baud is no speed: fast"),
    (["--serial", "/dev/null", "--socket", "/s", "status"], "either --socket or --serial"),
    (["config"], "say `config show`, or `config check`"),
    (["config", "chekc"], "say `config show`, or `config check`"),
    (["--serial", "/dev/null", "config", "check"], "does not go with --serial"),
])
def test_usage(words, says):
    code, out, err = agentctl(*words)
    assert code == 2 and out == "" and says in err


def test_help_fits_a_terminal():
    code, out, _ = agentctl("help")
    assert code == 0 and max(map(len, out.splitlines())) < 80 and out.count("\n") < 30
    assert agentctl("status", "--help")[1] == out


def test_nobody_there(tmp_path):
    code, _, err = agentctl("--socket", str(tmp_path / "s"), "status")
    assert code == 3
    assert f"cannot reach the agent at {tmp_path}/s: No such file or directory" in err and "Is agentd running?" in err


@pytest.mark.parametrize("text, says", [
    ("[registry]\nimage = r.example.com/a:b\n[trust]\npolicy = off\n", None),
    ("[update]\npol_interval = 5\n", ':2: unknown key "pol_interval" in [update]; did you mean "poll_interval"?'),
    ("[updat]\n", ":1: unknown section [updat]; did you mean [update]?"),
    ("[update]\npoll_interval = soon\n", ':2: poll_interval must be 0 to 604800 seconds, as in 90, 90s, 5m, 2h, got "soon"'),
])
def test_config_check(tmp_path, text, says):
    path = tmp_path / "agent.conf"
    path.write_text(text)
    code, out, err = agentctl("config", "check", str(path))
    if says:
        assert (code, out) == (1, "") and err == f"agentctl: {path}{says}\n"
    else:
        assert (code, out, err) == (0, f"{path}: good; follows r.example.com/a:b, SIGNATURES OFF\n", "")


def test_config_check_of_secrets(tmp_path):
    path, secret = tmp_path / "agent.conf", tmp_path / "auth.json"
    path.write_text(f"[registry]\nimage = r.example.com/a:b\ncredentials = {secret}\n[trust]\npolicy = off\n")
    assert agentctl("config", "check", str(path))[2] == f"agentctl: credentials: {secret}: No such file or directory\n"
    secret.write_text("{}")
    secret.chmod(0o604)
    code, _, err = agentctl("config", "check", str(path))
    assert code == 1 and "others than its owner may use it (mode 0604); chmod 600" in err
    secret.chmod(0o600)
    assert agentctl("config", "check", str(path))[0] == 0


CONFIG = """# comment
[registry]
image = r.example.com/a:b   # which
proxy = http://name:secret@proxy.example.com:3128
[trust]
policy = off
[update]
 poll_interval=2h
[app]
env = TOKEN=secret "NOTE=a b"
args = --loud "a b"
"""


def values(text):
    """{section.key: (value, where from)} of what `config show` prints."""
    found, section = {}, None
    for line in text.splitlines():
        if line.startswith("["):
            section = line[1:-1]
        elif line.startswith("#") and line.endswith(" ="):
            found[f"{section}.{line[1:-2]}"] = ("", "default")
        elif line and not line.startswith("#"):
            key, _, rest = line.partition(" = ")
            value, _, origin = rest.rpartition("# ")
            found[f"{section}.{key}"] = (value.strip(), origin)
    return found


def test_config_show_of_a_file(tmp_path):
    path = tmp_path / "agent.conf"
    path.write_text(CONFIG)
    code, out, err = agentctl("config", "show", str(path))
    shown = values(out)
    assert (code, err) == (0, "") and "secret" not in out and len(shown) > 40
    assert shown["registry.image"] == ("r.example.com/a:b", "line 3")
    assert shown["registry.proxy"] == ("http://*@proxy.example.com:3128", "line 4")
    assert shown["update.poll_interval"] == ("2h", "line 8") and shown["update.tries"] == ("3", "default")
    assert shown["app.env"] == ("TOKEN=* NOTE=*", "line 10") and shown["app.args"] == ('--loud "a b"', "line 11")
    assert shown["slots.a"] == ("", "default")
    path.write_text(out)
    assert agentctl("config", "check", str(path))[0] == 0, "what is shown is a configuration itself"
    again = values(agentctl("config", "show", str(path))[1])
    assert {key: value for key, (value, _) in again.items()} == {key: value for key, (value, _) in shown.items()}
    path.write_text(CONFIG + "tries = 3\n")
    code, out, err = agentctl("config", "show", str(path))
    assert (code, out) == (1, "") and ":12: unknown key" in err


def test_config_show_of_the_agent(agent):
    conf = agent.parent / "agent.conf"
    text = conf.read_text()
    code, out, _ = agentctl("config", "show", socket=agent)
    shown = values(out)
    assert code == 0 and out.startswith(f"# {conf}\n[registry]\n")
    assert shown["control.socket"] == (str(agent), "line 2") and shown["trust.policy"] == ("required", "default")
    assert shown == values(agentctl("config", "show", str(conf))[1]), "the agent says the same as its file"
    chunks = [json.loads(line) for line in agentctl("--json", "config", "show", socket=agent)[1].splitlines()]
    assert sum(len(chunk["config"]) for chunk in chunks) == len(shown) and not chunks[0]["changed"]
    try:
        conf.write_text(text + "watchdog = 5m\n[update]\ntries = 1\n")
        assert "CHANGED since agentd read it" in agentctl("config", "show", socket=agent)[1].splitlines()[0]
        conf.write_text(text + "x = 1\n")
        code, _, err = agentctl("config", "show", socket=agent)
        assert code == 1 and 'unknown key "x"' in err
    finally:
        conf.write_text(text)


def test_hold_is_kept_and_refuses(agent):
    assert agentctl("hold", socket=agent)[0] == 0
    assert agentctl("hold", socket=agent)[0] == 0, "a second hold changes nothing"
    assert json.loads(agentctl("--json", "status", socket=agent)[1])["update"]["held"] is True
    assert "idle, HELD" in agentctl("status", socket=agent)[1]
    assert agentctl("release", socket=agent)[0] == 0
    assert json.loads(agentctl("--json", "status", socket=agent)[1])["update"]["held"] is False
    chunks = [json.loads(line) for line in agentctl("--json", "history", socket=agent)[1].splitlines()]
    assert [event["what"] for chunk in chunks for event in chunk["history"]] == ["held", "released"]


def test_metrics(agent):
    """As Prometheus's own client reads them; what they say is what status says."""
    code, text, _ = agentctl("metrics", socket=agent)
    status = json.loads(agentctl("--json", "status", socket=agent)[1])
    samples = {(s.name, s.labels.get("name")): s for family in text_string_to_metric_families(text) for s in family.samples}
    assert code == 0 and all(family.documentation and family.type != "unknown" for family in text_string_to_metric_families(text))
    labels = samples["slipway_info", None].labels
    assert (labels["device"], labels["slot"], labels["agent"]) == (status["device_id"], "A", status["agent_version"])
    assert samples["slipway_update_state", None].labels == {"state": "idle"} and samples["slipway_held", None].value == 0
    assert samples["slipway_role_memory_limit_bytes", "stage"].value == 1024 * status["roles"][2]["limit_kib"]
    assert samples["slipway_state_writes_total", None].value == status["flash"]["state_writes"]
    assert ("slipway_last_poll_timestamp_seconds", None) not in samples, "it never polled"
    assert ("slipway_app_memory_bytes", None) not in samples, "there is no app"


def test_refusals_are_told(agent):
    code, out, err = agentctl("confirm", socket=agent)
    assert (code, out, err) == (1, "", "agentctl: refused: there is no version on trial\n")
    code, out, _ = agentctl("--json", "confirm", socket=agent)
    assert code == 1 and json.loads(out)["code"] == "state"
    code, _, err = agentctl("update", socket=agent)
    assert code == 1 and "no image to follow" in err
    code, _, err = agentctl("rollback", socket=agent)
    assert code == 1 and "slot B holds no good version" in err


def test_follow_is_lines_of_json_for_a_program(agent):
    with subprocess.Popen(["agentctl", "status", "-f"], executable=PROGRAM, stdout=subprocess.PIPE, text=True,
                          env=dict(os.environ, SLIPWAY_SOCKET=str(agent))) as follow:
        lines = [json.loads(follow.stdout.readline()) for _ in range(2)]
        follow.terminate()
    assert lines[0]["schema"] == 1 and lines[1]["now_s"] >= lines[0]["now_s"]


def test_follow_redraws_a_terminal(agent):
    """`script` gives it a terminal; its output is what a person's terminal gets."""
    done = subprocess.run(["timeout", "3", "script", "-qfec", f"{PROGRAM.parent}/agentctl --socket {agent} status -f", "/dev/null"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=30, check=False)
    pages = done.stdout.decode().split("\x1b[H\x1b[J")[1:]
    assert len(pages) >= 2 and all("board" in page and "slot A *" in page for page in pages[:2])
