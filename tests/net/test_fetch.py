"""The fetch role against registries that misbehave, and against the connection's faults. Each case says what a registry
does and what must come of it. Plain HTTP, except where TLS is the matter."""
import base64
import email.utils
import hashlib
import json
import random
import time

import pytest

from certificates import make_certificates
from role import MEDIA, Fetch, FetchError
from server import Server, Tunnel

BLOB = random.Random("blob").randbytes(300_000)
BLOB_DIGEST = "sha256:" + hashlib.sha256(BLOB).hexdigest()
MANIFEST = b'{"schemaVersion":2}'
DIGEST = "sha256:" + hashlib.sha256(MANIFEST).hexdigest()
OCI = MEDIA[2]
PLAIN = "plain_http = yes"


@pytest.fixture(name="run")
def fixture_run(tmp_path):
    """Starts fetch against a server, with more lines for its configuration."""
    running = []

    def start(server, *lines, plain=True, **options):
        tmp_path.chmod(0o755)
        running.append(Fetch(tmp_path, f"{server.host}/app/web:t", *([PLAIN] if plain else []), *lines, **options))
        return running[-1]

    yield start
    for fetch in running:
        assert fetch.close()[0] == 0


def steps(*answers):
    """One answer after the other, the last one for ever."""
    left = list(answers)
    return lambda request: (left.pop(0) if len(left) > 1 else left[0])(request)


def whole(request):
    request.answer(body=BLOB)


def ranged(request):
    at = request.first_byte()
    if at == 0:
        return request.answer(body=BLOB)
    return request.answer(206, BLOB[at:], Content_Range=f"bytes {at}-{len(BLOB) - 1}/{len(BLOB)}")


def cut_at(count):
    def answer(request):
        at = request.first_byte()
        if at == 0:
            return request.answer(200, BLOB[:count], length=len(BLOB))
        return request.answer(206, BLOB[at:at + count], length=len(BLOB) - at,
                              Content_Range=f"bytes {at}-{len(BLOB) - 1}/{len(BLOB)}")
    return answer


def blob(fetch, offset=0):
    return fetch.blob(BLOB_DIGEST, len(BLOB), offset)


def refused(ask, name, *words):
    with pytest.raises(FetchError) as error:
        ask()
    assert error.value.name == name, error.value
    for word in words:
        assert word in error.value.text
    return error.value


# --- resolve and manifests -------------------------------------------------------------------------------------------

def test_resolve_is_one_head(run):
    with Server(lambda r: r.answer(Content_Type=OCI, Docker_Content_Digest=DIGEST, length=9)) as server:
        fetch = run(server)
        assert fetch.resolve() == (DIGEST, OCI)
        assert [r.method for r in server.seen] == ["HEAD"]
        assert server.seen[0].path == "/v2/app/web/manifests/t"
        accept = server.seen[0].headers["Accept"]
        assert [media for media in MEDIA.values() if media not in accept] == []
        assert 0 < fetch.wire < 1500


@pytest.mark.parametrize("fields", [{}, {"Docker_Content_Digest": "sha512:00"}])
def test_resolve_without_digest_hashes(run, fields):
    with Server(lambda r: r.answer(body=MANIFEST, Content_Type=OCI, **fields)) as server:
        assert run(server).resolve() == (DIGEST, OCI)
        assert [r.method for r in server.seen] == ["HEAD", "GET"]


@pytest.mark.parametrize("media", ["text/html", "application/vnd.docker.distribution.manifest.v1+prettyjws", ""])
def test_resolve_wrong_media(run, media):
    with Server(lambda r: r.answer(body=b"<html>", Content_Type=media, Docker_Content_Digest=DIGEST)) as server:
        refused(run(server).resolve, "registry", "want a manifest or index", media, server.host)


def test_manifest(run):
    with Server(lambda r: r.answer(body=MANIFEST, Content_Type=OCI + "; charset=utf-8")) as server:
        fetch = run(server)
        assert fetch.manifest(DIGEST) == (MANIFEST, OCI)
        assert fetch.tries == 1
        assert server.seen[0].path == f"/v2/app/web/manifests/{DIGEST}"


