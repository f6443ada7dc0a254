"""A client of HTTP/2 that sends whatever it is told to, over a blocking socket."""

import contextlib
import socket
import ssl
import struct
import threading
import time

import hpack

from rawproxy.protocol.http2 import frames
from tests.process import PATIENCE, RawProxy

GET = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost")]


class H2Client:
    """One connection; frames by hand."""

    def __init__(
        self, port: int, settings: dict[int, int] | None = None, preface: bytes = b""
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._open(
            port, context, "localhost", preface or frames.PREFACE + frames.settings(settings or {})
        )

    @classmethod
    def over(cls, port: int, context: ssl.SSLContext, name: str) -> "H2Client":
        """A connection by another context, for another name."""
        client = cls.__new__(cls)
        client._open(port, context, name, frames.PREFACE + frames.settings({}))
        return client

    def _open(self, port: int, context: ssl.SSLContext, name: str, preface: bytes) -> None:
        context.set_alpn_protocols(["h2"])
        raw = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.sock = context.wrap_socket(raw, server_hostname=name)
        assert self.sock.selected_alpn_protocol() == "h2"
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.buffer = b""
        self.next_id = 1
        self.send(preface)

    def __enter__(self) -> "H2Client":
        return self

    def __exit__(self, *_) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def headers(self, path: str = "/", *more: tuple[str, str], ended: bool = True) -> bytes:
        """A request's HEADERS on the next stream."""
        block = self.encoder.encode([*GET, (":path", path), *more])
        number, self.next_id = self.next_id, self.next_id + 2
        return frames.headers(number, block, ended)

    def frame(self) -> tuple[int, int, int, bytes]:
        """The next frame: type, flags, stream, payload. Raises `EOFError`."""
        head = self._take(9)
        high, low, kind, flags, number = frames.HEADER.unpack(head)
        return kind, flags, number, self._take(high << 8 | low)

    def _take(self, size: int) -> bytes:
        while len(self.buffer) < size:
            more = self.sock.recv(65536)
            if not more:
                raise EOFError
            self.buffer += more
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def until(self, *kinds: int) -> tuple[int, int, int, bytes]:
        """The next frame of one of these kinds."""
        while True:
            got = self.frame()
            if got[0] in kinds:
                return got

    def goaway(self) -> frames.Code:
        """The code of the GOAWAY that ends this connection."""
        payload = self.until(frames.GOAWAY)[3]
        return frames.Code(struct.unpack_from(">L", payload, 4)[0])

    def get(self, path: str = "/") -> tuple[int, bytes]:
        """A whole request on a stream of its own: status and body."""
        self.send(self.headers(path))
        return self.answer(self.next_id - 2)

    def answer(self, number: int) -> tuple[int, bytes]:
        """The whole answer on a stream: status and body."""
        status, body = 0, b""
        while True:
            kind, flags, stream, payload = self.frame()
            assert kind not in (frames.GOAWAY, frames.RST_STREAM), payload
            if kind == frames.HEADERS:
                fields = dict(self.decoder.decode(payload))
                if stream == number:
                    status = int(fields[":status"])
            if stream == number and kind == frames.DATA:
                body += payload
            if stream == number and kind in (0, 1) and flags & frames.END_STREAM:
                return status, body


def answer(sock: socket.socket) -> None:
    """An upstream's side of one connection: `/<n>` is answered with n bytes, slowly read or not."""
    block = bytes(65536)
    data = b""
    with contextlib.suppress(OSError), sock:
        while True:
            while b"\r\n\r\n" not in data:
                more = sock.recv(65536)
                if not more:
                    return
                data += more
            head, _, data = data.partition(b"\r\n\r\n")
            size = int(head.split(b" ", 2)[1].strip(b"/") or 2)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            while size:
                sent = min(size, len(block))
                sock.sendall(block[:sent])
                size -= sent


@contextlib.contextmanager
def upstream():
    """A threaded upstream; its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = server.accept()
                    threading.Thread(target=answer, args=(sock,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def running(*options: str):
    """rawproxy before that upstream."""
    with (
        upstream() as port,
        RawProxy(
            "--upstream", f"http://127.0.0.1:{port}", "--access-log", "off", *options
        ) as proxy,
    ):
        yield proxy


def eventually(check, patience: float = PATIENCE) -> None:
    """Wait for another process to get there."""
    end = time.monotonic() + patience
    while not check():
        assert time.monotonic() < end
        time.sleep(0.02)  # polling another program: there is nothing to wait on
