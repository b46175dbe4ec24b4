"""A factory that has no cosign: images of a few bytes, signatures made by openssl, pushed with nothing but HTTP.

    factory = Factory(registry, "fleet/web")
    digest = factory.push("stable", image({"app/version": b"v1"}))
    factory.sign(digest, key, version=1)
"""
import base64
import gzip
import hashlib
import io
import json
import ssl
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
NOTICE = "application/vnd.dev.slipway.notice.v1"
SIGNATURE = "dev.cosignproject.cosign/signature"
SIGN_PREDICATE = "https://sigstore.dev/cosign/sign/v1"


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def compact(value):
    return json.dumps(value, separators=(",", ":")).encode()


def openssl(*command, data=b""):
    return subprocess.run(["openssl", *command], input=data, check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE).stdout


class Key:
    """A key pair in files: `private` and `public`."""

    def __init__(self, folder, name, curve="prime256v1"):
        self.private = folder / f"{name}.key"
        self.public = folder / f"{name}.pem"
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{curve}", "-out", self.private)
        self.public.write_bytes(openssl("pkey", "-in", self.private, "-pubout"))

    def sign(self, data, hash_name="sha256"):
        return openssl("dgst", f"-{hash_name}", "-sign", self.private, data=data)

    def spki(self):
        return base64.b64encode(openssl("pkey", "-pubin", "-in", self.public, "-outform", "DER")).decode()


def layer(files):
    """A tar of `files` (path -> bytes), compressed, and its diff_id."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as out:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size, info.mode, info.mtime = len(data), 0o755, 1767225600
            out.addfile(info, io.BytesIO(data))
    return gzip.compress(tar.getvalue(), mtime=0), sha256(tar.getvalue())


def image(files, arch="amd64", annotations=None, version="v1", **runtime):
    """The blobs of an image, and its manifest."""
    blob, diff_id = layer(files)
    config = compact({"os": "linux", "architecture": arch, "rootfs": {"type": "layers", "diff_ids": [diff_id]},
                      "config": {"Labels": {"org.opencontainers.image.version": version}, **runtime}})
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST,
                "config": {"mediaType": CONFIG, "digest": sha256(config), "size": len(config)},
                "layers": [{"mediaType": LAYER, "digest": sha256(blob), "size": len(blob)}]}
    if annotations:
        manifest["annotations"] = annotations
    return [config, blob], compact(manifest)


def simple_payload(reference, digest, kind="cosign container image signature", **optional):
    return compact({"critical": {"identity": {"docker-reference": reference},
                                 "image": {"docker-manifest-digest": digest}, "type": kind},
                    "optional": optional or None})


def statement(digest, predicate=SIGN_PREDICATE, name=None, **annotations):
    subject = {"digest": {"sha256": digest.removeprefix("sha256:")}, "annotations": annotations}
    if name:
        subject["name"] = name
    return compact({"_type": "https://in-toto.io/Statement/v1", "subject": [subject], "predicateType": predicate,
                    "predicate": {}})


def bundle(**content):
    return compact({"mediaType": BUNDLE,
                    "verificationMaterial": {"publicKey": {"hint": "x"}}, **content})


def dsse_bundle(key, payload, hash_name="sha256", kind="application/vnd.in-toto+json"):
    """What cosign 3 writes."""
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    return bundle(dsseEnvelope={"payload": base64.b64encode(payload).decode(), "payloadType": kind,
                                "signatures": [{"sig": base64.b64encode(key.sign(signed, hash_name)).decode()}]})


def message_bundle(key, manifest):
    """What `cosign sign-blob --new-bundle-format` writes for the manifest's bytes."""
    digest = base64.b64encode(hashlib.sha256(manifest).digest()).decode()
    return bundle(messageSignature={"messageDigest": {"algorithm": "SHA2_256", "digest": digest},
                                    "signature": base64.b64encode(key.sign(manifest)).decode()})