def test_manifest_html_with_200(run):
    with Server(lambda r: r.answer(body=b"<html>log in</html>", Content_Type="text/html")) as server:
        assert refused(lambda: run(server).manifest(DIGEST), "registry", "text/html").body == b""


def test_manifest_too_large(run):
    with Server(lambda r: r.answer(body=b" " * 3000, Content_Type=OCI)) as server:
        refused(lambda: run(server).manifest(DIGEST, 2999), "size", "at most 2999")


def test_manifest_too_large_unannounced(run):
    with Server(lambda r: r.chunked(b" " * 3000, 100, Content_Type=OCI)) as server:
        refused(lambda: run(server).manifest(DIGEST, 2999), "size", "2999")


def test_absent(run):
    with Server(lambda r: r.answer(404, b'{"errors":[]}')) as server:
        refused(run(server).resolve, "absent", "404", server.host, "app/web:t")
        assert len(server.seen) == 1


# --- bodies ----------------------------------------------------------------------------------------------------------

def test_blob(run):
    with Server(ranged) as server:
        fetch = run(server)
        assert blob(fetch) == BLOB
        assert blob(fetch, 1000) == BLOB[1000:]
        assert blob(fetch, len(BLOB)) == b""
        assert "Range" not in server.seen[0].headers
        assert server.seen[0].headers["Accept-Encoding"] == "identity"
        assert server.seen[1].headers["Range"] == "bytes=1000-"


def test_offset_of_a_server_without_ranges(run):
    with Server(whole) as server:
        assert blob(run(server), 1000) == BLOB[1000:]


def test_cut_is_resumed(run):
    with Server(steps(cut_at(100_000), ranged)) as server:
        fetch = run(server)
        assert blob(fetch) == BLOB
        assert fetch.tries == 2
        assert server.seen[1].first_byte() == 100_000


def test_cut_without_ranges_skips(run):
    with Server(steps(cut_at(100_000), whole)) as server:
        assert blob(run(server)) == BLOB


def test_cut_by_one_that_takes_no_open_range(run):
    """416 to the bytes from N to the end is no reason to begin anew: their number is known."""
    def picky(request):
        return part_of(request) if request.part() else request.answer(416)

    with Server(steps(cut_at(100_000), picky)) as server:
        fetch = run(server)
        assert blob(fetch) == BLOB
        assert [request.headers["Range"] for request in server.seen] == [None, "bytes=100000-", "bytes=100000-299999"]
        assert fetch.wire < len(BLOB) + 3000


def test_no_suffix_and_no_condition(run):
    """What a registry may answer with 416, or pass over, is never asked for."""
    with Server(steps(cut_at(1000), ranged, part_of)) as server:
        fetch = run(server)
        assert blob(fetch) == BLOB
        assert fetch.part(BLOB_DIGEST, len(BLOB), 299_000, 300_000) == BLOB[299_000:]
        assert [request.headers["Range"] for request in server.seen] == [None, "bytes=1000-", "bytes=299000-299999"]
        assert not [name for request in server.seen for name in request.headers if name.lower().startswith("if-")]


def test_cut_often_but_with_progress(run):
    """Four cuts in a row are more than a request without progress may fail with RETRY_TRIES 5 and its long pauses."""
    with Server(cut_at(70_000)) as server:
        fetch = run(server)
        assert blob(fetch) == BLOB
        assert fetch.tries == 5


def test_cut_chunked(run):
    def cut(request):
        request.chunked(BLOB[:70_000], 10_000, end=b"")
    with Server(steps(cut, ranged)) as server:
        assert blob(run(server)) == BLOB


def test_cut_without_length(run):
    with Server(steps(lambda r: r.answer(body=BLOB[:70_000], length=False), ranged)) as server:
        assert blob(run(server)) == BLOB


def test_no_length(run):
    with Server(lambda r: r.answer(body=BLOB, length=False)) as server:
        assert blob(run(server)) == BLOB


