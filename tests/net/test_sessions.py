"""TLS sessions outlive the fetch role: the next one goes on with them, and loses nothing by bad ones."""
import ssl
import struct

import pytest

from certificates import make_certificates
from role import MEDIA, Fetch, FetchError
from server import Server

DIGEST = "sha256:" + "5a" * 32


@pytest.fixture(name="certs", scope="module")
def fixture_certs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certs")
    make_certificates(folder)
    return folder


def server(certs, resumed, version=ssl.TLSVersion.TLSv1_3, name="good"):
    def answer(request):
        resumed.append(request.resumed())
        request.answer(Content_Type=MEDIA[2], Docker_Content_Digest=DIGEST)

    made = Server(answer, (certs / f"{name}.crt", certs / f"{name}.key"))
    made.http.socket.context.maximum_version = version
    return made


def poll(folder, host, certs, sessions=b""):
    """What a role of its own found, and its sessions."""
    with Fetch(folder, f"{host}/app/web:t", f"ca = {certs / 'ca.crt'}") as fetch:
        assert fetch.resolve(sessions) == (DIGEST, MEDIA[2])
        return fetch.sessions


def test_resumed(tmp_path, certs):
    resumed, sessions = [], b""
    with server(certs, resumed) as made:
        for _ in range(4):
            sessions = poll(tmp_path, made.host, certs, sessions)
            assert 0 < len(sessions) <= 4096
    assert resumed == [False, True, True, True]


def test_a_server_that_went_back_to_tls_1_2(tmp_path, certs):
    """It refuses what it can't go on with; agentd has forgotten the sessions by the next poll (update/worker.c)."""
    with server(certs, []) as made:
        sessions = poll(tmp_path, made.host, certs)
        made.http.socket.context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(FetchError) as refused:
            poll(tmp_path, made.host, certs, sessions)
        assert refused.value.name == "tls"
        poll(tmp_path, made.host, certs, poll(tmp_path, made.host, certs))


def test_not_with_another_server(tmp_path, certs):
    """One port later another server answers, with another key: a whole handshake, its certificate looked at."""
    resumed = []
    with server(certs, resumed) as first:
        sessions = poll(tmp_path, first.host, certs)
    with server(certs, resumed) as second:
        poll(tmp_path, second.host, certs, sessions)
    assert resumed == [False, False]
    with server(certs, resumed, name="expired") as third, \
            Fetch(tmp_path, f"{third.host}/app/web:t", f"ca = {certs / 'ca.crt'}") as fetch:
        with pytest.raises(FetchError) as refused:
            fetch.resolve(sessions)
    assert refused.value.name == "tls" and "expired" in refused.value.text


def flipped(sessions, at):
    return sessions[:at] + bytes([sessions[at] ^ 0x55]) + sessions[at + 1:]


def test_bad_ones_are_passed_over(tmp_path, certs):
    with server(certs, []) as made:
        good = poll(tmp_path, made.host, certs)
        for sessions in (b"\0", b"\xff" * 4096, good[:-1], good[:7], struct.pack("=HH", 65535, 65535) + good):
            poll(tmp_path, made.host, certs, sessions)


def test_damaged_ones_fail_cleanly(tmp_path, certs):
    """The server may take offence at a wrong key; agentd forgets them then, too."""
    refused = 0
    with server(certs, []) as made:
        good = poll(tmp_path, made.host, certs)
        for at in range(0, len(good), 11):
            try:
                poll(tmp_path, made.host, certs, flipped(good, at))
            except FetchError as error:
                assert error.name == "tls"
                refused += 1
    assert refused, "no flipped bit was in a key: the case is not made"


def test_no_more_than_there_is_room_for(tmp_path, certs):
    with server(certs, []) as made, Fetch(tmp_path, f"{made.host}/app/web:t", f"ca = {certs / 'ca.crt'}") as fetch:
        with pytest.raises(EOFError):
            fetch.resolve(b"x" * 4097)
