"""A docker-registry behind a TLS server of ours that passes requests on, counts them, and spoils answers as a test
says; images made by hand, of which a test may change every byte; and how a test sees that a device was left alone."""
import gzip
import hashlib
import http.client
import io
import json
import os
import pathlib
import stat
import subprocess
import tarfile

from server import Server

OCI = "application/vnd.oci.image."
MANIFEST, INDEX, CONFIG = OCI + "manifest.v1+json", OCI + "index.v1+json", OCI + "config.v1+json"
LAYER = OCI + "layer.v1.tar"
PASSED_ON = ("Accept", "Range", "Authorization")
PASSED_BACK = ("Content-Type", "Docker-Content-Digest", "Content-Range", "WWW-Authenticate")
EPOCH = 1_700_000_000


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Front(Server):
    """`fault(request)` answers a request badly, or returns True to have it passed on. `seen` keeps all of them."""

    def __init__(self, registry, certificates):
        self.registry = registry
        self.certificates = certificates
        self.ca = certificates / "ca.crt"
        self.fault = None
        super().__init__(self.answer, self.certificate("good"))

    def certificate(self, name):
        return self.certificates / f"{name}.crt", self.certificates / f"{name}.key"

    def present(self, name):
        """Show this certificate from the next connection on."""
        self.context.load_cert_chain(*self.certificate(name))

    def lift(self):
        """Be honest again, and forget what was seen."""
        self.fault = None
        self.present("good")
        self.seen.clear()

    def answer(self, request):
        if self.fault is None or self.fault(request):
            status, body, fields = self.fetch(request)
            request.answer(status, body, **fields)

    def fetch(self, request):
        """What the registry answers: status, body and fields."""
        connection = http.client.HTTPConnection(self.registry.host, timeout=30)
        fields = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        connection.request(request.method, request.path, headers=fields)
        reply = connection.getresponse()
        body = reply.read()
        connection.close()
        return reply.status, body, {name.replace("-", "_"): reply.headers[name] for name in PASSED_BACK
                                    if name in reply.headers}

    def count(self, method, part):
        return sum(1 for request in self.seen if request.method == method and part in request.path)


def tar_of(files):
    """A tar of directories (None), files (bytes, or bytes and mode) and symlinks (str)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.mtime = EPOCH
            data, info.mode = data if isinstance(data, tuple) else (data, 0o644)
            if data is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
            else:
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data) if isinstance(data, bytes) else None)
    return out.getvalue()


class Image:
    """`tars` are layers, the lowest first. Everything is there to be spoilt before it is put into a registry."""

    def __init__(self, version, tars, compress=lambda tar: gzip.compress(tar, 1, mtime=0), suffix="+gzip", **runtime):
        self.layers = [compress(tar) for tar in tars]
        self.media = [LAYER + suffix for _ in tars]
        labels = {"org.opencontainers.image.version": version}
        self.config = {"os": "linux", "architecture": "amd64", "config": {"Labels": labels, **runtime},
                       "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]}}
        self.config_bytes = None
        self.manifest_bytes = None

    def seal(self):
        """Fill in what was not given: the bytes of config and manifest."""
        self.config_bytes = self.config_bytes or json.dumps(self.config).encode()
        self.manifest_bytes = self.manifest_bytes or json.dumps({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, self.config_bytes),
            "layers": [descriptor(media, blob) for media, blob in zip(self.media, self.layers)]}).encode()
        return self

    def put(self, registry, repository, tag):
        """Upload all of it. Returns the manifest's digest."""
        self.seal()
        for blob in [*self.layers, self.config_bytes]:
            put_blob(registry, repository, blob)
        return put_manifest(registry, repository, tag, self.manifest_bytes, MANIFEST)


def descriptor(media, data, **more):
    return {"mediaType": media, "digest": digest_of(data), "size": len(data), **more}


def put(registry, method, path, body=b"", **fields):
    connection = http.client.HTTPConnection(registry.host, timeout=30)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in fields.items()})
    reply = connection.getresponse()
    text = reply.read()
    connection.close()
    assert 200 <= reply.status < 300, f"{method} {path}: {reply.status} {text[:300]}"
    return reply.headers.get("Location")


def put_blob(registry, repository, data):
    place = put(registry, "POST", f"/v2/{repository}/blobs/uploads/").partition(registry.host)[2]
    put(registry, "PUT", f"{place}&digest={digest_of(data)}", data, Content_Type="application/octet-stream")


def put_manifest(registry, repository, tag, data, media):
    put(registry, "PUT", f"/v2/{repository}/manifests/{tag}", data, Content_Type=media)
    return digest_of(data)


def tree_of(root):
    """Everything that is in a tree, with content and metadata, for a comparison."""
    def look(path):
        info = path.lstat()
        content = None
        if stat.S_ISREG(info.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(info.st_mode):
            content = os.readlink(path)
        return (info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns, info.st_nlink, info.st_rdev, content,
                tuple((name, os.getxattr(path, name, follow_symlinks=False))
                      for name in sorted(os.listxattr(path, follow_symlinks=False))))

    root = pathlib.Path(root)
    return {str(path.relative_to(root)): look(path) for path in [root, *sorted(root.rglob("*"))]}


def boot_environment(device):
    """The boot record as U-Boot's own tool reads it."""
    where = device.dir / "fw_env.config"
    where.write_text(f"{device.dir}/bootenv 0x0 0x4000\n{device.dir}/bootenv 0x10000 0x4000\n")
    text = subprocess.run(["fw_printenv", "-c", where], check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(line.split("=", 1) for line in text.splitlines())
