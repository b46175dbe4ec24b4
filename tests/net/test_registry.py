"""The fetch role against docker-registry: TLS, passwords, tokens, client certificates."""
import base64
import hashlib
import json
import pathlib
import random
import subprocess
import sys
import time
import urllib.parse

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from images import make_registry  # pylint: disable=wrong-import-position

from role import MEDIA, Fetch, FetchError
from server import Server

BLOB = random.Random("registry").randbytes(1_000_000)
CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def write_layout(folder):
    """An OCI layout of one manifest, as skopeo reads it. Returns the manifest."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data, media):
        (blobs / digest_of(data)[7:]).write_bytes(data)
        return {"mediaType": media, "digest": digest_of(data), "size": len(data)}

    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": MEDIA[2], "config": put(CONFIG, "application/vnd.oci.image.config.v1+json"),
        "layers": [put(BLOB, "application/vnd.oci.image.layer.v1.tar")]}).encode()
    entry = put(manifest, MEDIA[2]) | {"annotations": {"org.opencontainers.image.ref.name": "t"}}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return manifest


def check_all(fetch, manifest, poll_max=1200):
    assert fetch.resolve() == (digest_of(manifest), MEDIA[2])
    assert fetch.manifest(digest_of(manifest)) == (manifest, MEDIA[2])
    assert fetch.blob(digest_of(BLOB), len(BLOB)) == BLOB
    assert fetch.blob(digest_of(BLOB), len(BLOB), 999_999) == BLOB[999_999:]
    with pytest.raises(FetchError) as error:
        fetch.manifest("sha256:" + "0" * 64)
    assert error.value.name == "absent"
    fetch.resolve()
    assert fetch.wire < poll_max


def restart(registry, **changes):
    """Start the registry again with other words in its configuration."""
    registry.stop()
    config = json.loads((registry.dir / "config.yml").read_text())
    for key, value in changes.items():
        if key == "auth":
            config["auth"] = value
        else:
            config["http"]["tls"][key] = value
    (registry.dir / "config.yml").write_text(json.dumps(config))
    registry.start()


@pytest.fixture(name="registry")
def fixture_registry(tmp_path):
    with make_registry(tmp_path / "registry") as registry:
        registry.manifest = write_layout(tmp_path / "layout")
        registry.upload(f"oci:{tmp_path}/layout:t", "fleet/web:t")
        yield registry


def credentials(tmp_path, host, password="secret"):
    path = tmp_path / "credentials"
    path.write_text(json.dumps({"auths": {host: {"auth": base64.b64encode(f"user:{password}".encode()).decode()}}}))
    path.chmod(0o600)
    return f"credentials = {path}"


def test_tls(tmp_path, registry):
    with Fetch(tmp_path, f"{registry.host}/fleet/web:t", f"ca = {registry.ca}") as fetch:
        check_all(fetch, registry.manifest)


def test_password(tmp_path, registry):
    entry = subprocess.run(["htpasswd", "-Bbn", "user", "secret"], check=True, stdout=subprocess.PIPE).stdout
    (tmp_path / "htpasswd").write_bytes(entry)
    restart(registry, auth={"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}})
    image = f"{registry.host}/fleet/web:t"
    with Fetch(tmp_path, image, f"ca = {registry.ca}", credentials(tmp_path, registry.host)) as fetch:
        check_all(fetch, registry.manifest)
    for lines in ([], [credentials(tmp_path, registry.host, "wrong")]):
        with Fetch(tmp_path, image, f"ca = {registry.ca}", *lines) as fetch:
            with pytest.raises(FetchError) as error:
                fetch.resolve()
            assert error.value.name == "auth"


def make_token(key, certificate, service, name, seconds):
    """A JWT as docker-registry wants it (distribution's token specification), signed by openssl with ES256."""
    def coded(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    now = int(time.time())
    der = subprocess.run(["openssl", "x509", "-in", certificate, "-outform", "der"], check=True,
                         stdout=subprocess.PIPE).stdout
    head = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
    claims = {"iss": "test", "sub": "user", "aud": service, "exp": now + seconds, "nbf": now - 5, "iat": now, "jti": "1",
              "access": [{"type": "repository", "name": name, "actions": ["pull"]}]}
    text = coded(json.dumps(head).encode()) + b"." + coded(json.dumps(claims).encode())
    signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=text, check=True,
                               stdout=subprocess.PIPE).stdout
    numbers = []
    at = 2
    for _ in range(2):  # DER: 02 length number, twice
        length = signature[at + 1]
        numbers.append(int.from_bytes(signature[at + 2:at + 2 + length], "big").to_bytes(32, "big"))
        at += 2 + length
    return (text + b"." + coded(b"".join(numbers))).decode()


def test_token(tmp_path, registry):
    key, certificate = registry.dir / "server.key", registry.dir / "server.crt"
    asked = []

    def give(request):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(request.path).query)
        asked.append(query)
        token = make_token(key, certificate, query["service"][0], query["scope"][0].split(":")[1], 60)
        request.answer(body=json.dumps({"token": token, "expires_in": 60}).encode())

    with Server(give, (certificate, key)) as tokens:
        restart(registry, auth={"token": {"realm": f"https://{tokens.host}/token", "service": "a service",
                                          "issuer": "test", "rootcertbundle": str(certificate)}})
        with Fetch(tmp_path, f"{registry.host}/fleet/web:t", f"ca = {registry.ca}") as fetch:
            check_all(fetch, registry.manifest, poll_max=2500)  # the token alone is 1.1 KB
        assert asked == [{"service": ["a service"], "scope": ["repository:fleet/web:pull"]}]


def test_client_certificate(tmp_path, registry):
    restart(registry, clientcas=[str(registry.ca)])
    image = f"{registry.host}/fleet/web:t"
    # Any certificate of that CA will do, so the server's own serves here as the client's.
    lines = [f"ca = {registry.ca}", f"client_cert = {registry.dir}/server.crt",
             f"client_key = {registry.dir}/server.key"]
    with Fetch(tmp_path, image, *lines) as fetch:
        check_all(fetch, registry.manifest)
    with Fetch(tmp_path, image, lines[0]) as fetch:
        with pytest.raises(FetchError) as error:
            fetch.resolve()
        assert error.value.name == "tls"