class Factory:
    """Pushes to one repository of a registry."""

    def __init__(self, registry, repository):
        self.registry = registry
        self.repository = repository
        scheme = "https" if registry.ca else "http"
        self.base = f"{scheme}://{registry.host}"
        self.context = ssl.create_default_context(cafile=registry.ca) if registry.ca else None

    def request(self, method, path, data=None, media="application/octet-stream", accept="*/*"):
        url = path if path.startswith("http") else f"{self.base}/v2/{self.repository}/{path}"
        ask = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": media, "Accept": accept})
        with urllib.request.urlopen(ask, context=self.context, timeout=20) as answer:
            return answer.headers, answer.read()

    def blob(self, data):
        headers, _ = self.request("POST", "blobs/uploads/", b"")
        place = headers["Location"]
        place += ("&" if "?" in place else "?") + "digest=" + sha256(data)
        self.request("PUT", place, data)
        return sha256(data)

    def manifest(self, reference, manifest, media=MANIFEST):
        self.request("PUT", f"manifests/{reference}", manifest, media)
        return sha256(manifest)

    def get(self, reference, accept=MANIFEST):
        try:
            return self.request("GET", f"manifests/{reference}", accept=accept)[1]
        except urllib.error.HTTPError:
            return None

    def delete(self, digest):
        self.request("DELETE", f"manifests/{digest}")

    def push(self, tag, blobs_and_manifest):
        blobs, manifest = blobs_and_manifest
        for blob in blobs:
            self.blob(blob)
        return self.manifest(tag, manifest)

    def push_index(self, tag, *manifests, arch="amd64"):
        """An index over manifests that are there, each for linux/`arch`."""
        return self.manifest(tag, compact({
            "schemaVersion": 2, "mediaType": INDEX,
            "manifests": [{"mediaType": MANIFEST, "digest": sha256(m), "size": len(m),
                           "platform": {"os": "linux", "architecture": arch}} for m in manifests]}), INDEX)

    def artifact(self, reference, layers, **members):
        """An artifact of `layers`: (media type, bytes, annotations)."""
        empty = b"{}"
        self.blob(empty)
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST,
                    "config": {"mediaType": CONFIG, "digest": sha256(empty), "size": len(empty)}} | members
        manifest["layers"] = [{"mediaType": media, "digest": self.blob(data), "size": len(data),
                               "annotations": annotations} for media, data, annotations in layers]
        manifest = compact(manifest)
        self.manifest(reference or sha256(manifest), manifest)
        return manifest

    def sign(self, digest, *keys, repository=None, hash_name="sha256", **optional):
        """cosign's own layout: one layer for each signature at the tag sha256-....sig, after those that are there."""
        payload = simple_payload(f"{self.registry.host}/{repository or self.repository}", digest, **optional)
        self.add_signatures(digest, [(SIMPLE, payload, {SIGNATURE: base64.b64encode(key.sign(payload, hash_name)).decode()})
                                     for key in keys])

    def add_signatures(self, digest, layers):
        tag = self.signature_tag(digest)
        old = json.loads(self.get(tag) or b'{"layers": []}')
        layers = [(entry["mediaType"], self.request("GET", "blobs/" + entry["digest"])[1], entry["annotations"])
                  for entry in old["layers"]] + layers
        self.artifact(tag, layers)

    @staticmethod
    def signature_tag(digest):
        return digest.replace(":", "-") + ".sig"

    def refer(self, digest, media, content, artifact=None):
        """An artifact that refers to `digest`, listed at the fallback tag."""
        manifest = self.artifact(None, [(media, content, {})], artifactType=artifact or media,
                                 subject={"mediaType": MANIFEST, "digest": digest, "size": 2},
                                 config={"mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256(b"{}"),
                                         "size": 2})
        tag = digest.replace(":", "-")
        old = json.loads(self.get(tag, INDEX) or b'{"manifests": []}')["manifests"]
        self.manifest(tag, compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": old + [{
            "mediaType": MANIFEST, "digest": sha256(manifest), "size": len(manifest),
            "artifactType": artifact or media}]}), INDEX)

    def notice(self, tag, text, *keys):
        """A signed notice of Slipway's own (agent/FORMAT.md): a root or a brake."""
        text = text.encode()
        self.artifact(tag, [(NOTICE, text, {SIGNATURE: base64.b64encode(key.sign(text)).decode()}) for key in keys])


def release(images, name, registry, reference, key, version, compression="gzip"):
    """Push image `name`, sign it as `version`, and only then move the tag: what a board sees at its tag is signed.
    Returns the digest."""
    repository, _, tag = reference.partition(":")
    works = Factory(registry, repository)
    digest = images.push(name, registry, f"{repository}:{name}", compression)
    works.sign(digest, key, version=version)
    works.manifest(tag, works.get(name))
    return digest
