"""OCI image layouts made by hand, for what no tool would write.

    layout = Layout(folder, [tar, tar], compress=CODECS["zstd"], config={...})
    registry.upload(layout.source, "a/b:tag")
"""
import hashlib
import json
import pathlib
import struct
import subprocess

LAYER = "application/vnd.oci.image.layer.v1.tar"
HALF = 3 << 20


def _tool(*command):
    return lambda data: subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout


def _pieces(pack, between=b""):
    """Each HALF bytes a member or frame of its own, whatever stands `between` them."""
    return lambda data: between + b"".join(pack(data[at:at + HALF]) + between for at in range(0, len(data), HALF))


_gzip, _zstd = _tool("gzip", "-1nc"), _tool("zstd", "-1qc")
SKIPPABLE = struct.pack("<II", 0x184D2A53, 9) + b"skip this"
CODECS = {  # name: (suffix of the media type, function)
    "tar": ("", bytes),
    "gzip": ("+gzip", _gzip),
    "gzip, many members": ("+gzip", _pieces(_gzip)),
    "zstd": ("+zstd", _zstd),
    "zstd, window of 8 MiB": ("+zstd", _tool("zstd", "-1qc", "--long=23")),
    "zstd, many frames": ("+zstd", _pieces(_zstd)),
    "zstd, skippable frames": ("+zstd", _pieces(_zstd, SKIPPABLE)),
    "lz4": ("+lz4", _tool("lz4", "-1qc")),
    "lz4, many frames": ("+lz4", _pieces(_tool("lz4", "-1qc"), SKIPPABLE)),
}


class Layout:
    """`layers` are tars (bytes or paths), the lowest first; `compress` the media type's suffix and a function of a tar
    that returns a blob, or a blob and its annotations. `source` is what skopeo calls the image. `diff_ids` are the true
    ones unless given."""

    def __init__(self, folder, layers, compress=CODECS["gzip"], config=None, diff_ids=None):
        self.dir = pathlib.Path(folder)
        self.blobs = self.dir / "blobs" / "sha256"
        self.blobs.mkdir(parents=True)
        self.source = f"oci:{self.dir}:image"
        suffix, pack = compress
        true_ids, descriptors = [], []
        for tar in layers:
            tar = tar if isinstance(tar, bytes) else pathlib.Path(tar).read_bytes()
            true_ids.append("sha256:" + hashlib.sha256(tar).hexdigest())
            packed = pack(tar)
            packed, notes = packed if isinstance(packed, tuple) else (packed, None)
            descriptors.append(self.blob(LAYER + suffix, packed) | ({"annotations": notes} if notes else {}))
        document = {"os": "linux", "architecture": "amd64", "config": config or {},
                    "rootfs": {"type": "layers", "diff_ids": diff_ids or true_ids}}
        image = self.blob("application/vnd.oci.image.config.v1+json", json.dumps(document).encode())
        media = "application/vnd.oci.image.manifest.v1+json"
        manifest = self.blob(media, json.dumps({
            "schemaVersion": 2, "mediaType": media, "config": image, "layers": descriptors}).encode())
        self.digest = manifest["digest"]
        manifest["annotations"] = {"org.opencontainers.image.ref.name": "image"}
        (self.dir / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
        (self.dir / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def blob(self, media, data):
        """Store `data`. Returns its descriptor."""
        digest = hashlib.sha256(data).hexdigest()
        (self.blobs / digest).write_bytes(data)
        return {"mediaType": media, "digest": "sha256:" + digest, "size": len(data)}


def unpack(layout, folder):
    """What the reference makes of a layout's folder (whose layers must be gzip or plain): the root's path."""
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:image", folder], check=True, stdout=subprocess.DEVNULL)
    return pathlib.Path(folder) / "rootfs"
