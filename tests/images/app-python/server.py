"""The test app: answers every request with its version. What APP_MODE says makes it a bad version.

Imports next to nothing: on an emulated board Python's http.server takes seconds to load.
"""
import contextlib
import os
import socket
import sys
import time

with open("version", encoding="ascii") as file:
    VERSION = file.read()
MODE = os.environ.get("APP_MODE", "good")


def serve(port):
    with socket.create_server(("", port)) as listener:
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                connection.recv(4096)
                connection.sendall(f"HTTP/1.0 200 OK\r\nContent-Length: {len(VERSION)}\r\n\r\n{VERSION}".encode())


print(f"app {VERSION.strip()} starts, uid {os.getuid()}, in {os.getcwd()}", flush=True)
if MODE == "crash":
    time.sleep(1)
    sys.exit(3)
if MODE == "hang":
    time.sleep(10**6)
try:
    serve(int(os.environ["PORT"]))
except KeyboardInterrupt:
    print("app stops", flush=True)
