"""Test images, made and pushed as a user would: by buildah, to a docker-registry.

    registry = make_registry(out / "registry")
    images = Images("qemu-armv7")             # or "sim", "qemu-arm64"
    images.push("v1", registry, "fleet/web:stable")
    images.push("v2", registry, "fleet/web:stable", compression="zstd")
    registry.stop()

Each family is a chain of images: `base` (Debian packages) <- `os` (kernel, agent, init; not for sim) <- `runtime`
(Python; not for sim) <- the apps in APPS; and for no test but
one: `os` <- `deps` <- `node` (Node.js and what it comes with, 110 MB) <- `webapp`. They are built when first asked for and again when their inputs changed. The
layers come out the same each time: all files bear one time.
"""
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import random
import shutil
import socket
import subprocess
import tempfile
import time

from board import TOP, settings

BOARDS = TOP / "boards"
SOURCES = TOP / "tests" / "images"

DEPS_PACKAGES = "libicu72 libssl3 libuv1 libnghttp2-14 libc-ares2 libbrotli1 tzdata"
NODE_PACKAGES = "nodejs python3"

PLATFORMS = {"armhf": ("arm", "v7"), "arm64": ("arm64", "v8"), "amd64": ("amd64", "")}  # of Debian's architectures
# The sim board runs no system of its own, so its base is what its app needs.
SIM_PACKAGES = "base-files base-passwd libc6 libc-bin coreutils dash debianutils mawk busybox-static ca-certificates"

APPS = {  # image: (version it prints, mode)
    "v1": ("v1", "good"),
    "v2": ("v2", "good"),
    "v3": ("v3", "crash"),  # exits with 3 after a second
    "v4": ("v4", "hang"),   # runs, never answers
}
APP_PORT = 8080
ASSETS = 16
ASSET_SIZE = 64 * 1024


