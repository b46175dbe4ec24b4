"""Who may say what a board installs: signatures of every kind and by whom, versions, brake, root, age. A real registry, a
real cosign, and a factory that has only openssl; what is refused is refused before the slot is touched, each for its own
reason."""
import base64
import hashlib
import json
import os
import pathlib
import re
import subprocess
import time
import urllib.error

import pytest

import factory
import front
from certificates import make_certificates
from chunked import NEW, Chunked
from device import SimDevice, slot
from fence import spared
from factory import BUNDLE, Factory, Key, SIGNATURE, SIMPLE, image, sha256
from relink import relink
from server import Server

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]


@pytest.fixture(name="keys", scope="module")
def fixture_keys(tmp_path_factory):
    """Three keys of P-256, by name."""
    folder = tmp_path_factory.mktemp("keys")
    return {name: Key(folder, name) for name in "abc"}


@pytest.fixture(name="works")
def fixture_works(registry, request):
    """A factory with a repository of its own."""
    return Factory(registry, "fleet/" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12])


class Board(SimDevice):
    """A simulated board that looks at the tag when it is told to."""

    pause = 0.1

    def __init__(self, works, keys, update=None, program=None, registry=None, **trust):
        super().__init__(registry or works.registry, f"{works.repository}:stable", program=program, keys=keys, trust=trust,
                         update={"poll_interval": 0, "stable": 1} | (update or {}))
        self.start()
        self.wait(lambda s: True, what="an answer")

    def ask(self, verb="update"):
        """Have it look, and wait until it is idle again. Returns its status."""
        self.agentctl(verb)
        return self.wait(lambda s: s["update"]["state"] in ("idle", "trial"), 20, what="the end of an update")

    def installs(self, version, verb="update"):
        self.ask(verb)
        self.wait_version(version, 20)

    def refuses(self, cause, *words):
        """The update fails for this cause, with these words in the chain, and nothing has been touched: both slots and
        the boot record are as they were."""
        with spared(self):
            self.ask()
            status = self.wait(lambda s: s["update"]["state"] == "idle" and s["last_failure"] and
                               cause == s["last_failure"]["cause"] and all(w in s["last_failure"]["text"] for w in words),
                               4, f"a refusal for {cause}, {words}")
        failure = status["last_failure"]
        assert (failure["event"], failure["cause"]) == ("install", cause), failure
        for word in words:
            assert word in failure["text"], failure["text"]
        return failure["text"]


def files(version):
    return {"app/version": version.encode()}


def push(works, version="v1", **options):
    return works.push("stable", image(files(version), version=version, **options))


# --- what is taken -------------------------------------------------------------------------------------------------


def test_openssl_and_http_are_enough(works, keys):
    works.sign(push(works), keys["a"], version=1)
    with Board(works, [keys["a"]]) as board:
        board.installs("v1")
        status = board.status()
        assert status["follow"]["signatures"] == "required"
        assert (board.slot("B") / "app" / "version").read_bytes() == b"v1"


@pytest.mark.parametrize("hash_name", ["sha256", "sha384"])
def test_p384(works, tmp_path, hash_name):
    key = Key(tmp_path, "p384", "secp384r1")
    works.sign(push(works), key, hash_name=hash_name, version=1)
    with Board(works, [key]) as board:
        board.installs("v1")


def test_p256_with_sha384_is_not_taken(works, keys):
    works.sign(push(works), keys["a"], hash_name="sha384", version=1)
    with Board(works, [keys["a"]]) as board:
        board.refuses("signature")


def test_bundle_as_cosign_3_writes_it(works, keys):
    digest = push(works)
    statement = factory.statement(digest, version="1", repository=works.repository)
    works.refer(digest, BUNDLE, factory.dsse_bundle(keys["a"], statement))
    with Board(works, [keys["a"]]) as board:
        board.installs("v1")


def test_bundle_over_the_manifest_itself(works, keys):
    """It has no words of its own; the manifest's annotations say the rest."""
    blobs, manifest = image(files("v1"), annotations={"dev.slipway.version": "1",
                                                      "dev.slipway.repository": works.repository})
    digest = works.push("stable", (blobs, manifest))
    works.refer(digest, BUNDLE, factory.message_bundle(keys["a"], manifest))
    with Board(works, [keys["a"]]) as board:
        board.installs("v1")


