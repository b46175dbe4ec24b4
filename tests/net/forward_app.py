"""The app behind tests of the role forward: forward_app.py PORT MODE [HOST...]. Runs in a network namespace of its own, serves TCP and
UDP on each HOST, and says "ready" when it listens."""
import fcntl
import socket
import struct
import sys
import threading

PORT, MODE, HOSTS = int(sys.argv[1]), sys.argv[2], sys.argv[3:] or ["::"]


def echo(peer):
    while data := peer.recv(65536):
        peer.sendall(data)


def count(peer):
    """Answers only when the client has said its last."""
    total = 0
    while data := peer.recv(65536):
        total += len(data)
    peer.sendall(b"%d" % total)


def greet(peer):
    """Says its last at once, and tells by the connection after it how much came then."""
    peer.sendall(b"hello")
    peer.shutdown(socket.SHUT_WR)
    total = 0
    while data := peer.recv(65536):
        total += len(data)
    print(total, flush=True)


def reset(peer):
    peer.recv(1)
    peer.sendall(b"half an answer")
    peer.recv(1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def flood(peer):
    """Sends until nobody takes it any more for a second, and says how much that was."""
    sent = 0
    peer.settimeout(1)
    try:
        while sent < 1 << 30:
            sent += peer.send(bytes(65536))
    except OSError:
        pass
    print(sent, flush=True)
    peer.close()


def serve(peer):
    with peer:
        try:
            {"echo": echo, "count": count, "greet": greet, "reset": reset, "flood": flood}[MODE](peer)
        except OSError:
            pass


def listen(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    tcp = socket.create_server((host, PORT), family=family, backlog=512,
                               dualstack_ipv6=host == "::")
    udp = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
    udp.bind((host, PORT))
    return tcp, udp


def tcp_run(listener):
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


def udp_run(sock):
    while True:
        data, peer = sock.recvfrom(65536)
        sock.sendto(data.upper(), peer)


SIOCSIFFLAGS, IFF_UP = 0x8914, 1
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
sockets = [listen(host) for host in HOSTS]
print("ready", flush=True)
for one, other in sockets:
    threading.Thread(target=tcp_run, args=(one,), daemon=True).start()
    threading.Thread(target=udp_run, args=(other,), daemon=True).start()
threading.Event().wait()