def test_chunked_with_extensions_and_trailer(run):
    with Server(lambda r: r.chunked(BLOB, 7777)) as server:
        assert blob(run(server)) == BLOB


@pytest.mark.parametrize("more", [-1, 1])
def test_wrong_length(run, more):
    body = (BLOB + b"x")[:len(BLOB) + more]
    with Server(lambda r: r.answer(body=body)) as server:
        assert refused(lambda: blob(run(server)), "size", str(len(BLOB)), str(len(body))).body == b""
        assert len(server.seen) == 1


def test_longer_unannounced(run):
    with Server(lambda r: r.chunked(BLOB + b"x", 1000)) as server:
        assert len(refused(lambda: blob(run(server)), "size", "more than").body) <= len(BLOB)


@pytest.mark.parametrize("value", ["bytes 99999-299999/300000", "bytes 100000-299999/300001", "bytes 100000-", "junk",
                                   "bytes 100000-99999/300000", "bytes 100000-300000/300000"])
def test_content_range_lies(run, value):
    def lie(request):
        request.answer(206, BLOB[100_000:], Content_Range=value)
    with Server(steps(cut_at(100_000), lie)) as server:
        assert refused(lambda: blob(run(server)), "size" if "300001" in value else "registry").body == BLOB[:100_000]


def test_206_unasked(run):
    with Server(lambda r: r.answer(206, BLOB, Content_Range=f"bytes 0-{len(BLOB) - 1}/{len(BLOB)}")) as server:
        refused(lambda: blob(run(server)), "registry", "206")


def test_content_encoding(run):
    with Server(lambda r: r.answer(body=BLOB, Content_Encoding="gzip")) as server:
        refused(lambda: blob(run(server)), "policy", "Content-Encoding")


def test_blob_html_with_200(run):
    with Server(lambda r: r.answer(body=BLOB, Content_Type="text/html; charset=utf-8")) as server:
        refused(lambda: blob(run(server)), "registry", "HTML")


# --- try again -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_status_once(run, status):
    with Server(steps(lambda r: r.answer(status, b"later"), whole)) as server:
        fetch = run(server)
        assert blob(fetch) == BLOB
        assert fetch.tries == 2


def test_retry_after_seconds(run):
    with Server(steps(lambda r: r.answer(429, Retry_After=2), whole)) as server:
        start = time.monotonic()
        assert blob(run(server)) == BLOB
        assert 2 <= time.monotonic() - start < 6


def test_retry_after_date(run):
    def later(request):
        request.answer(503, Retry_After=email.utils.formatdate(time.time() + 3, usegmt=True))
    with Server(steps(later, whole)) as server:
        start = time.monotonic()
        assert blob(run(server)) == BLOB
        assert 1 <= time.monotonic() - start < 7


def test_tries_end(run):
    with Server(lambda r: r.answer(503, b"no")) as server:
        refused(lambda: blob(run(server)), "registry", "503", server.host)
        assert len(server.seen) == 5


def test_other_status_is_not_tried_again(run):
    with Server(lambda r: r.answer(400, b"bad\x1b[31m thing")) as server:
        error = refused(lambda: blob(run(server)), "registry", "400", "bad")
        assert "\x1b" not in error.text
        assert len(server.seen) == 1


def test_pause_ends_with_the_requester(tmp_path):
    with Server(lambda r: r.answer(503, Retry_After=100)) as server:
        fetch = Fetch(tmp_path, f"{server.host}/app/web:t", PLAIN)
        fetch.send(3, BLOB_DIGEST, len(BLOB), 0)
        time.sleep(0.5)
        start = time.monotonic()
        assert fetch.close()[0] == 1
        assert time.monotonic() - start < 5


# --- redirects and credentials ---------------------------------------------------------------------------------------

def credentials(tmp_path, *hosts, **entry):
    path = tmp_path / "credentials"
    entry = entry or {"auth": base64.b64encode(b"user:pass").decode()}
    path.write_text(json.dumps({"auths": {host: entry for host in hosts}}))
    path.chmod(0o600)
    return f"credentials = {path}"