def test_signed_index(works, keys):
    blobs, manifest = image(files("v1"))
    works.push("one", (blobs, manifest))
    works.sign(works.push_index("stable", manifest), keys["a"], version=1)
    with Board(works, [keys["a"]]) as board:
        board.installs("v1")


def test_signed_manifest_in_an_index(works, keys):
    blobs, manifest = image(files("v1"))
    digest = works.push("one", (blobs, manifest))
    works.push_index("stable", manifest)
    works.sign(digest, keys["a"], version=1)
    with Board(works, [keys["a"]]) as board:
        board.installs("v1")


def test_two_of_three(works, keys):
    digest = push(works)
    works.sign(digest, keys["a"], keys["a"], version=1)
    with Board(works, list(keys.values()), threshold=2) as board:
        board.refuses("signature", "1 of the 2 different keys")
        works.sign(digest, keys["c"], version=2)
        board.refuses("signature", "1 of the 2 different keys")
        works.sign(digest, keys["c"], version=1)
        board.installs("v1")


# --- real cosign -----------------------------------------------------------------------------------------------------


class Cosign:
    offline = ["--tlog-upload=false"]

    def __init__(self, program, registry, folder):
        self.program = program
        self.registry = registry
        self.environment = dict(os.environ, COSIGN_PASSWORD="x", COSIGN_EXPERIMENTAL="1",
                                SSL_CERT_FILE=str(registry.ca), HOME=str(folder))
        self.folder = folder
        self("generate-key-pair")
        self.private, self.public = folder / "cosign.key", folder / "cosign.pub"

    def __call__(self, *words):
        done = subprocess.run([self.program, *words], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode == 0, done.stdout

    def sign(self, works, digest, *options):
        self("sign", "--yes", "--key", self.private, *self.offline, *options,
             f"{self.registry.host}/{works.repository}@{digest}")


class Cosign3(Cosign):
    offline = ["--tlog-upload=false", "--use-signing-config=false"]

    def sign_blob(self, data):
        """Its bundle with a signature over these bytes."""
        (self.folder / "blob").write_bytes(data)
        self("sign-blob", "--yes", "--key", self.private, *self.offline, "--bundle", "blob.bundle", "blob")
        return (self.folder / "blob.bundle").read_bytes()


def program(suite):
    done = subprocess.run([HERE / "cosign", suite], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the cosign of Debian's {suite} could not be had")
    return done.stdout.strip()


@pytest.fixture(name="cosign", scope="module")
def fixture_cosign(registry, tmp_path_factory):
    return Cosign(program("trixie"), registry, tmp_path_factory.mktemp("cosign"))


@pytest.fixture(name="cosign3", scope="module")
def fixture_cosign3(registry, tmp_path_factory):
    return Cosign3(program("forky"), registry, tmp_path_factory.mktemp("cosign3"))


def test_cosign_tag(works, cosign):
    cosign.sign(works, push(works), "-a", "version=1")
    with Board(works, [cosign]) as board:
        board.installs("v1")


def test_cosign_referrer(works, cosign):
    digest = push(works)
    cosign.sign(works, digest, "-a", "version=1", "--registry-referrers-mode=oci-1-1")
    assert works.get(works.signature_tag(digest)) is None
    with Board(works, [cosign]) as board:
        board.installs("v1")


def bundles(works, digest):
    """The bundles that refer to an image, as they are in the registry."""
    manifests = [json.loads(works.get(entry["digest"]))
                 for entry in json.loads(works.get(digest.replace(":", "-"), factory.INDEX))["manifests"]]
    return [json.loads(works.request("GET", "blobs/" + manifest["layers"][0]["digest"])[1]) for manifest in manifests]


def test_cosign_3(works, cosign3, keys):
    digest = push(works)
    cosign3.sign(works, digest, "-a", "version=1", "-a", f"repository={works.repository}")
    assert works.get(works.signature_tag(digest)) is None
    assert [bundle.keys() & {"dsseEnvelope", "messageSignature"} for bundle in bundles(works, digest)] == [{"dsseEnvelope"}]
    with Board(works, [cosign3]) as board:
        board.installs("v1")
    with Board(works, [keys["a"]]) as board:
        board.refuses("signature", "none of the 1 keys")


def test_cosign_3_without_annotations(works, cosign3):
    digest = push(works)
    cosign3.sign(works, digest)
    with Board(works, [cosign3]) as board:
        board.refuses("signature", "for no repository")
        cosign3.sign(works, digest, "-a", f"repository={works.repository}")
        board.refuses("older", "without a version")
        cosign3.sign(works, digest, "-a", f"repository={works.repository}", "-a", "version=1")
        board.installs("v1")


def test_cosign_3_signed_index(works, cosign3):
    blobs, manifest = image(files("v1"))
    works.push("one", (blobs, manifest))
    cosign3.sign(works, works.push_index("stable", manifest), "-a", "version=1", "-a", f"repository={works.repository}")
    with Board(works, [cosign3]) as board:
        board.installs("v1")


def test_cosign_3_over_the_manifest_itself(works, cosign3):
    """sign-blob's bundle: a message signature. cosign does not push it by itself."""
    blobs, manifest = image(files("v1"), annotations={"dev.slipway.version": "1",
                                                      "dev.slipway.repository": works.repository})
    digest = works.push("stable", (blobs, manifest))
    works.refer(digest, BUNDLE, cosign3.sign_blob(manifest))
    assert "messageSignature" in bundles(works, digest)[0]
    with Board(works, [cosign3]) as board:
        board.installs("v1")


def test_cosign_3_over_another_manifest(works, cosign3):
    digest = push(works)
    works.refer(digest, BUNDLE, cosign3.sign_blob(image(files("v0"))[1]))
    with Board(works, [cosign3]) as board:
        board.refuses("signature", "none of the 1 keys")


def test_our_bundles_are_as_cosign_3_writes_them(works, cosign3, keys):
    """What the other tests sign without cosign has the same members, of the same kinds."""
    def shape(value):
        if isinstance(value, dict):
            return {key: shape(member) for key, member in value.items()}
        return [shape(member) for member in value] if isinstance(value, list) else type(value)

    digest = push(works)
    cosign3.sign(works, digest, "-a", "version=1")
    (theirs,) = bundles(works, digest)
    ours = json.loads(factory.dsse_bundle(keys["a"], factory.statement(digest, version="1")))
    assert shape(theirs) == shape(ours)
    assert json.loads(base64.b64decode(theirs["dsseEnvelope"]["payload"])) == \
        json.loads(base64.b64decode(ours["dsseEnvelope"]["payload"]))
    manifest = works.get("stable")
    assert shape(json.loads(cosign3.sign_blob(manifest))) == shape(json.loads(factory.message_bundle(keys["a"], manifest)))


class Relay(Server):
    """Another server before the registry of `works`: with this certificate, and perhaps with the API of referrers, which
    says `listed` of one digest."""

    def __init__(self, works, folder, certificate="good", digest=None, listed=b""):
        make_certificates(folder)
        self.works, self.digest, self.listed = works, digest, listed
        self.ca = folder / "ca.crt"
        super().__init__(self.answer, (folder / f"{certificate}.crt", folder / f"{certificate}.key"))

    def answer(self, request):
        kind, reference = request.path.rsplit("/", 2)[1:]
        if kind == "referrers" and self.digest:
            return request.answer(200, self.listed if reference == self.digest else b"", Content_Type=factory.INDEX)
        try:
            fields, body = self.works.request(request.method, f"{kind}/{reference}",
                                              accept=request.headers.get("Accept", "*/*"))
        except urllib.error.HTTPError as e:
            return request.answer(e.code)
        return request.answer(200, body, Content_Type=fields["Content-Type"], length=int(fields["Content-Length"]),
                              keep=True)


def test_api_of_referrers(works, keys, tmp_path):
    """A registry that has it is not asked for the fallback tag."""
    digest = push(works)
    works.refer(digest, BUNDLE, factory.dsse_bundle(
        keys["a"], factory.statement(digest, version="1", repository=works.repository)))
    listed = works.get(digest.replace(":", "-"), factory.INDEX)
    works.delete(sha256(listed))
    with Relay(works, tmp_path, digest=digest, listed=listed) as relay:
        with Board(works, [keys["a"]], registry=relay) as board:
            board.installs("v1")
        assert not [r for r in relay.seen if r.path.endswith("/manifests/" + digest.replace(":", "-"))]
    with Board(works, [keys["a"]]) as board:
        board.refuses("unsigned", "nobody signed")


def test_expired_certificate(works, keys, tmp_path):
    """What is signed is installed all the same, and said aloud, unless the configuration wants otherwise."""
    works.sign(push(works), keys["a"], version=1)
    with Relay(works, tmp_path, "expired") as relay:
        with Board(works, [keys["a"]], registry=relay, expired_certificate="refuse") as board:
            assert "expired; the board's clock says" in board.ask()["update"]["detail"]
        with Board(works, [keys["a"]], registry=relay, policy="off") as board:
            assert "expired; the board's clock says" in board.ask()["update"]["detail"]
        with Board(works, [keys["a"]], registry=relay, update={"poll_interval": 1}) as board:
            board.installs("v1")
            status = board.wait(lambda s: "ALARM" in s["update"]["detail"], 20)
            assert "certificate expired" in status["update"]["detail"] and "renew it" in status["update"]["detail"]


def attest(works, cosign, digest, kind):
    """A bundle with a statement of this kind: cosign 2 makes them for attestations, cosign 3 for signatures, too."""
    predicate = cosign.folder / "predicate"
    predicate.write_text("{}")
    cosign("attest", "--yes", "--new-bundle-format", "--key", cosign.private, "--tlog-upload=false", "--type", kind,
           "--predicate", predicate, f"{works.registry.host}/{works.repository}@{digest}")


def test_cosign_bundle(works, cosign):
    digest = push(works, annotations={"dev.slipway.version": "1", "dev.slipway.repository": works.repository})
    attest(works, cosign, digest, factory.SIGN_PREDICATE)
    with Board(works, [cosign]) as board:
        board.installs("v1")


def test_cosign_attestation_is_no_permission(works, cosign):
    digest = push(works, annotations={"dev.slipway.version": "1"})
    attest(works, cosign, digest, "https://example.com/sbom")
    with Board(works, [cosign]) as board:
        board.refuses("signature", "no permission to install")


def test_cosign_verifies_what_the_factory_signs(works, cosign, keys):
    digest = push(works)
    works.sign(digest, keys["a"], version="1")
    cosign("verify", "--key", keys["a"].public, "--insecure-ignore-tlog=true", "-a", "version=1",
           f"{works.registry.host}/{works.repository}@{digest}")


def test_the_five_lines_of_the_readme(works, tmp_path):
    text = (TOP / "agent" / "trust" / "README.md").read_text()
    lines = text.partition("```sh\n")[2].partition("```")[0]
    assert len(lines.splitlines()) == 5
    key = Key(tmp_path, "release")
    (tmp_path / ".curlrc").write_text(f"cacert = {works.registry.ca}\n")
    subprocess.run(["sh", "-euc", lines], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL, env=dict(
        os.environ, HOME=str(tmp_path), REGISTRY=works.registry.host, REPOSITORY=works.repository, VERSION="1",
        DIGEST=push(works)))
    with Board(works, [key]) as board:
        board.installs("v1")


# --- what is refused -------------------------------------------------------------------------------------------------


def test_unsigned(works, keys):
    push(works)
    with Board(works, [keys["a"]]) as board:
        board.refuses("unsigned", "nobody signed")


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


def stored(registry, digest):
    """The file in which the registry keeps a blob; it does not look at it again."""
    digest = digest.removeprefix("sha256:")
    return registry.dir / "data/docker/registry/v2/blobs/sha256" / digest[:2] / digest / "data"


def flip_stored(registry, digest, at=None):
    path = stored(registry, digest)
    data = path.read_bytes()
    path.write_bytes(flip(data, len(data) // 2 if at is None else at))


@pytest.mark.parametrize("what", ["payload", "manifest", "index", "config", "layer"])
def test_flipped_bit_in(what, works, keys, registry):
    """In place, in the registry's own storage."""
    blobs, manifest = image({"app/version": what.encode() * 40, "name": works.repository.encode()}, version=what)
    works.push("one", (blobs, manifest))
    index = works.push_index("stable", manifest)
    works.sign(index, keys["a"], version=1)
    signature = json.loads(works.get(works.signature_tag(index)))["layers"][0]["digest"]
    digest = {"payload": signature, "manifest": sha256(manifest), "index": index, "config": sha256(blobs[0]),
              "layer": sha256(blobs[1])}[what]
    path = stored(registry, digest)
    whole = path.read_bytes()
    # in the documents, a digit of a digest or a letter of a name, so that they still parse
    at = {"manifest": whole.find(sha256(blobs[1]).encode()) + 30, "index": whole.find(b"amd64"),
          "config": whole.find(b"version")}.get(what)
    flip_stored(registry, digest, at)
    with Board(works, [keys["a"]]) as board:
        if what == "layer":
            with spared(board, "slot-b", "bootenv"):
                board.ask()
                status = board.wait(lambda s: s["last_failure"])
            assert status["last_failure"]["cause"] == "digest" and "layer 1 of 1" in status["last_failure"]["text"]
            assert status["booted"] == "A" and slot(status, "B")["tries_left"] == 0, "it was armed"
            return
        text = board.refuses("digest", "digest mismatch")
        assert what in text or what == "payload" and "signature 1 of 1" in text


@pytest.mark.parametrize("at", ["top", "bottom"])
def test_flipped_bit_in_table_of_contents(at, works, keys, registry):
    """All tables are there before the first write, though layers are taken from the top down."""
    tars = [front.tar_of({"name": f"{name} {works.repository}".encode()}) for name in ("bottom", "top")]
    whole = front.Image("v1", tars, lambda tar: Chunked()(tar)[0], "+zstd").seal()
    manifest = json.loads(whole.manifest_bytes)
    for entry, tar in zip(manifest["layers"], tars):
        entry["annotations"] = Chunked()(tar)[1]
    digest = works.push("stable", ([*whole.layers, whole.config_bytes], factory.compact(manifest)))
    works.sign(digest, keys["a"], version=1)
    layer = manifest["layers"][["bottom", "top"].index(at)]
    table = int(layer["annotations"][NEW + "manifest-position"].split(":")[0])
    flip_stored(registry, layer["digest"], table + 40)
    with Board(works, [keys["a"]]) as board:
        before = board.status()["slots"]
        text = board.refuses("digest", "table of contents: digest mismatch")
        assert f"layer {['bottom', 'top'].index(at) + 1} of 2" in text
        assert board.status()["slots"] == before, "slot B is not what it was"
        assert not list((board.dir / "state/stage/tables").iterdir()), "a table of a refused image is kept"


def test_flipped_bit_in_signature(works, keys):
    digest = push(works)
    payload = factory.simple_payload(f"{works.registry.host}/{works.repository}", digest, version=1)
    signature = keys["a"].sign(payload)
    with Board(works, [keys["a"]]) as board:
        for at in (8, len(signature) - 1):
            bad = flip(signature, at)
            works.artifact(works.signature_tag(digest), [(SIMPLE, payload, {SIGNATURE: base64.b64encode(bad).decode()})])
            board.refuses("signature", "none of the 1 keys")
        works.artifact(works.signature_tag(digest), [(SIMPLE, payload, {SIGNATURE: "!!"})])
        board.refuses("format", "not base64")
        # more after the end of a good one
        works.artifact(works.signature_tag(digest),
                       [(SIMPLE, payload, {SIGNATURE: base64.b64encode(signature + b"\0").decode()})])
        board.refuses("signature", "none of the 1 keys")


def test_other_bytes_under_a_good_signature(works, keys):
    """The registry holds the right digest for a payload that nobody signed."""
    digest = push(works)
    signed = factory.simple_payload("r/" + works.repository, digest, version=1)
    forged = factory.simple_payload("r/" + works.repository, digest, version=9)
    works.add_signatures(digest, [(SIMPLE, forged, {SIGNATURE: base64.b64encode(keys["a"].sign(signed)).decode()})])
    with Board(works, [keys["a"]]) as board:
        board.refuses("signature", "none of the 1 keys")


def test_wrong_key(works, keys, tmp_path):
    works.sign(push(works), Key(tmp_path, "stranger"), version=1)
    with Board(works, [keys["a"], keys["b"]]) as board:
        board.refuses("signature", "none of the 2 keys")


def test_signature_of_another_image(works, keys):
    other = works.push("other", image(files("v0")))
    digest = push(works)
    payload = factory.simple_payload(works.repository, other, version=1)
    works.add_signatures(digest, [(SIMPLE, payload, {SIGNATURE: base64.b64encode(keys["a"].sign(payload)).decode()})])
    with Board(works, [keys["a"]]) as board:
        board.refuses("signature", "signs another image", other[:30])


def test_one_bad_signature_harms_no_good_one(works, keys, tmp_path):
    digest = push(works)
    works.sign(digest, Key(tmp_path, "stranger"), version=9)
    works.sign(digest, keys["a"], version=1)
    with Board(works, [keys["a"]]) as board:
        board.installs("v1")


@pytest.mark.parametrize("payload, words", [
    ({"kind": "atomic container signature"}, "type: want"),
    ({"version": "1.2"}, "version: want a whole number"),
    ({"version": 0}, "without a version"),
    ({}, "without a version"),
])
def test_signed_but_not_right(works, keys, payload, words):
    works.sign(push(works), keys["a"], **payload)
    with Board(works, [keys["a"]]) as board:
        board.refuses("older" if "without" in words else "signature", words)


def test_duplicate_keys_in_a_signed_payload(works, keys):
    digest = push(works)
    payload = factory.simple_payload(works.repository, digest, version=1)[:-1] + b',"optional":{"version":9}}'
    works.add_signatures(digest, [(SIMPLE, payload, {SIGNATURE: base64.b64encode(keys["a"].sign(payload)).decode()})])
    with Board(works, [keys["a"]]) as board:
        board.refuses("format", "twice in one object")


def test_swapped_repository(works, keys):
    """An image of another product, properly signed for that, at this product's tag."""
    works.sign(push(works), keys["a"], repository="fleet/camera", version=1)
    with Board(works, [keys["a"]]) as board:
        board.refuses("signature", "for repository fleet/camera", works.repository)
    with Board(works, [keys["a"]], repository="fleet/camera") as board:
        board.installs("v1")
    with Board(works, [keys["a"]], repository="any") as board:
        board.installs("v1")


def test_bundle_without_repository(works, keys):
    digest = push(works)
    works.refer(digest, BUNDLE, factory.dsse_bundle(keys["a"], factory.statement(digest, version="1")))
    with Board(works, [keys["a"]]) as board:
        board.refuses("signature", "for no repository")


# --- no way back -----------------------------------------------------------------------------------------------------


def test_older_versions(works, keys):
    old = push(works, "v1")
    works.sign(old, keys["a"], version=11)
    old_manifest = works.get("stable")
    with Board(works, [keys["a"]]) as board:
        board.installs("v1")
        works.sign(push(works, "v2"), keys["a"], version=12)
        board.installs("v2")

        works.manifest("stable", old_manifest)  # a registry that goes back to what it once had
        board.refuses("older", "version 11 is older than 12")
        good = slot(board.status(), "A" if board.status()["booted"] == "B" else "B")
        assert good["state"] == "good" and good["version"] == "v1", "the version before is still there to go back to"

        board.installs("v1", "downgrade")  # somebody at the board may
        works.sign(push(works, "v3"), keys["a"], version=11)
        board.refuses("older", "version 11 is older than 12")
        works.manifest("stable", old_manifest)
        works.sign(push(works, "v2"), keys["a"], version=12)
        board.installs("v2")
        works.manifest("stable", old_manifest)
        works.sign(old, keys["a"], version=13)  # and the signer may: a permit
        board.installs("v1")


def test_a_downgrade_that_was_refused_is_forgotten(works, keys):
    """Only what somebody asked for goes under the floor, and not what comes by itself later."""
    works.sign(push(works, "v1"), keys["a"], version=11)
    old_manifest = works.get("stable")
    with Board(works, [keys["a"]], update={"poll_interval": 1, "stable": 60}) as board:
        board.wait(lambda s: s["update"]["state"] == "trial", 20, "the trial of v1")
        board.order("confirm")
        works.sign(push(works, "v2"), keys["a"], version=12)
        board.wait(lambda s: s["update"]["state"] == "trial", 20, "the trial of v2")
        code, text = board.agentctl_raw("downgrade")
        assert code == 1 and "not while the agent is trial" in text
        works.manifest("stable", old_manifest)
        board.order("confirm")
        failure = board.wait(lambda s: s["last_failure"], 20, "a refusal")["last_failure"]
        assert failure["cause"] == "older" and "version 11 is older than 12" in failure["text"], failure["text"]
        assert board.status()["booted"] == "A"


def test_floor_rises_only_when_confirmed(works, keys):
    works.sign(push(works, "v2"), keys["a"], version=2)
    with Board(works, [keys["a"]], update={"stable": 3600}) as board:
        board.agentctl("update")
        board.wait(lambda s: s["update"]["state"] == "trial", 20)
        board.agentctl("rollback")
        board.wait(lambda s: s["booted"] == "A" and s["update"]["state"] == "idle", 20)
        works.sign(push(works, "v1"), keys["a"], version=1)
        board.agentctl("update")
        board.wait(lambda s: s["update"]["state"] == "trial", 20)


def restart(board, record=None, copies=()):
    """Cut its power, damage these copies of a record, and start it."""
    board.power_cut()
    for copy in copies:
        path = board.dir / "state" / f"{record}.{copy}"
        path.write_bytes(flip(path.read_bytes(), 40))
    board.start()
    board.wait(lambda s: s["update"]["state"] == "idle", 20, "its start")


def test_damaged_floor(works, keys):
    """It is not taken for none: neither at once, nor by a later start, nor by what is confirmed without a version."""
    works.sign(push(works, "v1"), keys["a"], version=12)
    with Board(works, [keys["a"]]) as board:
        board.installs("v1")
        works.sign(push(works, "v2"), keys["a"], version=11)
        for copies in (0,), (1,):
            restart(board, "trust", copies)
            board.refuses("older", "version 11 is older than 12")

        restart(board, "trust", (0, 1))
        works.sign(push(works, "v3"), keys["a"], version=13)
        for _ in range(2):
            board.refuses("older", "version 13", "not known", "`agentctl downgrade`")
            restart(board)
        board.installs("v3", "downgrade")
        works.sign(push(works, "v4"), keys["a"], version=12)
        board.refuses("older", "version 12 is older than 13")


def test_damaged_root(works, keys):
    """It brings no revoked key back."""
    a, b, _ = keys.values()
    works.sign(push(works, "v1"), a, version=1)
    works.notice("slipway-root", root(1, b), a)
    with Board(works, [a]) as board:
        board.refuses("signature", "none of the 1 keys")
        restart(board, "stage/root", (0, 1))
        board.refuses("format", "trust", "record root")


# --- root, brake, age ------------------------------------------------------------------------------------------------


def root(version, *keys, threshold=1):
    return "\n".join([f"slipway root\nversion {version}\nthreshold {threshold}",
                      *(f"key {key.spki()}" for key in keys)]) + "\n"


def test_root_replaces_keys(works, keys):
    a, b, c = keys.values()
    works.sign(push(works, "v1"), a, version=1)
    with Board(works, [a]) as board:
        works.notice("slipway-root", root(1, c), c)  # nobody this board knows
        board.installs("v1")

        works.notice("slipway-root", root(2, b), a)
        works.sign(push(works, "v2"), a, version=2)
        board.refuses("signature", "none of the 1 keys")  # a is revoked
        works.sign(push(works, "v3"), b, version=2)
        board.installs("v3")

        works.notice("slipway-root", root(1, a), a)  # an old one, or one by a revoked key, changes nothing
        works.sign(push(works, "v4"), a, version=3)
        board.refuses("signature", "none of the 1 keys")
        works.notice("slipway-root", root(3, a, c, threshold=2), b)
        works.sign(push(works, "v5"), a, c, version=3)
        board.installs("v5")


def test_brake(works, keys):
    works.sign(push(works, "v1"), keys["a"], version=1)
    brake = f"slipway brake\nrepository {works.repository}\nreason do not go on\n"
    with Board(works, [keys["a"]], threshold=1) as board:
        works.notice("stable.brake", brake, keys["a"])
        with spared(board):
            board.agentctl("update")
            status = board.wait(lambda s: "brake" in s["update"]["detail"], 20)
        assert "do not go on" in status["update"]["detail"]
        assert status["last_failure"] is None, "to be held is no failure"

        works.notice("stable.brake", brake, keys["b"])  # a stranger's
        board.installs("v1")
        works.notice("stable.brake", brake.replace(works.repository, "fleet/camera"), keys["a"])  # another product's
        works.sign(push(works, "v2"), keys["a"], version=2)
        board.installs("v2")


def test_min_age_and_max_age(works, keys):
    works.sign(push(works, "v1"), keys["a"], version=1)
    with Board(works, [keys["a"]], update={"poll_interval": 1}, min_age=6, max_age=9) as board:
        board.wait(lambda s: "min_age" in s["update"]["detail"], 20)
        began = time.monotonic()
        board.wait(lambda s: s["update"]["state"] == "installing" or s["booted"] == "B", 20)
        assert time.monotonic() - began > 3
        board.wait_version("v1", 20)
        board.wait(lambda s: "has not moved" in s["update"]["detail"], 30)


def test_min_age_counts_across_a_restart(works, keys):
    works.sign(push(works, "v1"), keys["a"], version=1)
    with Board(works, [keys["a"]], update={"poll_interval": 1}, min_age=3600) as board:
        board.wait(lambda s: "min_age" in s["update"]["detail"], 20)
        began = time.monotonic()
        time.sleep(2)
        restart(board)
        status = board.wait(lambda s: "min_age" in s["update"]["detail"], 20)
        seen = int(re.search(r"seen (\d+) s ago", status["update"]["detail"])[1])
        assert seen >= int(time.monotonic() - began) - 1, "counted anew"


def test_off_is_said_aloud(works, keys):
    push(works)
    with Board(works, [keys["a"]], policy="off") as board:
        board.installs("v1")
        assert "SIGNATURES OFF" in board.agentctl("status")


# --- known bad -------------------------------------------------------------------------------------------------------


@pytest.fixture(name="gullible", scope="module")
def fixture_gullible(tmp_path_factory):
    """The agent with a trust_key_verify() that says yes to everything."""
    return relink(tmp_path_factory.mktemp("gullible"), "agent/trust/keys.c", "trust_key_verify",
                  '#include "trust/keys.h"\n'
                  "enum verdict trust_key_verify(struct trust_keys *k, uint32_t at, const struct trust_signed *s,\n"
                  "                              const struct digest *subject)\n"
                  "{ (void)k; (void)at; (void)s; (void)subject; return VERDICT_MATCH; }\n")


def test_an_agent_that_does_not_verify_is_caught(works, keys, tmp_path, gullible):
    """What test_wrong_key refuses, it installs."""
    works.sign(push(works), Key(tmp_path, "stranger"), version=1)
    with Board(works, [keys["a"]], program=gullible) as board:
        board.installs("v1")


@pytest.fixture(name="intruder", scope="module")
def fixture_intruder(tmp_path_factory):
    """The agent with an agentd that writes to the machine and to the active slot when one of its workers has ended."""
    return relink(tmp_path_factory.mktemp("intruder"), "agent/update/worker.c", "worker_reap", r"""
        #include <fcntl.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <unistd.h>
        #include "update/worker.h"
        bool reap_really(struct worker *w, pid_t pid, int status, long maxrss_kib);
        bool worker_reap(struct worker *w, pid_t pid, int status, long maxrss_kib)
        {
            char path[512];
            snprintf(path, sizeof path, "%s/slot-a/intruder", getenv("SLIPWAY_SIM_DIR"));
            close(open(path, O_CREAT | O_WRONLY, 0644));
            close(open("/etc/slipway-intruder", O_CREAT | O_WRONLY, 0644));
            return reap_really(w, pid, status, maxrss_kib);
        }
        """, original="reap_really")


def test_an_agent_that_writes_elsewhere_is_caught(works, keys, intruder, around):
    before = around.changes()
    push(works)
    with Board(works, [keys["a"]], program=intruder) as board:
        with pytest.raises(AssertionError, match="written to: slot-a.*intruder"):
            board.refuses("unsigned")
    found = [path for path in around.changes() if path not in before]
    assert found == ["/etc/slipway-intruder"]
    assert not pathlib.Path("/etc/slipway-intruder").exists(), "behind the fence only"
    around.forget(*found)
