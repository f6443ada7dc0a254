"""A client connection without a socket, whose requests wait for an upstream that is never free."""

from dataclasses import replace

import hpack as law

from rawproxy.client.h1_connection import H1Connection
from rawproxy.client.h2_connection import H2Connection
from rawproxy.config.model import Deadlines, Limits, Upstream, single
from rawproxy.protocol.http2 import frames
from rawproxy.proxy.service import Service
from tests.fakes import FakeLoop, FakeTransport

BODY = 30.0  # seconds in which a body has to make `RATE` a second
RATE = 10


class Rig:
    """One client whose request waits for an upstream that is never free."""

    def __init__(self, version: str, **options) -> None:
        upstream = Upstream("http://u", tls=False, host="127.0.0.1", port=1)
        deadlines = Deadlines(queue=900.0, request_body=BODY)
        sites = options.pop("sites", None)
        config = single(
            (upstream,), max_upstream=0, limits=Limits(rate=RATE), deadlines=deadlines, **options
        )
        if sites is not None:
            config = replace(config, sites=sites)
        self.lines: list[bytes] = []
        self.version = version
        self.service = Service(config, self.lines.append)
        self.loop, self.transport = FakeLoop(), FakeTransport()
        slot = self.service.admission.enter()
        slot.peer, slot.sites = "203.0.113.9", self.service.route_targets.for_listener(None)
        self.front = {"1": H1Connection, "2": H2Connection}[version](
            self.service, slot, *([True] if version == "1" else [])
        )
        self.decoder, self.encoder = law.Decoder(), law.Encoder()
        self.number = -1  # of the last stream
        with self.loop.running():
            self.front.connection_made(self.transport)
            if version == "2":
                self.front.data_received(frames.PREFACE + frames.settings({}))
            self.loop.turn()
        self.transport.take()

    def ask(self, method: str, host: str = "h", path: str = "/", body: bytes | None = None) -> None:
        """A request; the first bytes of its endless body, if it has one."""
        if self.version == "1":
            framing = "Content-Length: 100000\r\n" if body is not None else ""
            head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{framing}\r\n".encode()
            self.feed(head + (body or b""))
            return
        length = [] if body is None else [("content-length", "100000")]
        self.feed(self.headers(method, host, path, *length, ended=body is None))
        if body:
            self.more(body)

    def headers(
        self, method: str, host: str, path: str, *more: tuple[str, str], ended=True
    ) -> bytes:
        """A request on the next stream."""
        pseudo = [(":method", method), (":scheme", "https"), (":authority", host), (":path", path)]
        self.number += 2
        return frames.headers(self.number, self.encoder.encode([*pseudo, *more]), ended)

    def more(self, body: bytes) -> None:
        """More of that body."""
        self.feed(frames.data(self.number, body, False) if self.version == "2" else body)

    def feed(self, data: bytes) -> None:
        with self.loop.running():
            self.front.data_received(data)
            self.loop.turn()

    def sweep(self, now: float) -> None:
        self.service.next_sweep = now
        with self.loop.running():
            self.front.sweep(now)
            self.loop.turn()

    def take_it(self) -> None:
        """As if there were an upstream that takes the body."""
        with self.loop.running():
            self.client.throttle(~0, False)
            self.loop.turn()

    @property
    def client(self):
        """The client side of the last request."""
        return self.front if self.version == "1" else self.front.streams[self.number]

    def answer(self) -> bytes:
        """Status and fields of what was sent, one a line, in lower case."""
        data = self.transport.take()
        if self.version == "1":
            head = data.partition(b"\r\n\r\n")[0].lower()
            return head.partition(b" ")[2]
        lines, at = [], 0
        while at < len(data):
            high, low, kind, _, _ = frames.HEADER.unpack_from(data, at)
            stop = at + 9 + (high << 8 | low)
            if kind == frames.HEADERS:
                decoded = self.decoder.decode(data[at + 9 : stop], raw=True)
                lines += [value if name == b":status" else b"%b: %b" % (name, value)
                          for name, value in decoded]  # fmt: skip
            at = stop
        return b"\r\n".join(lines).lower()