def _shell(script):
    """What a piece of shell prints that knows the image scripts' words."""
    script = f'set -eu; BOARDS={BOARDS}; . "$BOARDS/common/lib.sh"; . "$BOARDS/common/debian-packages"; {script}'
    return subprocess.run(["sh", "-c", script], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def _hash_file(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Images:
    """The images of one family, in a storage of their own under out/."""

    def __init__(self, family, agent=None, out=None):
        """`agent` is the program that the `os` layer carries, out/<family>/slipway by default."""
        self.family = family
        self.deb_arch = "amd64" if family == "sim" else settings(family, "DEB_ARCH")[0]
        self.arch, self.variant = PLATFORMS[self.deb_arch]
        self.agent = pathlib.Path(agent or TOP / "out" / family / "slipway")
        self.dir = pathlib.Path(out or TOP / "out" / "images") / family
        self.dir.mkdir(parents=True, exist_ok=True)
        self.epoch = _shell("echo $SOURCE_DATE_EPOCH")
        self._made = {}
        (self.dir / "containers.conf").write_text('[network]\nnetwork_backend = "cni"\n')
        (self.dir / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}\n')

    def push(self, name, registry, reference, compression="gzip"):
        """Build image `name` if need be and push it to `reference` ("repository:tag"), with its layers compressed by
        gzip, zstd or zstd:chunked. Returns the manifest's digest."""
        return registry.upload(f"oci:{self.layout(name, compression)}:image", reference)

    def layout(self, name, compression="gzip"):
        """Image `name` as an OCI layout on disk, tagged "image". Returns its folder."""
        image = self.build(name)
        with self._lock():
            layout = self.dir / "layouts" / f"{image.replace(':', '-')}-{compression.replace(':', '-')}"
            if not layout.exists():
                # By way of a layout on disk: pushed straight to a registry, buildah takes blobs that are there in
                # another compression instead of the one asked for.
                with tempfile.TemporaryDirectory(dir=self.dir) as work:
                    self._buildah("push", "--signature-policy", self.dir / "policy.json", "--format", "oci",
                                  "--compression-format", compression, image, f"oci:{work}/layout:image")
                    layout.parent.mkdir(exist_ok=True)
                    os.rename(f"{work}/layout", layout)
        return layout

    def build(self, name):
        """Build an image and all below it. Returns its name in the storage."""
        if name not in self._made:
            with self._lock():
                self._made[name] = self._chain()[name]()
        return self._made[name]

    def derive(self, parent, name, files=(), remove=(), config=()):
        """Build image `name`: `parent` with `files` (path -> bytes, or (bytes, mode)) added, paths removed, and
        `buildah config` options. For images that a single test needs."""
        below = self.build(parent)
        with self._lock(), tempfile.TemporaryDirectory() as tree:
            for path, data in dict(files).items():
                data, mode = data if isinstance(data, tuple) else (data, 0o644)
                self._write(pathlib.Path(tree) / path.lstrip("/"), data, mode)
            self._made[name] = self._commit(name, below, self._pack(tree), config, remove)
        return self._made[name]

    # --- the chain ---------------------------------------------------------------------------------------------------

    def _chain(self):
        chain = {"base": self._base}
        if self.family == "sim":
            below = "base"
        else:
            chain |= {"os": self._os, "runtime": self._runtime, "deps": self._deps, "node": self._node, "webapp": self._webapp}
            below = "runtime"
        return chain | {app: lambda app=app: self._app(app, below) for app in APPS}

    def _below(self, name):
        if name not in self._made:
            self._made[name] = self._chain()[name]()
        return self._made[name]

    def _base(self):
        packages = SIM_PACKAGES if self.family == "sim" else _shell("echo $BASE_PACKAGES")
        return self._commit("base", "scratch", self._debian("base", packages, ""), [])

    def _os(self):
        tar = self.dir / "os.tar"
        subprocess.run([BOARDS / "common" / "os-tar", BOARDS / self.family, self.agent, tar], check=True)
        return self._commit("os", self._below("base"), tar, [])

    def _runtime(self):
        tar = self._debian("runtime", _shell("echo $RUNTIME_PACKAGES"), _shell("echo $BASE_PACKAGES"))
        return self._commit("runtime", self._below("os"), tar, [])

    def _deps(self):
        tar = self._debian("deps", DEPS_PACKAGES, _shell("echo $BASE_PACKAGES"))
        return self._commit("deps", self._below("os"), tar, [])

    def _node(self):
        tar = self._debian("node", NODE_PACKAGES, _shell("echo $BASE_PACKAGES") + " " + DEPS_PACKAGES)
        return self._commit("node", self._below("deps"), tar, [])

    def _webapp(self):
        """As its developers would write it down for Docker."""
        with tempfile.TemporaryDirectory() as tree:
            app = pathlib.Path(tree) / "app"
            self._write(app / "server.js", (SOURCES / "app-node" / "server.js").read_bytes())
            self._write(app / "version", b"webapp\n")
            return self._commit("webapp", self._below("node"), self._pack(tree), [
                "--workingdir", "/app", "--env", "APP_URLS=http://+:80", "--entrypoint", json.dumps(["node", "server.js"]),
                "--port", "80/tcp", "--user", "www-data", "--label", "org.opencontainers.image.version=webapp"])

    def _app(self, name, below):
        version, mode = APPS[name]
        source, entrypoint = ("app-sh/server", ["/bin/sh", "/app/server"]) if self.family == "sim" else (
            "app-python/server.py", ["/usr/bin/python3", "/app/server.py"])
        with tempfile.TemporaryDirectory() as tree:
            app = pathlib.Path(tree) / "app"
            server = SOURCES / source
            self._write(app / server.name, server.read_bytes(), 0o755)
            self._write(app / "version", f"{version}\n".encode())
            self._write(app / "index.html", f"{version}\n".encode())
            for number in range(ASSETS):
                # Of all the files that an app brings, a new version changes few.
                seed = f"asset {number} {version if number == 0 else ''}"
                self._write(app / "assets" / f"{number:02}.bin", random.Random(seed).randbytes(ASSET_SIZE))
            return self._commit(name, self._below(below), self._pack(tree), [
                "--entrypoint", json.dumps(entrypoint), "--workingdir", "/app", "--user", "www-data",
                "--env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "--env", f"PORT={APP_PORT}", "--env", f"APP_MODE={mode}",
                "--port", f"{APP_PORT}/tcp",
                "--stop-signal", "SIGTERM" if self.family == "sim" else "SIGINT",
                "--label", f"org.opencontainers.image.version={version}"])

    # --- within ------------------------------------------------------------------------------------------------------

    def _debian(self, name, packages, without):
        tar = self.dir / f"{name}.tar"
        subprocess.run([BOARDS / "common" / "debian-tar", self.deb_arch, packages, without, tar], check=True)
        return tar

    @staticmethod
    def _write(path, data, mode=0o644):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(mode)

    def _pack(self, tree):
        tar = self.dir / "files.tar"
        os.chmod(tree, 0o755)
        subprocess.run(["tar", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", f"--mtime=@{self.epoch}",
                        "-C", tree, "-cf", tar, "."], check=True)
        return tar

    def _commit(self, name, below, tar, config, remove=()):
        """One layer more. The result is named after all that went in, and an older one of that name goes."""
        inputs = json.dumps([below, _hash_file(tar), list(config), list(remove), self.epoch, self.variant])
        image = f"{self.family}-{name}:{hashlib.sha256(inputs.encode()).hexdigest()[:16]}"
        there = self._buildah("images", "--format", "{{.Name}}:{{.Tag}}").split()
        if f"localhost/{image}" in there:
            return image
        platform = ["--os", "linux", "--arch", self.arch] + (["--variant", self.variant] if self.variant else [])
        container = self._buildah("from", "--pull-never", below)
        try:
            for path in remove:
                (pathlib.Path(self._buildah("mount", container)) / path.lstrip("/")).unlink()
            self._buildah("add", container, tar, "/")
            self._buildah("config", *platform, *config, container)
            self._buildah("commit", "--signature-policy", self.dir / "policy.json", "--timestamp", self.epoch,
                          "--format", "oci", container, image)
        finally:
            self._buildah("rm", container)
        for old in there:
            if old.startswith(f"localhost/{self.family}-{name}:"):
                self._forget(old)
        return image

    def _forget(self, image):
        """Untag an image whose inputs have changed; images above it keep its layer until they go too."""
        self._buildah("rmi", "--force", image)
        for layout in (self.dir / "layouts").glob(image.removeprefix("localhost/").replace(":", "-") + "-*"):
            shutil.rmtree(layout)

    def _buildah(self, *command):
        storage = ["--root", self.dir / "storage", "--runroot", self.dir / "run", "--storage-driver", "vfs"]
        environment = dict(os.environ, CONTAINERS_CONF=str(self.dir / "containers.conf"), BUILDAH_ISOLATION="chroot")
        done = subprocess.run(["buildah", *storage, *command], env=environment, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"buildah {' '.join(map(str, command))}: {done.stderr.strip()}")
        return done.stdout.strip()

    @contextlib.contextmanager
    def _lock(self):
        with open(self.dir / "lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class Registry:
    """A running docker-registry. `host` is its address from this machine, `board_host` from an emulated board; `ca` is
    the certificate to trust (None without TLS), `auth` the (user, password) it asks for or None."""

    def __init__(self, folder, tls, auth):
        self.dir = pathlib.Path(folder).resolve()
        self.dir.mkdir(parents=True, exist_ok=True)
        self.auth = auth
        self.ca = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        self.board_host = f"10.0.2.2:{self.port}"
        config = {
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": str(self.dir / "data")}, "delete": {"enabled": True}},
            "http": {"addr": self.host},
        }
        if tls:
            self._make_certificates()
            config["http"]["tls"] = {"certificate": str(self.dir / "server.crt"), "key": str(self.dir / "server.key")}
        if auth:
            entry = subprocess.run(["htpasswd", "-Bbn", *auth], check=True, stdout=subprocess.PIPE).stdout
            (self.dir / "htpasswd").write_bytes(entry)
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(self.dir / "htpasswd")}}
        (self.dir / "config.yml").write_text(json.dumps(config))  # JSON is YAML
        (self.dir / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}\n')
        self.process = None
        self.start()

    def start(self):
        with open(self.dir / "registry.log", "ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "docker-registry", "serve", self.dir / "config.yml"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(os.environ, OTEL_TRACES_EXPORTER="none"))
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"docker-registry did not start, see {self.dir}/registry.log")
            time.sleep(0.05)

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def upload(self, source, reference):
        """Copy an image, byte for byte, from a place as skopeo writes it. Returns the manifest's digest."""
        access = ["--dest-cert-dir", self.dir / "trust"] if self.ca else ["--dest-tls-verify=false"]
        access += ["--dest-creds", ":".join(self.auth)] if self.auth else []
        digest = self.dir / "digest"
        done = subprocess.run(["skopeo", "--policy", self.dir / "policy.json", "copy", "-q", "--preserve-digests",
                               "--digestfile", digest, *access, source, f"docker://{self.host}/{reference}"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"skopeo copy to {reference}: {done.stdout.strip()}")
        return digest.read_text().strip()

    def _make_certificates(self):
        def openssl(*command):
            subprocess.run(["openssl", *command], cwd=self.dir, check=True, stderr=subprocess.DEVNULL)

        new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
        openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "3650", "-subj", "/CN=Test CA",
                "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        openssl("req", *new_key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost",
                "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:10.0.2.2")
        openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-days", "3650",
                "-copy_extensions", "copy", "-out", "server.crt")
        self.ca = self.dir / "ca.crt"
        (self.dir / "trust").mkdir(exist_ok=True)
        shutil.copy(self.ca, self.dir / "trust" / "ca.crt")


def make_registry(folder, tls=True, auth=None):
    """Start a docker-registry whose data and certificates are kept in `folder`; `auth` is (user, password)."""
    return Registry(folder, tls, auth)
