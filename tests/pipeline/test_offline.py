"""`agentctl update oci:DIR` and `oci-archive:FILE`: an image layout in place of the registry, under the same rules."""
import json
import pathlib
import subprocess
import tarfile

import pytest

from chunked import Chunked
from device import slot
from fence import spared
from layouts import CODECS, Layout
from test_chunked import Push, app, fixture_front, fixture_small, layer_of, new_device  # noqa: F401
from test_plan import fits
from test_trust import Board, fixture_cosign, fixture_keys, fixture_works, push  # noqa: F401


def copy(registry, reference, destination):
    """Out of a registry into a layout, with the tool that people have."""
    access = ["--src-cert-dir", registry.dir / "trust"] if registry.ca else ["--src-tls-verify=false"]
    subprocess.run(["skopeo", "--policy", registry.dir / "policy.json", "copy", "-q", "--preserve-digests", *access,
                    f"docker://{registry.host}/{reference}", destination], check=True, stdout=subprocess.DEVNULL)


def pack(folder, file):
    """`tar -C folder -cf file .`, as people do it."""
    with tarfile.open(file, "w") as tar:
        tar.add(folder, ".")
    return f"oci-archive:{file}"


def installs(device, source, version, name):
    before = device.status()["last_failure"]
    code, out = device.agentctl_raw(f"update {source}")
    assert code == 0, out
    status = device.wait(lambda s: s["booted"] == name or s["last_failure"] != before or "failed" in s["update"]["detail"], 60)
    assert status["booted"] == name, status
    device.wait_version(version)


def refuses(device, source, *words):
    """It fails, in the poll or in the install, with these words; nothing is booted."""
    before = device.status()
    with spared(device, f"slot-{'b' if before['booted'] == 'A' else 'a'}", "bootenv"):
        device.order(f"update {source}")
        status = device.wait(lambda s: s["update"]["state"] == "idle" and
                             (s["last_failure"] != before["last_failure"] or s["update"]["detail"]), 30)
    text = status["update"]["detail"] + (status["last_failure"] or {"text": ""})["text"]
    assert status["booted"] == before["booted"] and all(word in text for word in words), text


def no_registry(request):
    return request.answer(503)


def test_directory_and_archive(front, small, tmp_path):
    """No registry is there, and none is asked."""
    first = Push(tmp_path, front, [small, app("1", b"big" * 1000)], CODECS["gzip"], "1")
    second = Push(tmp_path, front, [small, app("2", b"big" * 1000)], CODECS["zstd"], "2")
    third = Push(tmp_path, front, [small, app("3", b"big" * 1000)], Chunked().codec, "3")
    third_source = f"oci-archive:{tmp_path / 'skopeo.tar'}"
    subprocess.run(["skopeo", "--policy", front.registry.dir / "policy.json", "copy", "-q", "--preserve-digests",
                    third.layout.source, f"{third_source}:image"], check=True, stdout=subprocess.DEVNULL)
    front.fault = no_registry
    with new_device(front, tmp_path / "device") as device:
        front.seen.clear()
        for push_, source, name in ((first, f"oci:{first.layout.dir}", "B"),
                                    (second, pack(second.layout.dir, tmp_path / "2.tar"), "A"), (third, third_source, "B")):
            plan = json.loads(device.agentctl(f"--json plan {source}"))
            assert fits(plan, "plan")["version"] == push_.version and plan["slot"] == name, plan
            installs(device, source, push_.version, name)
            push_.check(device, name)
        assert not front.seen
        device.agentctl("update")
        assert "503" in device.wait(lambda s: s["update"]["detail"], 60)["update"]["detail"], "then the registry again"


def test_the_same_trust(works, keys, tmp_path):
    """Unsigned, signed by another, older than what has run: refused for the same reasons; signed: taken."""
    def layout(version, key=None, number=None):
        digest = push(works, f"v{version}")
        source = f"oci:{tmp_path / f'{version}-{key}'}"
        copy(works.registry, f"{works.repository}:stable", f"{source}:stable")
        if key:
            tag = works.signature_tag(digest)
            works.sign(digest, keys[key], version=number or version)
            copy(works.registry, f"{works.repository}:{tag}", f"{source}:{tag}")
        return source

    unsigned, foreign, good, older = layout(1), layout(2, "b"), layout(3, "a"), layout(4, "a", 1)
    with Board(works, [keys["a"]]) as board:
        refuses(board, unsigned, "nobody signed")
        refuses(board, foreign, "signature: ")
        installs(board, good, "v3", "B")
        assert slot(board.status(), "B")["version"] == "v3"
        refuses(board, older, "older than 3")


