"""A small HTTP server that does what it is told, to be a bad registry, mirror, token service or object store."""
import http.server
import socket
import socketserver
import ssl
import threading
import time


class Request:
    """What came, and the words to answer it with."""

    def __init__(self, handler):
        self.handler = handler
        self.method = handler.command
        self.path = handler.path
        self.headers = handler.headers
        self.came_at = time.monotonic()
        self.is_halted = False

    def answer(self, status=200, body=b"", length=None, keep=False, **fields):
        """Status line, fields (underscores for dashes) and body. `length` is what Content-Length claims, by default
        the truth; False leaves it out and ends the body by closing, and so does a lie, unless `keep`."""
        lines = [f"HTTP/1.1 {status} x"] + [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        if length is False:
            lines.append("Connection: close")
        elif "Transfer_Encoding" not in fields:
            lines.append(f"Content-Length: {len(body) if length is None else length}")
        self.handler.wfile.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if self.method == "HEAD" else body))
        if length is not None and not keep:
            self.cut()

    def halt(self, body, at, event, status=200, **fields):
        """Send the first `at` bytes of the body, and the others only when `event` is set."""
        self.is_halted = True
        self.answer(status, body[:at], length=len(body), keep=True, **fields)
        if event.wait(60):
            self.handler.wfile.write(body[at:])
        self.cut()

    def chunked(self, body, step, end=b"0\r\nTrailer: x\r\n\r\n", **fields):
        pieces = [body[at:at + step] for at in range(0, len(body), step)]
        coded = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end
        self.answer(body=coded, Transfer_Encoding="chunked", **fields)
        if not end:
            self.cut()

    def cut(self):
        self.handler.wfile.flush()
        self.handler.close_connection = True
        try:
            self.handler.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def resumed(self):
        """Whether this TLS connection went on with an earlier one's session."""
        return self.handler.connection.session_reused

    def first_byte(self):
        """Where the Range asked for begins; 0 without one."""
        value = self.headers.get("Range", "bytes=0-")
        return int(value.removeprefix("bytes=").removesuffix("-"))


    def part(self):
        """The bytes asked for, as a slice; None without a Range that has an end."""
        first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        return slice(int(first), int(last) + 1) if first and last else None


class Tunnel(socketserver.ThreadingTCPServer):
    """A proxy that knows CONNECT and nothing else. `seen` keeps the heads it was sent; `words` is what it answers."""

    daemon_threads = True

    def __init__(self, words="200 Connection established"):
        tunnel = self
        self.seen = []

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += self.rfile.readline()
                tunnel.seen.append(head.decode())
                self.wfile.write(f"HTTP/1.1 {words}\r\n\r\n".encode())
                if words.startswith("200"):
                    host, _, port = head.split()[1].decode().partition(":")
                    with socket.create_connection((host, int(port))) as there:
                        back = threading.Thread(target=pass_on, args=(there, self.connection), daemon=True)
                        back.start()
                        pass_on(self.connection, there)
                        back.join(5)

        super().__init__(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


def pass_on(source, target):
    """Copy until the source ends."""
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class Server:
    """`answer` is called with each Request; all of them are kept in `seen`."""

    def __init__(self, answer, certificate=None):
        self.seen = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(handler):  # pylint: disable=no-self-argument
                request = Request(handler)
                self.seen.append(request)
                answer(request)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        if certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # a certificate may be loaded later
            self.context.load_cert_chain(*certificate)
            self.http.socket = self.context.wrap_socket(self.http.socket, server_side=True)
        self.host = f"127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()
