"""Whatever a registry, a network or a full slot does wrong: the whole agent says what it expected, what came and where,
in one line; leaves the active slot and the boot record alone; and installs well at the next poll after the fault.
"""
import contextlib
import dataclasses
import gzip
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import threading
import typing

import pytest

from device import SimDevice, slot
from fence import spared
from front import INDEX, MANIFEST, Front, Image, boot_environment, descriptor, digest_of, put_manifest, tar_of
from images import make_registry

REPOSITORY, TAG = "fleet/web", "stable"
BIG = random.Random("big").randbytes(700_000)  # does not shrink, and is more than one piece of everything
LINE_MAX = 320


@contextlib.contextmanager
def new_device(front, **options):
    with SimDevice(front, f"{REPOSITORY}:{TAG}", update={"poll_interval": 0, "stable": 60}, **options) as device:
        yield device


@pytest.fixture(name="device", scope="module")
def fixture_device(front):
    """One device for all cases: each finds what the one before left."""
    with new_device(front) as device:
        device.start()
        device.wait(lambda status: True)
        install(device, front, make_image("v0"))
        yield device


@pytest.fixture(name="stalled", scope="module", autouse=True)
def fixture_stalled(plain, certificates):
    """A device that meets a server that falls silent: begun before all cases and looked at after them, as it takes
    half a minute to notice."""
    gate = threading.Event()
    image = make_image("stalled")
    image.put(plain, "fleet/stalled", TAG)
    with Front(plain, certificates) as front:
        layer = digest_of(image.layers[0])
        front.fault = lambda r: layer not in r.path or r.first_byte() > 0 or stall(front, r, gate)
        with SimDevice(front, f"fleet/stalled:{TAG}", update={"poll_interval": 0, "stable": 1}) as device:
            device.start()
            device.wait(lambda status: True)
            device.order("update")
            yield device, front
        gate.set()


def stall(front, request, gate):
    status, body, fields = front.fetch(request)
    request.halt(body, 100_000, gate, status, **fields)


def make_image(version, **more):
    """Two layers, the lower one large, and like none that a device has streamed before."""
    return Image(version, [tar_of({"bin/": None, "bin/sh": BIG, "bin/name": version.encode(), "lib": "bin"}),
                           tar_of({"etc/": None, "etc/version": version.encode()})], **more)


def install(device, front, image):
    image.put(front.registry, REPOSITORY, TAG)
    version = image.config["config"]["Labels"]["org.opencontainers.image.version"]
    device.order("update")
    device.wait(lambda s: s["update"]["state"] == "trial", 30, "the trial")
    device.order("confirm")
    status = device.wait_version(version, 10)
    assert (device.slot(status["booted"]) / "etc" / "version").read_bytes() == version.encode()
    return status


# --- the cases -------------------------------------------------------------------------------------------------------

@dataclasses.dataclass
class Case:
    """`spoil(front, image)` arranges the fault. `cause` and `words` must be in the chain, once the names in braces
    are filled in: {host} is the registry's, {layer} {config} {manifest} are digests."""
    name: str
    spoil: typing.Callable
    cause: str
    words: list
    poll: bool = False  # seen before anything is begun


def on_path(part, fault):
    """Do this to what has `part` in its path."""
    def spoil(front, _):
        front.fault = lambda request: True if part not in request.path else fault(front, request)
    return spoil


def on_layer(fault, at=0):
    def spoil(front, image):
        image.put(front.registry, REPOSITORY, TAG)
        digest = digest_of(image.layers[at])
        front.fault = lambda request: True if digest not in request.path else fault(front, request)
    return spoil


def on_manifest(fault):
    def spoil(front, image):
        digest = image.put(front.registry, REPOSITORY, TAG)
        front.fault = lambda request: True if digest not in request.path else fault(front, request)
    return spoil


def flipped(front, request):
    status, body, fields = front.fetch(request)
    at = len(body) // 2
    request.answer(status, body[:at] + bytes([body[at] ^ 1]) + body[at + 1:], **fields)


def resized(by):
    def fault(front, request):
        status, body, fields = front.fetch(request)
        request.answer(status, (body + b"xxxx")[:len(body) + by], **fields)
    return fault


