"""Secrets stay where they are: no output of the agent has one, whatever goes well or wrong, and no argv. A whole update
with each kind, against a registry that asks for all of them; then everything that the agent said, kept or was called
with is searched."""
import base64
import contextlib
import json
import pathlib
import ssl
import threading

import pytest

from certificates import make_certificates
from device import SimDevice
from front import Front, Image, tar_of
from images import make_registry
from relink import relink

REFERENCE = "fleet/web:stable"
PASSWORD, TOKEN = "correct-horse-battery", "eyJ0b2tlbg.staple"
BASIC = base64.b64encode(f"board:{PASSWORD}".encode()).decode()


@pytest.fixture(name="front")
def fixture_front(tmp_path):
    """A registry that wants a client's certificate, and a token that a password buys or the password itself."""
    make_certificates(tmp_path)
    with make_registry(tmp_path / "registry", tls=False) as registry, Front(registry, tmp_path) as front:
        front.context.verify_mode = ssl.CERT_REQUIRED
        front.context.load_verify_locations(front.ca)
        Image("v1", [tar_of({"etc/": None, "etc/version": b"v1"})]).put(registry, "fleet/web", "stable")
        yield front


def bearer(front, answer=None):
    def fault(request):
        given = request.headers.get("Authorization")
        if request.path.startswith("/token"):
            good = given == f"Basic {BASIC}"
            return request.answer(200 if good else 401, answer or json.dumps({"token": TOKEN}).encode() if good else b"")
        if given == f"Bearer {TOKEN}":
            return True
        return request.answer(401, WWW_Authenticate=f'Bearer realm="https://{front.host}/token",service="x"')
    return fault


def basic(_):
    return lambda request: request.headers.get("Authorization") == f"Basic {BASIC}" or request.answer(
        401, WWW_Authenticate='Basic realm="x"')


def broken_token(front):
    """The token service answers with something that is no JSON, in the middle of which the token stands."""
    return bearer(front, b'{"token": ' + TOKEN.encode() + b"}")


def refusing(_):
    return lambda request: request.answer(403, b"no")


class Watch(threading.Thread):
    """Looks at argv and environment of all processes below one, again and again."""

    def __init__(self, process):
        super().__init__(daemon=True)
        self.process, self.ended, self.seen = process, threading.Event(), set()

    def below(self, pid):
        yield pid
        for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from self.below(child)

    def run(self):
        while not self.ended.wait(0.002):
            with contextlib.suppress(OSError):
                for pid in self.below(self.process.pid):
                    self.seen.add(pathlib.Path(f"/proc/{pid}/cmdline").read_bytes())
                    self.seen.add(pathlib.Path(f"/proc/{pid}/environ").read_bytes())


def everything_said(front, folder, works, program=None):
    """Have a device update, and return all that it said, kept or was called with: {where: bytes}."""
    auth, key = folder / "auth.json", folder / "good.key"
    auth.write_text(json.dumps({"auths": {front.host: {"username": "board", "password": PASSWORD}}}))
    auth.chmod(0o600)
    sections = {"credentials": auth, "client_cert": folder / "good.crt", "client_key": key}
    said = {}
    with SimDevice(front, REFERENCE, folder=folder / "device", program=program, registry=sections) as device:
        # by way of a pipe: fetch and decode can't write to a file
        device.fence = [*device.fence, "bash", "-c", 'exec "$@" > >(exec cat) 2>&1', "log"]
        device.start()
        watch = Watch(device.process)
        watch.start()
        if works:
            device.wait_installed()
        else:
            device.wait(lambda s: True, what="an answer")
            device.order("update")
            device.wait(lambda s: "poll failed" in s["update"]["detail"], 20, "a poll that fails")
        for words in ("status", "--json status", "why", "history", "logs", "apps", f"config check {device.conf}"):
            said[f"agentctl {words}"] = device.agentctl(words).encode()
        watch.ended.set()
        watch.join()
        assert not works or any(b"\0stage\0" in seen for seen in watch.seen), "no role was caught at work"
        said["argv, environment"] = b"\n".join(watch.seen)
    for path in [folder / "device" / "agentd.log", *(folder / "device" / "state").rglob("*")]:
        if path.is_file():
            said[path.name] = path.read_bytes()
    return said


def leaks(said, folder):
    key = [line for line in (folder / "good.key").read_text().splitlines() if not line.startswith("-")]
    secrets = [PASSWORD, BASIC, TOKEN, *key]
    return [f"{secret} in {where}" for where, text in said.items() for secret in secrets if secret.encode() in text]


@pytest.mark.parametrize("kind, works", [(bearer, True), (basic, True), (broken_token, False), (refusing, False)])
def test_nothing_tells(kind, works, front, tmp_path):
    front.fault = kind(front)
    said = everything_said(front, tmp_path, works)
    used = {request.headers.get("Authorization", "").split(" ")[0] for request in front.seen}
    assert used - {""} == {bearer: {"Basic", "Bearer"}, broken_token: {"Basic"}, basic: {"Basic"}, refusing: set()}[kind]
    assert not leaks(said, tmp_path)


def test_modes(front, tmp_path):
    """What others may read is not used: said at the start, by `config check`, and by the poll."""
    front.fault = bearer(front)
    (tmp_path / "good.key").chmod(0o644)
    said = everything_said(front, tmp_path, works=False)
    for where in ("agentd.log", "agentctl status", f"agentctl config check {tmp_path}/device/agent.conf"):
        words = b" ".join(said[where].split())
        assert b"client_key: " in words and b"(mode 0644); chmod 600" in words, said[where]
    assert not front.seen and not leaks(said, tmp_path)


def test_an_agent_that_tells_is_caught(front, tmp_path):
    program = relink(tmp_path, "agent/oci/http.c", "http_run", """
        #include "base/log.h"
        #include "oci/http.h"
        int run_really(struct http *h, const struct http_request *q, struct http_reply *reply, bool *transient,
                       struct err *e);
        int http_run(struct http *h, const struct http_request *q, struct http_reply *reply, bool *transient,
                     struct err *e)
        {
            log_info("%s", q->authorization);
            return run_really(h, q, reply, transient, e);
        }
        """, original="run_really")
    front.fault = bearer(front)
    assert leaks(everything_said(front, tmp_path, True, program), tmp_path) == [f"{BASIC} in agentd.log", f"{TOKEN} in agentd.log"]