def test_a_brake_in_the_layout(works, keys, tmp_path):
    digest = push(works, "v1")
    works.sign(digest, keys["a"], version=1)
    works.notice("stable.brake", f"slipway brake\nrepository {works.repository}\nreason it burns\n", keys["a"])
    source = f"oci:{tmp_path / 'layout'}"
    for tag in "stable", works.signature_tag(digest), "stable.brake":
        copy(works.registry, f"{works.repository}:{tag}", f"{source}:{tag}")
    with Board(works, [keys["a"]]) as board:
        board.order(f"update {source}")
        board.wait(lambda s: "the fleet's brake is on: it burns" in s["update"]["detail"], 30)


def test_as_cosign_saves_it(works, cosign, tmp_path):
    """`cosign save` puts an image and its signatures into one layout, under words of its own."""
    cosign.sign(works, push(works), "-a", "version=1")
    cosign("save", "--dir", tmp_path / "layout", f"{works.registry.host}/{works.repository}:stable")
    with Board(works, [cosign]) as board:
        refuses(board, f"oci:{tmp_path / 'layout'}", "readable for all")
    subprocess.run(["chmod", "-R", "a+rX", tmp_path / "layout"], check=True)  # as on a stick, whose files have no owner
    with Board(works, [cosign]) as board:
        installs(board, f"oci:{tmp_path / 'layout'}", "v1", "B")


def flip(folder):
    blob = max((folder / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)


def drop(folder):
    max((folder / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size).unlink()


def longer(folder):
    with open(max((folder / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size), "ab") as blob:
        blob.write(b"x")


def point_away(folder):
    """A link to what the agent's user could not read anyway, and to what it could if nothing held it back."""
    blob = max((folder / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.rename(folder.parent / "elsewhere")
    (folder.parent / "elsewhere").chmod(0o644)
    blob.symlink_to(folder.parent / "elsewhere")


def another(folder):
    index = json.loads((folder / "index.json").read_text())
    index["manifests"].append(dict(index["manifests"][0], annotations={"org.opencontainers.image.ref.name": "other"}))
    (folder / "index.json").write_text(json.dumps(index))


SPOILT = {
    "flipped": (flip, "digest mismatch"),
    "blob missing": (drop, "has no blobs/sha256/"),
    "blob too long": (longer, "want ", " bytes, got "),
    "blob outside": (point_away, "has no blobs/"),
    "two images": (another, 'names no image "stable"'),
    "no index": (lambda folder: (folder / "index.json").unlink(), "has no index.json"),
    "index is no JSON": (lambda folder: (folder / "index.json").write_text("<html>"), "index.json: "),
    "index is a folder": (lambda folder: ((folder / "index.json").unlink(), (folder / "index.json").mkdir()), "is no file"),
}


@pytest.mark.parametrize("spoil, words", [(spoil, words) for spoil, *words in SPOILT.values()], ids=SPOILT)
def test_spoilt(spoil, words, front, small, tmp_path):
    layout = Layout(tmp_path / "layout", [small], CODECS["gzip"])
    front.fault = no_registry
    with new_device(front, tmp_path / "device") as device:
        spoil(layout.dir)
        refuses(device, f"oci:{layout.dir}", *words)


def test_spoilt_archives(front, small, tmp_path):
    layout = Layout(tmp_path / "layout", [small], CODECS["gzip"])
    whole = pathlib.Path(pack(layout.dir, tmp_path / "whole.tar").partition(":")[2]).read_bytes()
    for name, data in {"cut": whole[:len(whole) // 2], "empty": b"", "text": b"no tar at all " * 100}.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "whole.gz").write_bytes(CODECS["gzip"][1](whole))
    with new_device(front, tmp_path / "device") as device:
        for name in "cut", "empty", "text", "whole.gz":
            refuses(device, f"oci-archive:{tmp_path / name}", f"oci-archive:{tmp_path / name}: ")


def test_only_parts_are_read(front, small, tmp_path):
    """A layout is no reason to read everything: of a large image on a slow stick, too, only what changed is wanted."""
    first, second = (Push(tmp_path, front, [small, app(version, b"")], Chunked().codec, version) for version in ("1", "2"))
    front.fault = no_registry
    with new_device(front, tmp_path / "device") as device:
        installs(device, f"oci:{first.layout.dir}", "1", "B")
        said = json.loads(device.agentctl(f"--json plan oci:{second.layout.dir}"))
        assert said["cost"]["download"]["bytes"] < layer_of(second.layout, 1)["size"]
        layer = layer_of(second.layout, 0)["digest"].partition(":")[2]
        (second.layout.blobs / layer).unlink()
        installs(device, f"oci:{second.layout.dir}", "2", "A")


@pytest.mark.parametrize("words, says", [
    ("update oci=nonsense", "want oci:DIRECTORY or oci-archive:FILE, not oci=nonsense"),
    ("update oci:/no/such/place", "there is no /no/such/place"),
    ("update docker://a/b", "want oci:DIRECTORY"),
])
def test_what_is_no_source(words, says, front, tmp_path):
    with new_device(front, tmp_path / "device") as device:
        code, out = device.agentctl_raw(words)
        assert code == 2 and says in out