def status_of(number, body=b'{"errors":[{"code":"X"}]}', **fields):
    return lambda front, request: request.answer(number, body, **fields)


def cut_without_progress(front, request):
    _, body, fields = front.fetch(request)
    at = request.first_byte()
    if at:  # a part: what it begins with is there
        return request.answer(206, b"", length=len(body), **fields)
    return request.answer(200, body[:100_000], length=len(body), **fields)


def range_from_elsewhere(front, request):
    """A 200 that is cut, and then a 206 that goes on at another place."""
    at = request.first_byte()
    status, body, fields = front.fetch(request)
    if at == 0:
        return request.answer(status, body[:100_000], length=len(body), **fields)
    fields["Content_Range"] = f"bytes {at - 5}-{at + len(body) - 1}/{at + len(body)}"
    return request.answer(206, b"12345" + body, **fields)


def other_blob_in_the_middle(front, request):
    """Cut, and gone on with by another content at the right place: only the digest can tell."""
    at = request.first_byte()
    status, body, fields = front.fetch(request)
    if at == 0:
        return request.answer(status, body[:100_000], length=len(body), **fields)
    return request.answer(206, bytes(len(body)), **fields)


def presents(name):
    return lambda front, image: front.present(name)


def tag_is(data, media=MANIFEST):
    """The tag leads to a document that no registry takes."""
    def spoil(front, _):
        def fault(request):
            if "/manifests/" not in request.path:
                return True
            return request.answer(200, data, Content_Type=media, Docker_Content_Digest=digest_of(data))
        front.fault = fault
    return spoil


def manifest_with(**members):
    def spoil(front, image):
        manifest = json.loads(image.seal().manifest_bytes)
        manifest.update(members)
        tag_is(json.dumps(manifest).encode())(front, image)
    return spoil


def put_config(change):
    """Put it as ever, with another config."""
    def spoil(front, image):
        change(image)
        image.put(front.registry, REPOSITORY, TAG)
    return spoil


def garbage_config(image):
    image.config_bytes = b'{"os":"linux", <html>'


def wrong_diff_id(image):
    image.config["rootfs"]["diff_ids"][0] = digest_of(b"something else")


def diff_id_missing(image):
    del image.config["rootfs"]["diff_ids"][0]


def other_platform(image):
    image.config["architecture"] = "s390x"