def basic(request, then):
    if request.headers.get("Authorization") == "Basic " + base64.b64encode(b"user:pass").decode():
        return then(request)
    return request.answer(401, WWW_Authenticate='Basic realm="x"')


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_to_another_host_takes_no_credentials(run, tmp_path, status):
    with Server(ranged) as store:
        def moved(request):
            request.answer(status, Location=f"http://{store.host}/store/x?sig=1")
        with Server(lambda r: basic(r, moved)) as server:
            fetch = run(server, credentials(tmp_path, server.host, store.host))
            assert blob(fetch, 1000) == BLOB[1000:]
            assert [r.headers.get("Authorization") for r in store.seen] == [None]
            assert store.seen[0].headers["Range"] == "bytes=1000-"
            assert store.seen[0].path == "/store/x?sig=1"


def test_signed_address_that_expired(run):
    """Good for one request. After a cut the registry is asked for another one, and the part is what was missing."""
    signed = []

    def store_answer(request):
        good, signed[:] = request.path in signed, []
        return (cut_at(70_000) if good else lambda r: r.answer(403))(request)

    with Server(store_answer) as store:
        def moved(request):
            signed.append(f"/x?sig={len(server.seen)}")
            request.answer(307, Location=f"http://{store.host}{signed[-1]}")
        with Server(moved) as server:
            assert blob(run(server)) == BLOB
            assert [r.path for r in store.seen] == [f"/x?sig={n}" for n in range(1, 6)]
            assert [r.first_byte() for r in store.seen] == [n * 70_000 for n in range(5)]


def test_redirect_on_the_same_host_keeps_them(run, tmp_path):
    def answer(request):
        return whole(request) if request.path == "/x" else request.answer(307, Location="/x")
    with Server(lambda r: basic(r, answer)) as server:
        assert blob(run(server, credentials(tmp_path, server.host))) == BLOB


def test_challenge_after_a_redirect_is_not_answered(run, tmp_path):
    with Server(lambda r: r.answer(401, WWW_Authenticate='Basic realm="x"')) as store, \
            Server(lambda r: r.answer(307, Location=f"http://{store.host}/x")) as server:
        refused(lambda: blob(run(server, credentials(tmp_path, server.host, store.host))), "auth", "redirect")
        assert [r.headers.get("Authorization") for r in store.seen] == [None]


def test_redirect_loop(run):
    with Server(lambda r: r.answer(307, Location=r.path)) as server:
        refused(lambda: blob(run(server)), "registry", "redirects")
        assert len(server.seen) == 6


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://user:pass@127.0.0.1/x"])
def test_redirect_elsewhere(run, to):
    with Server(lambda r: r.answer(307, Location=to)) as server:
        refused(lambda: blob(run(server)), "policy")


@pytest.mark.parametrize("entry", [{}, {"username": "user", "password": "pass"}])
def test_basic(run, tmp_path, entry):
    with Server(lambda r: basic(r, whole)) as server:
        fetch = run(server, credentials(tmp_path, f"https://{server.host}/v1/", **entry))
        assert blob(fetch) == BLOB
        assert blob(fetch) == BLOB
        assert len(server.seen) == 3


def test_basic_refused(run, tmp_path):
    with Server(lambda r: basic(r, whole)) as server:
        fetch = run(server, credentials(tmp_path, server.host, username="user", password="wrong"))
        error = refused(lambda: blob(fetch), "auth", "401")
        assert "wrong" not in error.text
        assert len(server.seen) == 2


def test_no_credentials(run):
    with Server(lambda r: basic(r, whole)) as server:
        refused(lambda: blob(run(server)), "auth", "credentials", server.host)


def test_credentials_file_is_bad(run, tmp_path):
    line = credentials(tmp_path)
    (tmp_path / "credentials").write_text('{"auths": {"secret":')
    with Server(whole) as server:
        error = refused(run(server, line).resolve, "config", "credentials")
        assert "secret" not in error.text


