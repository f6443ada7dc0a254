"""What the production tests share: an upstream in a thread, a look at workers, raw requests."""

import contextlib
import http.server
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import psutil

import rawproxy
from tests.process import PATIENCE, RawProxy


class Answer(http.server.BaseHTTPRequestHandler):
    """Its path, over a kept connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_) -> None:
        pass


@contextlib.contextmanager
def upstream(tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[int]:
    """An HTTP server on a thread; its port."""
    server = http.server.ThreadingHTTPServer((host, 0), Answer)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for another process to get somewhere."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)  # polling another program: there is nothing to wait on


def workers(proxy: RawProxy) -> set[int]:
    """The process ids of a master's children that live."""
    living = set()
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(proxy.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.status() != psutil.STATUS_ZOMBIE:
                    living.add(child.pid)
    return living


def ask(sock: socket.socket, path: str = "/x", host: str = "h") -> bytes:
    """One request over `sock`; the head of its answer."""
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return hear(sock)


def hear(sock: socket.socket) -> bytes:
    """One answer; its head."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        assert piece, f"closed behind {data!r}"
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        piece = sock.recv(65536)
        assert piece, "closed within the body"
        body += piece
    return head


def fetch(port: int, path: str = "/x") -> bytes:
    """One request over a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        return ask(sock, path)


def reload(
    proxy: RawProxy, word: str = "reloaded:", number: signal.Signals = signal.SIGHUP
) -> None:
    """SIGHUP, or SIGUSR2 for new processes in any case, and wait for what comes of it."""
    before = proxy.err().count(word)
    proxy.process.send_signal(number)
    until(lambda: proxy.err().count(word) > before, proxy.err())


def copied(folder: pathlib.Path) -> dict:
    """Options of `subprocess` that make `-m rawproxy` find a copy of the code in `folder`."""
    shutil.copytree(pathlib.Path(rawproxy.__file__).parent, folder / "rawproxy")
    environment = {k: v for k, v in os.environ.items() if k != "COVERAGE_PROCESS_START"}
    return {"cwd": folder, "env": environment | {"PYTHONDONTWRITEBYTECODE": "1"}}


def with_sockets(command: list[str], socks: list[socket.socket], **environment: str) -> list[str]:
    """A command line that passes `socks` on as systemd would: 3, 4, …, and its own process id."""
    moves = " ".join(f"{3 + n}<&{sock.fileno()}" for n, sock in enumerate(socks))
    words = [f"{name}={value}" for name, value in environment.items()]
    script = f'export LISTEN_PID=$$ LISTEN_FDS={len(socks)} {" ".join(words)}; exec "$@" {moves}'
    return ["bash", "-c", script, "bash", *command]


def popen(command: list[str], **options) -> subprocess.Popen:
    """A child with its words in pipes."""
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


COMMAND = [sys.executable, "-m", "rawproxy"]