def truncated_gzip(image):
    image.layers[0] = image.layers[0][:len(image.layers[0]) // 2]


def damaged_gzip(image):
    image.layers[0] = b"\x1f\x8b\x08" + random.Random("gzip").randbytes(5000)


def no_tar(image):
    image.layers[0] = gzip.compress(b"this is no tar" * 100)
    image.config["rootfs"]["diff_ids"][0] = digest_of(b"this is no tar" * 100)


def strange_layer(image):
    image.media[0] = "application/vnd.example.layer.v1.rar"


def index_without_platform(front, image):
    image.put(front.registry, REPOSITORY, "part")
    entry = descriptor(MANIFEST, image.manifest_bytes, platform={"os": "linux", "architecture": "riscv64"})
    data = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
    put_manifest(front.registry, REPOSITORY, TAG, data, INDEX)


def tag_absent(front, _):
    on_path(f"/manifests/{TAG}", lambda front, request: request.answer(*absent(front, request)))(front, None)


def absent(front, request):
    """The registry's own words for a tag that is not there."""
    request.path = request.path.replace(TAG, "nothing")
    status, body, _ = front.fetch(request)
    return status, body


CASES = [
    Case("tag absent", tag_absent, "", ["{host}/fleet/web:stable", "no such repository or tag", "404"], poll=True),
    Case("status 500", on_path("/manifests/", status_of(500)), "", ["{host}", "want status 200", "500"], poll=True),
    Case("status 401", on_path("/v2/", status_of(401, WWW_Authenticate='Basic realm="x"')), "",
         ["{host}", "`credentials`", "password"], poll=True),
    Case("status 403", on_path("/v2/", status_of(403)), "", ["{host}", "refused", "403"], poll=True),
    Case("redirect loop", on_path("/manifests/", lambda front, r: r.answer(307, Location=r.path)), "",
         ["{host}", "more than 5 redirects"], poll=True),
    Case("page of a hotspot", on_path("/v2/", status_of(200, b"<html>", Content_Type="text/html")), "",
         ["{host}", "want a manifest or index", "text/html"], poll=True),
    Case("certificate expired", presents("expired"), "", ["{host}", "expired; the board's clock says 20"], poll=True),
    Case("certificate of another", presents("other"), "", ["{host}", "does not match"], poll=True),
    Case("certificate of a stranger", presents("foreign"), "", ["{host}", "not correctly signed", "`ca` is {ca}"],
         poll=True),

    Case("manifest flipped", on_manifest(flipped), "digest", ["manifest", "want {manifest}", "got sha256:"]),
    Case("manifest is garbage", tag_is(b'{"schemaVersion":2,'), "format", ["manifest", "JSON"]),
    Case("manifest is a list", tag_is(b"[]"), "format", ["manifest", "object"]),
    Case("manifest refused", on_manifest(status_of(403)), "auth", ["{host}", "403", "manifest"]),
    Case("index as manifest", tag_is(b'{"schemaVersion":2,"manifests":[]}', MANIFEST), "policy", ["manifest", "index"]),
    Case("platform missing", index_without_platform, "platform", ["index", "want linux/amd64", "linux/riscv64"]),
    Case("config of another platform", put_config(other_platform), "platform",
         ["config", "linux/amd64", "linux/s390x"]),
    Case("layer of unknown type", put_config(strange_layer), "policy", ["layers[0]", "vnd.example.layer.v1.rar"]),
    Case("no layers", manifest_with(layers=[]), "format", ["manifest", "layers: none"]),
    Case("config is garbage", put_config(garbage_config), "format", ["config", "JSON"]),
    Case("diff_id wrong", put_config(wrong_diff_id), "digest",
         ["layer 1 of 2", "diff_id", "want " + digest_of(b"something else"), "got sha256:"]),
    Case("diff_id missing", put_config(diff_id_missing), "format", ["config", "1 diff_id", "2 layers"]),

    Case("layer flipped", on_layer(flipped), "digest", ["layer 1 of 2", "want {layer}", "got sha256:"]),
    Case("layer short", on_layer(resized(-1)), "size", ["layer 1 of 2", "{host}", "want {size} bytes, got {less}"]),
    Case("layer long", on_layer(resized(1)), "size", ["layer 1 of 2", "{host}", "want {size} bytes, got {more}"]),
    Case("layer absent", on_layer(status_of(404)), "absent", ["layer 1 of 2", "{host}", "no such content", "404"]),
    Case("layer refused", on_layer(status_of(401, WWW_Authenticate='Basic realm="x"')), "auth",
         ["layer 1 of 2", "{host}", "password"]),
    Case("layer cut for good", on_layer(cut_without_progress), "network",
         ["layer 1 of 2", "{host}", "cut after 100000 of {size} bytes"]),
    Case("layer goes on elsewhere", on_layer(range_from_elsewhere), "registry",
         ["layer 1 of 2", "{host}", "want the bytes from 100000 on", "99995"]),
    Case("layer goes on as another", on_layer(other_blob_in_the_middle), "digest", ["layer 1 of 2", "want {layer}"]),
    Case("layer redirected in circles", on_layer(lambda front, r: r.answer(307, Location=r.path)), "registry",
         ["layer 1 of 2", "{host}", "redirects"]),
    Case("layer is an HTML page", on_layer(status_of(200, b"<html>", Content_Type="text/html")), "registry",
         ["layer 1 of 2", "{host}", "HTML"]),
    Case("gzip truncated", put_config(truncated_gzip), "format", ["layer 1 of 2", "ends in the middle"]),
    Case("gzip damaged", put_config(damaged_gzip), "format", ["layer 1 of 2", "gzip"]),
    Case("no tar within", put_config(no_tar), "format", ["layer 1 of 2", "tar"]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_fault(device, front, case):
    version = case.name.replace(" ", "-")
    spoilt = make_image(version)
    front.lift()
    case.spoil(front, spoilt)
    chain = fail(device, case)
    size = len(spoilt.layers[0])
    known = {"host": front.host, "layer": digest_of(spoilt.layers[0]),
             "manifest": digest_of(spoilt.seal().manifest_bytes), "ca": front.ca, "size": size, "less": size - 1,
             "more": size + 1}
    print(chain)
    missing = [word for word in case.words if word.format(**known) not in chain]
    assert not missing, chain

    front.lift()
    install(device, front, make_image(version + "-again"))


def fail(device, case):
    """Have the device try, and see that nothing came of it. Returns the chain."""
    before = device.status()
    booted = before["booted"]
    environment = boot_environment(device)
    with spared(device, device.slot(other(booted)).name, "bootenv"):
        device.order("update")
        status = device.wait(lambda s: s["update"]["state"] == "idle", 60, "the end of the attempt")

    if case.poll:
        chain = status["update"]["detail"]
        assert chain.startswith("poll failed: ")
        assert status["last_failure"] == before["last_failure"], "a registry out of reach is no failure of a version"
        assert boot_environment(device) == environment
    else:
        failure = status["last_failure"]
        assert failure != before["last_failure"] and failure["event"] == "install"
        assert failure["cause"] == case.cause, failure
        chain = failure["text"]
        code, why = device.agentctl_raw("why")
        assert code == 5 and solid(chain) in solid(why), why
        check_other_slot(device, before, status, chain.startswith("layer"), environment)
    assert "\n" not in chain and len(chain) < LINE_MAX
    assert status["booted"] == booted
    return chain


# --- what is gone on with -------------------------------------------------------------------------------------------

def cut_each(count):
    """Send this many bytes of whatever is asked for, and hang up."""
    def fault(front, request):
        status, body, fields = front.fetch(request)
        request.answer(status, body[:count], length=len(body), **fields)
    return fault


@pytest.mark.parametrize("fault, requests", [(cut_each(150_000), 5), (cut_each(690_000), 2)])
def test_cuts_are_resumed(device, front, fault, requests):
    image = make_image(f"cut-{requests}")
    front.lift()
    on_layer(fault)(front, image)
    install(device, front, image)
    offsets = [r.first_byte() for r in front.seen if digest_of(image.layers[0]) in r.path]
    assert len(offsets) == requests and offsets[0] == 0
    step = offsets[1]
    assert offsets == [step * n for n in range(requests)], "each byte is sent once"


def test_silence_is_ended(stalled):
    device, front = stalled
    device.wait_version("stalled", 60)
    first, second = [r for r in front.seen if "/blobs/" in r.path and "Range" in r.headers or r.is_halted]
    assert 0 < second.first_byte() <= 100_000
    assert 29 < second.came_at - first.came_at < 45


# --- the device's own part -------------------------------------------------------------------------------------------

ROLES = ["fetch", "decode", "stage"]


def workers(device):
    """The processes of a deployment: {role: pid}."""
    children = pathlib.Path(f"/proc/{device.process.pid}/task/{device.process.pid}/children").read_text().split()
    return {pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1].decode(): int(pid) for pid in children}


@pytest.mark.parametrize("role", ROLES)
def test_a_process_dies(device, front, role):
    image = make_image(f"without-{role}")
    gate = threading.Event()

    def hold(front, request):
        status, body, fields = front.fetch(request)
        request.halt(body, 300_000, gate, status, **fields)

    front.lift()
    on_layer(hold)(front, image)
    device.order("update")
    device.wait(lambda s: s["update"]["detail"].startswith("layer"), 20, "the layer")
    os.kill(workers(device)[role], signal.SIGKILL)
    status = device.wait(lambda s: s["update"]["state"] == "idle", 20, "the end of the attempt")
    gate.set()
    assert f"{role} was ended by signal 9 (memory ceiling" in status["last_failure"]["text"]
    front.lift()
    install(device, front, make_image(f"without-{role}-again"))


@contextlib.contextmanager
def small_device(front, size):
    """A device whose slot B is a filesystem that holds this much, and its slot B."""
    with new_device(front) as device:
        device.fence = ()  # behind which there is no mount of later
        place = device.slot("B")
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", place], check=True)
        try:
            device.start()
            device.wait(lambda status: True)
            front.lift()
            yield device, place
        finally:
            device.power_cut()
            subprocess.run(["umount", place], check=True)


def test_slot_is_full(front):
    with small_device(front, "size=512k") as (device, place):
        image = make_image("full")
        image.put(front.registry, REPOSITORY, TAG)
        chain = fail(device, Case("full", None, "space", []))
        print(chain)
        assert "layer 1 of 2" in chain and "bin/sh" in chain and str(len(BIG)) in chain
        subprocess.run(["mount", "-o", "remount,size=8m", place], check=True)
        install(device, front, make_image("enough"))


@pytest.mark.parametrize("size, files, words", [
    ("size=8m", {"zeros": bytes(256 << 20)}, "file of 268435456 bytes, the slot has"),
    ("nr_inodes=1000", {f"{n // 1000}-{n}": b"" for n in range(60_000)}, "need 1 inode"),
], ids=["a bomb", "60,000 inodes"])
def test_more_than_the_slot_has(size, files, words, front):
    """A layer of a few hundred kilobytes."""
    with small_device(front, size) as (device, place):
        image = Image("bomb", [tar_of(files)])
        assert len(image.layers[0]) < 2 << 20
        image.put(front.registry, REPOSITORY, TAG)
        chain = fail(device, Case("bomb", None, "space", []))
        assert "layer 1 of 1" in chain and words in chain, chain
        assert not (place / "zeros").exists() or (place / "zeros").stat().st_size == 0


def test_layer_larger_than_the_slot(front):
    """It is refused before anything is written, and before the version in the slot is given up."""
    with small_device(front, "size=1m") as (device, place):
        (place / "old").write_text("what was there")
        before = device.status()["slots"]
        big = Image("big", [tar_of({"big": bytes(160 << 20)}), tar_of({"small": b"x"})], lambda tar: tar, "")
        big.put(front.registry, REPOSITORY, TAG)
        chain = fail(device, Case("big", None, "space", []))
        assert "takes layers of up to 152" in chain and "layer 1 of 2 has 16778" in chain, chain
        assert [path.name for path in place.iterdir()] == ["old"] and device.status()["slots"] == before
        assert not [r for r in front.seen if r.path.endswith(digest_of(big.layers[1]))], "a layer was fetched"


def test_credentials(tmp_path):
    """A real registry with passwords: none, a wrong one, the right one, each taken up by the next poll."""
    auth = tmp_path / "auth.json"

    def write(password):
        auth.write_text(json.dumps({"auths": {protected.host: {"username": "board", "password": password}}}))
        auth.chmod(0o600)

    with make_registry(tmp_path / "protected", auth=("board", "right")) as protected:
        write("wrong")
        with SimDevice(protected, f"{REPOSITORY}:{TAG}", update={"poll_interval": 0, "stable": 60},
                       registry={"credentials": auth}) as device:
            device.start()
            device.wait(lambda status: True)
            chain = fail(device, Case("wrong", None, "", [], poll=True))
            assert f"{protected.host}/{REPOSITORY}:{TAG}: credentials refused (status 401)" in chain
            assert "wrong" not in chain
            auth.write_text("{")
            chain = fail(device, Case("broken", None, "", [], poll=True))
            assert f"credentials: {auth}: " in chain
            write("right")
            chain = fail(device, Case("empty", None, "", [], poll=True))
            assert "no such repository or tag" in chain


def check_other_slot(device, before, after, written, environment):
    """Half written, and then never to be started; or not begun, and still as good as it was."""
    booted = after["booted"]
    if not written:
        assert slot(after, other(booted)) == slot(before, other(booted))
        assert boot_environment(device) == environment
        return
    environment = boot_environment(device)
    assert slot(after, other(booted))["state"] == "writing"
    assert environment["BOOT_ORDER"].split()[0] == booted
    assert environment[f"BOOT_{other(booted)}_LEFT"] == "0", "a half-written slot must not be started"


def solid(text):
    """Without what `agentctl why` lays a chain out with: line breaks, indents, and its links' colons."""
    return re.sub(r"[\s:]", "", text)


def other(name):
    return "B" if name == "A" else "A"