def test_credentials_that_others_may_read(run, tmp_path):
    with Server(lambda request: basic(request, whole)) as server:
        line = credentials(tmp_path, server.host)
        (tmp_path / "credentials").chmod(0o640)
        refused(lambda: blob(run(server, line)), "config", "mode 0640", "chmod 600")
        (tmp_path / "credentials").chmod(0o400)
        assert blob(run(server, line)) == BLOB


class Tokens(Server):
    """A token service that hands out token-1, token-2, ... and a registry's answer that asks for the newest."""

    def __init__(self, key="token", **more):
        self.cnt = 0
        self.key, self.more = key, more
        super().__init__(self.give)

    def give(self, request):
        self.cnt += 1
        request.answer(body=json.dumps({self.key: f"token-{self.cnt}", **self.more}).encode())

    def guard(self, request, then=whole):
        if self.cnt and request.headers.get("Authorization") == f"Bearer token-{self.cnt}":
            return then(request)
        return request.answer(401, WWW_Authenticate=f'Bearer realm="http://{self.host}/token?a=b",service="a \\"b\\"",'
                              'scope="repository:app/web:pull"')


@pytest.mark.parametrize("key", ["token", "access_token"])
def test_bearer(run, tmp_path, key):
    with Tokens(key) as tokens, Server(tokens.guard) as server:
        fetch = run(server, credentials(tmp_path, server.host))
        assert blob(fetch) == BLOB
        assert blob(fetch) == BLOB
        assert tokens.cnt == 1
        assert tokens.seen[0].headers["Authorization"].startswith("Basic ")
        query = tokens.seen[0].path
        assert query.startswith("/token?a=b&service=") and "pull" in query and " " not in query and '"' not in query


def test_bearer_without_credentials(run):
    with Tokens() as tokens, Server(tokens.guard) as server:
        assert blob(run(server)) == BLOB
        assert tokens.seen[0].headers.get("Authorization") is None


def test_bearer_runs_out(run):
    with Tokens(expires_in=1) as tokens, Server(tokens.guard) as server:
        fetch = run(server)
        assert blob(fetch) == BLOB
        time.sleep(1.1)
        assert blob(fetch) == BLOB
        assert tokens.cnt == 2


def test_bearer_withdrawn(run):
    with Tokens() as tokens, Server(tokens.guard) as server:
        fetch = run(server)
        assert blob(fetch) == BLOB
        tokens.cnt += 1
        assert blob(fetch) == BLOB


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"token":5}', b'{"token":""}', b'{"token":"a","token":"b"}', b"[]",
                                  b'{"token":"a\\r\\nX: y"}', b'{"token":"' + b"a" * 9000 + b'"}',
                                  b'{"token":"a","expires_in":-1}', b'{"token":"a"} x', b"\xef\xbb\xbf{}"],
                         ids=lambda body: body[:16].decode("latin1"))
def test_token_service_talks_rubbish(run, body):
    with Server(lambda r: r.answer(body=body)) as tokens:
        challenge = f'Bearer realm="http://{tokens.host}/t",service=s'
        with Server(lambda r: r.answer(401, WWW_Authenticate=challenge)) as server:
            fetch = run(server)
            with pytest.raises(FetchError) as error:
                blob(fetch)
            assert error.value.name in ("format", "auth", "limit")
            assert tokens.host in error.value.text


# --- mirrors ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("bad", [lambda r: r.answer(404), lambda r: r.answer(500), lambda r: r.cut(),
                                 lambda r: r.answer(body=BLOB[:-1]), cut_at(50_000)],
                         ids=["absent", "broken", "silent", "short", "cut"])
def test_mirror_falls_through(run, bad):
    with Server(bad) as mirror, Server(ranged) as server:
        assert blob(run(server, f"mirrors = {mirror.host}")) == BLOB
        assert mirror.seen and server.seen


def test_mirror_serves(run):
    with Server(ranged) as mirror, Server(ranged) as server:
        assert blob(run(server, f"mirrors = {mirror.host}")) == BLOB
        assert not server.seen


