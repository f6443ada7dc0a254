"""A small threaded HTTP/1.1 server that keeps every request, for doubles and for applications."""

from __future__ import annotations

import http.server
import socket
import threading
import urllib.parse
from collections.abc import Iterable
from typing import NamedTuple


class Seen(NamedTuple):
    """One request."""

    method: str
    target: str
    fields: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.fields if known.lower() == name.lower()]

    def one(self, name: str, default: str = "") -> str:
        return next(iter(self.all(name)), default)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(self.target.partition("?")[2]))

    def form(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(self.body.decode()))

    def cookies(self) -> dict[str, str]:
        pairs = (pair.partition("=") for line in self.all("cookie") for pair in line.split(";"))
        return {name.strip(): value for name, _, value in pairs}


class Told(NamedTuple):
    """An answer."""

    status: int
    fields: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    raw: bytes | None = None  # instead of all that; the connection ends behind it
    wait: float = 0.0  # seconds before anything is said, unless `resume` is called


class Recorder:
    """Answers by `answer`, in as many threads as there are connections."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.go_on = threading.Event()
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_one(self) -> None:
                size = self.headers.get("Content-Length")
                body = self.rfile.read(int(size)) if size else b""
                fields = tuple((name, str(value)) for name, value in self.headers.items())
                seen = Seen(self.command, self.path, fields, body)
                owner.seen.append(seen)
                told = owner.answer(seen)
                if told.wait:
                    owner.go_on.wait(told.wait)
                if told.raw is not None:
                    self.wfile.write(told.raw)
                    self.close_connection = True
                    return
                self.send_response_only(told.status)
                for name, value in told.fields:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(told.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(told.body)

            def log_message(self, *_: object) -> None:
                """Tests look at what was seen."""

        for method in ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"):
            setattr(Handler, f"do_{method}", Handler.handle_one)

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                """A client that leaves is none."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def answer(self, seen: Seen) -> Told:
        """What a request gets."""
        return Told(200, (("X-App", "1"),), b"app")

    def forget(self) -> None:
        self.seen.clear()

    def resume(self) -> None:
        """Whoever waits goes on at once."""
        self.go_on.set()
        self.go_on = threading.Event()

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)


def page(text: str, fields: Iterable[tuple[str, str]] = (), status: int = 200) -> Told:
    html = f"<!doctype html><title>{text}</title>{text}"
    return Told(status, (("Content-Type", "text/html; charset=utf-8"), *fields), html.encode())


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
