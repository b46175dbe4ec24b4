"""The role forward: connections and datagrams from outside reach an app in a network namespace of its own."""
import contextlib
import hashlib
import os
import pathlib
import random
import resource
import socket
import subprocess
import sys
import threading
import time

import pytest

from role import PROGRAM

APP = pathlib.Path(__file__).parent / "forward_app.py"
APP_PORT = 80
CONNECTIONS, SESSIONS = 256, 64  # CONFIG_APP_CONNECTIONS, CONFIG_APP_UDP_SESSIONS
MIB = 1 << 20
CEILING_KB = 768  # CONFIG_MEM_FORWARD_KB
WAIT_S = 30


def port_open(kind):
    """As agentd opens it: one socket for both kinds of address."""
    sock = socket.socket(socket.AF_INET6, kind)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    if kind == socket.SOCK_DGRAM:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    sock.bind(("::", 0))
    if kind == socket.SOCK_STREAM:
        sock.listen(512)
    sock.setblocking(False)
    return sock


class Bench:
    """An app's namespace, its published ports, and the process between them."""

    def __init__(self, command=(str(PROGRAM), "forward")):
        self.holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 600"],
                                       stdout=subprocess.PIPE)
        self.holder.stdout.readline()
        self.net = f"/proc/{self.holder.pid}/ns/net"
        self.tcp, self.udp = port_open(socket.SOCK_STREAM), port_open(socket.SOCK_DGRAM)
        self.app = None
        net = os.open(self.net, os.O_RDONLY)

        def place():
            # The role wants 3, 4 and 5, whatever numbers they have here.
            high = [os.dup2(fd, 100 + n) for n, fd in enumerate((net, self.tcp.fileno(), self.udp.fileno()))]
            for n, fd in enumerate(high):
                os.dup2(fd, 3 + n)
            if command[0] == str(PROGRAM):
                resource.setrlimit(resource.RLIMIT_DATA, (CEILING_KB * 1024,) * 2)

        self.process = subprocess.Popen(  # pylint: disable=consider-using-with,subprocess-popen-preexec-fn
            [*command, "65534", str(APP_PORT), str(APP_PORT)], close_fds=False, preexec_fn=place)
        os.close(net)

    def app_start(self, mode, *hosts):
        self.app = subprocess.Popen(["nsenter", f"--net={self.net}", sys.executable, APP, str(APP_PORT), mode, *hosts],
                                    stdout=subprocess.PIPE, text=True)
        assert self.app.stdout.readline() == "ready\n"

    def app_end(self):
        if self.app:
            self.app.kill()
            self.app.wait()
            self.app.stdout.close()
            self.app = None

    def connect(self, host="127.0.0.1"):
        sock = socket.create_connection((host, self.tcp.getsockname()[1]), timeout=WAIT_S)
        sock.settimeout(WAIT_S)
        return sock

    def status(self, key):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return next(line.split(":")[1].split() for line in text.splitlines() if line.startswith(key + ":"))

    def busy(self, seconds):
        """The share of a processor that the process takes."""
        def ticks():
            return sum(map(int, pathlib.Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").split()[13:15]))
        before = ticks()
        time.sleep(seconds)
        return (ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.app_end()
        for process in self.process, self.holder:
            process.kill()
            process.wait()
        self.holder.stdout.close()
        self.tcp.close()
        self.udp.close()


@pytest.fixture(name="bench")
def fixture_bench():
    with Bench() as bench:
        yield bench


def read_all(sock):
    parts = []
    while data := sock.recv(65536):
        parts.append(data)
    return b"".join(parts)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("app_host", ["0.0.0.0", "::", "::1", "127.0.0.1"])
def test_both_kinds_of_address(bench, host, app_host):
    """Whichever the client comes by, and whichever the app listens on."""
    bench.app_start("echo", app_host)
    with bench.connect(host) as sock:
        sock.sendall(b"hello")
        assert sock.recv(100) == b"hello"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(WAIT_S)
        sock.sendto(b"hello", (host, bench.udp.getsockname()[1]))
        assert sock.recv(100) == b"HELLO"


def test_large_both_ways(bench):
    bench.app_start("echo")
    data = random.Random(1).randbytes(48 * MIB)
    with bench.connect() as sock:
        def send():
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        began = time.monotonic()
        sender = threading.Thread(target=send)
        sender.start()
        back = read_all(sock)
        sender.join()
    print("%.0f MiB/s each way" % (len(data) / MIB / (time.monotonic() - began)))
    assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()


def half_close(bench):
    bench.app_start("count")
    with bench.connect() as sock:
        sock.sendall(bytes(300_000))
        sock.shutdown(socket.SHUT_WR)
        return read_all(sock)


def test_half_closed_by_the_client(bench):
    assert half_close(bench) == b"300000"


NAIVE = """
import socket, sys, threading, ctypes, os
listener = socket.socket(fileno=4); listener.setblocking(True)
ctypes.CDLL(None).setns(3, 0)
def pump(a, b):
    while data := a.recv(65536): b.sendall(data)
    a.shutdown(2); b.shutdown(2)
while True:
    one = listener.accept()[0]; other = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    for pair in (one, other), (other, one): threading.Thread(target=pump, args=pair, daemon=True).start()
"""


def test_a_forwarder_that_closes_both_is_found():
    """The known-bad."""
    with Bench(command=(sys.executable, "-c", NAIVE)) as bench:
        try:
            assert half_close(bench) != b"300000"
        except OSError:
            pass


def test_half_closed_by_the_app(bench):
    bench.app_start("greet")
    with bench.connect() as sock:
        assert read_all(sock) == b"hello"
        sock.sendall(bytes(200_000))
        sock.shutdown(socket.SHUT_WR)
        assert bench.app.stdout.readline() == "200000\n"


def test_reset_is_passed_on(bench):
    """Half an answer does not look like a whole one."""
    bench.app_start("reset")
    with bench.connect() as sock:
        sock.sendall(b"a")
        assert sock.recv(100) == b"half an answer"
        sock.sendall(b"b")
        with pytest.raises(ConnectionResetError):
            sock.recv(100)


def test_many_connections(bench):
    """200 at once; beyond the limit they wait for one that ends; and memory does not grow with what they carry."""
    bench.app_start("echo")
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(bench.connect()) for _ in range(CONNECTIONS)]
        for number, sock in enumerate(socks):
            sock.sendall(b"%d" % number)
        for number, sock in enumerate(socks):
            assert sock.recv(100) == b"%d" % number
        late = stack.enter_context(bench.connect())
        late.sendall(b"late")
        late.settimeout(1)
        with pytest.raises(TimeoutError):
            late.recv(100)
        socks[7].close()
        late.settimeout(WAIT_S)
        assert late.recv(100) == b"late"
        assert bench.busy(1) < 0.1
        print("resident: %s KB" % bench.status("VmHWM")[0])
        assert int(bench.status("VmData")[0]) <= CEILING_KB
    with bench.connect() as sock:
        sock.sendall(b"after")
        assert sock.recv(100) == b"after"


def test_slow_client_holds_up_the_app(bench):
    """What nobody reads is not taken in; and waiting costs nothing, also when the app is gone."""
    bench.app_start("flood")
    with bench.connect() as sock:
        sock.shutdown(socket.SHUT_WR)
        sent = int(bench.app.stdout.readline())
        assert 64 * 1024 < sent < 64 * MIB
        assert bench.busy(2) < 0.05
        assert len(read_all(sock)) == sent


def test_no_app(bench):
    """Held for a second, in which an app may come back; then closed."""
    began = time.monotonic()
    with bench.connect() as sock, pytest.raises(ConnectionResetError):
        assert sock.recv(100) == b""
    assert 0.9 < time.monotonic() - began < 10
    with bench.connect() as sock:
        sock.sendall(b"early")
        time.sleep(0.1)
        bench.app_start("echo")
        assert sock.recv(100) == b"early"
        bench.app_end()
        assert sock.recv(100) == b""
    bench.app_start("count")
    assert bench.busy(1) < 0.05


def test_datagrams(bench):
    """Each sender gets its own answers, from the address that it asked; more senders than there is room for, in turn."""
    bench.app_start("echo")
    port = bench.udp.getsockname()[1]
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2 * SESSIONS)]
        for number, sock in enumerate(socks):
            sock.settimeout(WAIT_S)
            sock.sendto(b"a%d" % number, (f"127.0.0.{2 + number % 2}", port))
            assert sock.recvfrom(100) == (b"A%d" % number, (f"127.0.0.{2 + number % 2}", port))
        for number, sock in enumerate(socks[-SESSIONS:]):
            sock.sendto(b"b%d" % number, ("127.0.0.4", port))
        for number, sock in enumerate(socks[-SESSIONS:]):
            assert sock.recvfrom(100) == (b"B%d" % number, ("127.0.0.4", port))
        socks[0].sendto(bytes(60_000), ("127.0.0.1", port))
        assert len(socks[0].recv(65536)) == 60_000
        socks[0].sendto(b"", ("127.0.0.1", port))
        assert socks[0].recv(100) == b""
    assert int(bench.status("VmData")[0]) <= CEILING_KB


def test_it_has_no_privilege(bench):
    bench.app_start("echo")
    with bench.connect() as sock:
        sock.sendall(b"a")
        assert sock.recv(1) == b"a"
    assert bench.status("Uid") == ["65534"] * 4
    assert int(bench.status("CapPrm")[0], 16) == 0
    assert bench.status("NoNewPrivs") == ["1"]
    assert bench.status("Seccomp") == ["2"]
    assert os.readlink(f"/proc/{bench.process.pid}/ns/net") == os.readlink(bench.net)