def test_mirror_gets_no_credentials_of_the_registry(run, tmp_path):
    with Server(lambda r: basic(r, whole)) as mirror, Server(lambda r: basic(r, whole)) as server:
        assert blob(run(server, f"mirrors = {mirror.host}", credentials(tmp_path, server.host))) == BLOB
        assert {r.headers.get("Authorization") for r in mirror.seen} == {None}


# --- TLS -------------------------------------------------------------------------------------------------------------

@pytest.fixture(name="certs", scope="module")
def fixture_certs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certs")
    make_certificates(folder)
    return folder


def tls_server(certs, name, answer=ranged):
    return Server(answer, (certs / f"{name}.crt", certs / f"{name}.key"))


def test_tls(run, certs):
    with tls_server(certs, "good") as server:
        assert blob(run(server, f"ca = {certs}/ca.crt", plain=False)) == BLOB


@pytest.mark.parametrize("name, word", [("expired", "expired"), ("other", "127.0.0.1")])
def test_tls_certificate(run, certs, name, word):
    with tls_server(certs, name) as server:
        error = refused(lambda: blob(run(server, f"ca = {certs}/ca.crt", plain=False)), "tls")
        assert word.lower() in error.text.lower()
        assert not server.seen


SIGNED = ("keys = /release.pem",)
DAY = 86400


def test_tls_expired_but_signed(run, certs):
    """What is sent is signed, so an old certificate is said aloud and strands nobody, unless that is asked for."""
    with tls_server(certs, "expired", lambda r: r.answer(Content_Type=OCI, Docker_Content_Digest=DIGEST,
                                                         length=9
                                                         )) as server:
        fetch = run(server, f"ca = {certs}/ca.crt", plain=False, trust=SIGNED)
        fetch.resolve()
        assert time.strftime("%Y-%m-%d", time.gmtime(fetch.expired)) == "2020-02-01"
        strict = run(server, f"ca = {certs}/ca.crt", plain=False, trust=(*SIGNED, "expired_certificate = refuse"))
        refused(strict.resolve, "tls", "expired")
    for name in "other", "foreign":  # nothing else is forgiven
        with tls_server(certs, name) as server:
            refused(run(server, f"ca = {certs}/ca.crt", plain=False, trust=SIGNED).resolve, "tls")


def test_tls_time_is_not_before_the_floor(run, certs):
    with tls_server(certs, "good") as server:
        fetch = run(server, f"ca = {certs}/ca.crt", plain=False, time_floor=time.time() + 400 * DAY)
        error = refused(lambda: blob(fetch), "tls", "expired")
        assert time.strftime("%Y-%m-%d", time.gmtime(time.time() + 400 * DAY)) in error.text


def test_tls_begins_later(run, certs):
    """Refused by a clock that may be right; taken where the clock is plainly wrong."""
    with tls_server(certs, "later") as server:
        refused(lambda: blob(run(server, f"ca = {certs}/ca.crt", plain=False)), "tls", "future")
        assert blob(run(server, f"ca = {certs}/ca.crt", plain=False, time_floor=time.time() + DAY)) == BLOB


def test_tls_without_ca(run, certs):
    with tls_server(certs, "good") as server:
        refused(lambda: blob(run(server, plain=False)), "tls", "ca")
        assert not server.seen


def test_tls_ca_is_absent(run, certs):
    with tls_server(certs, "good") as server:
        refused(run(server, f"ca = {certs}/nothing.crt", plain=False).resolve, "config", "nothing.crt")


def test_tls_is_not_left(run, certs):
    with Server(ranged) as store, tls_server(certs, "good", lambda r: r.answer(
            307, Location=f"http://{store.host}/x")) as server:
        refused(lambda: blob(run(server, f"ca = {certs}/ca.crt", plain=False)), "policy", "not HTTPS")
        assert not store.seen


def test_tls_server_speaks_plain_http(run, certs):
    with Server(ranged) as server:
        refused(lambda: blob(run(server, f"ca = {certs}/ca.crt", plain=False)), "tls")


def test_nobody_there(run):
    with Server(ranged) as server:
        pass
    refused(run(server).resolve, "network", server.host)


# --- parts of a blob -------------------------------------------------------------------------------------------------

