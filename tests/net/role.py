"""Drive the fetch role over its two pipes, as stage does (agent/oci/fetch.h, agent/stream/frame.h)."""
import os
import pathlib
import struct
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("SLIPWAY", str(TOP / "out" / "sim" / "slipway"))

RESOLVE, MANIFEST, BLOB, PART = 1, 2, 3, 8
FRAME_REQUEST, FRAME_RESOLVED, FRAME_BODY, FRAME_BODY_END = 1, 2, 3, 4
FRAME_ERR, FRAME_SESSIONS = 15, 18
MEDIA = {1: "application/vnd.oci.image.index.v1+json", 2: "application/vnd.oci.image.manifest.v1+json",
         3: "application/vnd.docker.distribution.manifest.list.v2+json",
         4: "application/vnd.docker.distribution.manifest.v2+json"}
CODES = ("digest size format limit policy platform space network tls auth absent registry flash boot config peer app "
         "state unsupported unsigned signature older held").split()


class FetchError(Exception):
    """What came in FRAME_ERR: `name` of the code, text, and the bytes handed on before."""

    def __init__(self, code, text, body):
        self.name = CODES[-5000 - code] if -5000 - len(CODES) < code <= -5000 else str(code)
        self.text = text
        self.body = body
        super().__init__(f"{self.name}: {text}")


class Fetch:
    """A running fetch role, configured for `image`, with more lines for [registry]. It is not before `time_floor`, and ends
    after so many bytes and seconds."""

    def __init__(self, folder, image, *lines, trust=("policy = off",), update=(), time_floor=0, bytes_max=0, seconds=0):
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        conf = folder / "agent.conf"
        conf.write_text("\n".join(["[trust]", *trust, "[update]", *update, "[registry]", f"image = {image}", *lines]) + "\n")
        ours_request, ours_body = os.pipe(), os.pipe()
        self._meter = os.memfd_create("meter")
        os.ftruncate(self._meter, 4)
        theirs = (ours_request[0], ours_body[1], self._meter)

        def place():
            # The role wants 3, 4 and 5, whatever numbers they have here.
            high = [os.dup2(fd, 100 + n) for n, fd in enumerate(theirs)]
            for n, fd in enumerate(high):
                os.dup2(fd, 3 + n)

        self.process = subprocess.Popen(  # pylint: disable=consider-using-with,subprocess-popen-preexec-fn
            [PROGRAM, "fetch", "-c", str(conf), "-t", str(int(time_floor)), "-b", str(bytes_max), "-u", str(seconds)],
            preexec_fn=place, close_fds=False, stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE)
        for fd in theirs[:2]:
            os.close(fd)
        self.stderr = ""
        self.tries = self.wire = self.metered = 0
        self.sessions = b""
        self.request_fd, self.body_fd = ours_request[1], ours_body[0]
        os.set_inheritable(self.request_fd, False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End the role; returns its exit code and what it logged."""
        if self.request_fd is not None:
            os.close(self.request_fd)
            os.close(self.body_fd)
            self.request_fd = None
            try:
                self.stderr = self.process.communicate(timeout=20)[1].decode()
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
            self.meter()
            os.close(self._meter)
            self._meter = None
        return self.process.returncode, self.stderr

    def meter(self):
        """Bytes that went over its sockets, as it goes on and when it has ended."""
        if self._meter is not None:
            self.metered = int.from_bytes(os.pread(self._meter, 4, 0), sys.byteorder)
        return self.metered

    def resolve(self, sessions=b""):
        """Returns (digest, media type). `sessions` are another role's, from its `sessions`."""
        if sessions:
            os.write(self.request_fd, struct.pack("=HHI", FRAME_SESSIONS, 0, len(sessions)) + sessions)
        payload, _ = self._ask(RESOLVE, "0" * 64, 0, 0, FRAME_RESOLVED)
        digest, media, self.wire, self.expired = struct.unpack("=32sI4xQq", payload)
        return "sha256:" + digest.hex(), MEDIA.get(media)

    def manifest(self, digest, size=262144):
        """Returns (bytes, media type)."""
        payload, body = self._ask(MANIFEST, digest, size, 0, FRAME_BODY_END)
        media, self.tries, self.wire = struct.unpack("=IIQ", payload)
        return body, MEDIA.get(media)

    def blob(self, digest, size, offset=0):
        """Returns the bytes from `offset` on."""
        payload, body = self._ask(BLOB, digest, size, offset, FRAME_BODY_END)
        _, self.tries, self.wire = struct.unpack("=IIQ", payload)
        return body

    def part(self, digest, size, offset, end, whole=False):
        """Returns the bytes [offset, end)."""
        payload, body = self._ask(PART, digest, size, offset, FRAME_BODY_END, end, whole)
        _, self.tries, self.wire = struct.unpack("=IIQ", payload)
        return body

    def send(self, kind, digest, size, offset, end=0, whole=False):
        request = struct.pack("=I32s4xQQQI4x", kind, bytes.fromhex(digest.removeprefix("sha256:")), size, offset, end,
                              whole)
        os.write(self.request_fd, struct.pack("=HHI", FRAME_REQUEST, 0, len(request)) + request)

    def _ask(self, kind, digest, size, offset, last, end=0, whole=False):
        self.send(kind, digest, size, offset, end, whole)
        body = bytearray()
        while True:
            frame, zero, length = struct.unpack("=HHI", self._read(8))
            payload = self._read(length)
            assert zero == 0
            if frame == FRAME_BODY:
                assert 0 < length <= 65536
                body += payload
            elif frame == FRAME_SESSIONS:
                self.sessions = payload
            elif frame == FRAME_ERR:
                code, text = struct.unpack_from("=i", payload)[0], payload[4:].split(b"\0")[0].decode()
                raise FetchError(code, text, bytes(body))
            else:
                assert frame == last
                return payload, bytes(body)

    def _read(self, length):
        data = b""
        while len(data) < length:
            piece = os.read(self.body_fd, length - len(data))
            if not piece:
                raise EOFError(f"fetch went away: {self.close()}")
            data += piece
        return data