def part_of(request, first=0, last=0, total=0):
    """The part asked for, with its Content-Range wrong by so much."""
    part = request.part()
    request.answer(206, BLOB[part], Content_Range=f"bytes {part.start + first}-{part.stop - 1 + last}/{len(BLOB) + total}")


def test_parts_on_one_connection(run):
    with Server(part_of) as server:
        fetch = run(server)
        for first, end in ((0, 1), (5, 70_000), (299_999, 300_000), (0, 300_000), (3, 4)):
            assert fetch.part(BLOB_DIGEST, len(BLOB), first, end) == BLOB[first:end]
            assert fetch.tries == 1
            assert fetch.wire < end - first + 1000
        assert len({request.handler.client_address for request in server.seen}) == 1


def test_part_cut(run):
    def cut(request):
        part = request.part()
        request.answer(206, BLOB[part][:100_000], length=part.stop - part.start,
                       Content_Range=f"bytes {part.start}-{part.stop - 1}/{len(BLOB)}")

    with Server(steps(cut, part_of)) as server:
        assert run(server).part(BLOB_DIGEST, len(BLOB), 1000, 250_000) == BLOB[1000:250_000]
        assert [request.part() for request in server.seen] == [slice(1000, 250_000), slice(101_000, 250_000)]


@pytest.mark.parametrize("answer", [whole, lambda request: request.answer(416)], ids=["200", "416"])
def test_no_parts(run, answer):
    """Said before the download, so that stage can choose what to do."""
    with Server(answer) as server:
        fetch = run(server)
        with pytest.raises(FetchError, match="part") as caught:
            fetch.part(BLOB_DIGEST, len(BLOB), 1000, 2000)
        assert caught.value.name == "unsupported" and not caught.value.body
        assert len(server.seen) == 1


def test_part_of_the_whole(run):
    with Server(whole) as server:
        fetch = run(server)
        assert fetch.part(BLOB_DIGEST, len(BLOB), 1000, 2000, whole=True) == BLOB[1000:2000]
        assert fetch.part(BLOB_DIGEST, len(BLOB), 0, 300_000, whole=True) == BLOB
        assert fetch.part(BLOB_DIGEST, len(BLOB), 250_000, 299_999, whole=True) == BLOB[250_000:299_999]
        assert len(server.seen) == 3


@pytest.mark.parametrize("wrong", [{"first": 1}, {"first": -1}, {"last": 1}, {"last": -1}, {"total": 1}], ids=str)
def test_another_part(run, wrong):
    with Server(lambda request: part_of(request, **wrong)) as server:
        with pytest.raises(FetchError) as caught:
            run(server).part(BLOB_DIGEST, len(BLOB), 1000, 2000)
        assert caught.value.name in ("registry", "size") and not caught.value.body


def test_part_of_nothing(run):
    with Server(part_of) as server:
        for first, end in ((5, 5), (6, 5), (0, len(BLOB) + 1)):
            with pytest.raises(FetchError) as caught:
                run(server).part(BLOB_DIGEST, len(BLOB), first, end)
            assert caught.value.name == "state"
        assert not server.seen


# --- manners ----------------------------------------------------------------------------------------------------------

RATE = 128 * 1024  # bytes a second


def test_rate(run):
    """One long answer, or many short ones: the same bytes take the same time."""
    with Server(part_of) as server:
        fetch = run(server, update=["rate_limit = 128K"])
        for size in (200_000, 4_000):
            start = time.monotonic()
            for first in range(0, 200_000, size):
                fetch.part(BLOB_DIGEST, len(BLOB), first, first + size)
            assert 0.85 < (time.monotonic() - start) / (200_000 / RATE) < 1.6


def test_no_rate(run):
    """The known-bad of the above: without a limit it is over at once."""
    with Server(part_of) as server:
        start = time.monotonic()
        run(server).part(BLOB_DIGEST, len(BLOB), 0, 200_000)
        assert time.monotonic() - start < 0.85 * 200_000 / RATE


def test_slowest_rate_is_no_stall(run):
    """In pieces of a quarter of a second, so that neither end takes it for a connection that is dead."""
    with Server(ranged) as server:
        fetch = run(server, update=["rate_limit = 16K"])
        start = time.monotonic()
        assert blob(fetch, len(BLOB) - 65536) == BLOB[-65536:]
        assert time.monotonic() - start > 3.4 and fetch.tries == 1


def test_meter(run):
    """Every byte counts, also of answers that were of no use, and it is there when the process is gone."""
    with Server(steps(cut_at(100_000), lambda request: request.answer(503), ranged)) as server:
        fetch = run(server)
        blob(fetch)
        assert fetch.tries == 3 and len(BLOB) < fetch.wire < len(BLOB) + 3000
        fetch.close()
        assert fetch.meter() == fetch.wire


@pytest.mark.parametrize("bound", [{"bytes_max": 200_000}, {"seconds": 2}], ids=str)
def test_no_further(run, bound):
    """It ends where it is, and asks for nothing more, no other host either. Little came that was of no use."""
    with Server(ranged) as server, Server(ranged) as mirror:
        fetch = run(server, f"mirrors = {mirror.host}", update=["rate_limit = 64K"], **bound)
        error = refused(lambda: blob(fetch), "held")
        assert 100_000 < len(error.body) < 210_000 and BLOB.startswith(error.body)
        refused(fetch.resolve, "held")
        assert len(mirror.seen) == 1 and not server.seen
        assert fetch.meter() < len(error.body) + 120_000


# --- proxy -----------------------------------------------------------------------------------------------------------

def test_proxy(run):
    with Server(whole) as proxy, Server(whole) as server:
        assert blob(run(server, f"proxy = http://{proxy.host}")) == BLOB
        assert proxy.seen[0].path.startswith(f"http://{server.host}/v2/")
        assert not server.seen


def test_proxy_of_https_only_sees_where_to(run, certs, tmp_path):
    with Tunnel() as proxy, tls_server(certs, "good", lambda r: basic(r, ranged)) as server:
        fetch = run(server, f"proxy = http://{proxy.host}", f"ca = {certs}/ca.crt", credentials(tmp_path, server.host),
                    plain=False)
        assert blob(fetch) == BLOB
        assert blob(fetch, 1000) == BLOB[1000:]
        assert [head.split("\r\n")[0] for head in proxy.seen] == [f"CONNECT {server.host} HTTP/1.1"]
        assert "authorization" not in proxy.seen[0].lower()


def test_proxy_that_refuses(run, certs):
    with Tunnel("403 Forbidden") as proxy, tls_server(certs, "good") as server:
        fetch = run(server, f"proxy = http://{proxy.host}", f"ca = {certs}/ca.crt", plain=False)
        refused(lambda: blob(fetch), "network", "CONNECT", "403")
        assert not server.seen


def test_proxy_of_the_environment_is_not_used(run, monkeypatch):
    with Server(whole) as proxy, Server(whole) as server:
        for name in ("http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{proxy.host}")
        assert blob(run(server)) == BLOB
        assert not proxy.seen


# --- the role itself -------------------------------------------------------------------------------------------------

def test_privileges(run):
    with Server(whole) as server:
        fetch = run(server)
        blob(fetch)
        with open(f"/proc/{fetch.process.pid}/status", encoding="ascii") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        with open(f"/proc/{fetch.process.pid}/limits", encoding="ascii") as file:
            limits = file.read()
        assert status["NoNewPrivs"] == "1"
        assert "0" not in status["Uid"].split() and "0" not in status["Gid"].split() and not status["Groups"].strip()
        assert int(status["CapEff"], 16) == 0
        assert limits.split("Max file size")[1].split()[:2] == ["0", "0"]
        assert limits.split("Max core file size")[1].split()[:2] == ["0", "0"]


def test_unknown_request_ends_it(tmp_path):
    with Server(whole) as server:
        fetch = Fetch(tmp_path, f"{server.host}/app/web:t", PLAIN)
        fetch.send(9, DIGEST, 0, 0)
        assert fetch.process.wait(timeout=10) == 1
        fetch.close()
