"""Many requests at once to both proxies, over connections that are kept, and the upstream of both.

    Upstream   notes what it is asked, by the number of the request, and answers as was planned
    Line       one connection of a client: one request after another

A request carries its number in `X-Pair`, which is taken out of what is compared. It never judges.
"""

import asyncio
import ssl
from collections.abc import Collection
from typing import NamedTuple

from tests.nginx.asking import Answer
from tests.nginx.stand import Request, Seen, fields_of
from tests.process import PATIENCE

PAIR = b"\r\nx-pair:"
UNVERIFIED = ssl.create_default_context()
UNVERIFIED.check_hostname = False
UNVERIFIED.verify_mode = ssl.CERT_NONE


class Noted(NamedTuple):
    """What an upstream was asked."""

    line: str
    fields: dict[str, str]
    body: bytes


class Upstream:
    """The server behind both; `planned` says what to answer, `noted` what was asked by whom."""

    def __init__(self) -> None:
        self.planned: dict[str, Answer] = {}
        self.noted: dict[str, list[Noted]] = {}
        self.port = 0
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen on a free port of loopback."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Serving(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    def answer(self, head: bytes, body: bytes) -> tuple[bytes, bool]:
        """The response to one request, and whether the connection stays."""
        line, *rest = head.decode("latin-1").split("\r\n")
        fields = fields_of(rest)
        pair = fields.pop("x-pair", "")
        self.noted.setdefault(pair, []).append(Noted(line, fields, body))
        plan = self.planned[pair[1:]]
        kept = line.endswith("HTTP/1.1") and fields.get("connection", "").lower() != "close"
        lines = [f"HTTP/1.1 {plan.status} Said", "Content-Type: text/plain", *plan.lines]
        if not kept:  # said, so that nobody keeps what is about to end
            lines.append("Connection: close")
        if plan.status not in (204, 304):
            lines.append(f"Content-Length: {len(plan.body)}")
        made = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        return (made if line.startswith("HEAD ") else made + plan.body), kept


class _Serving(asyncio.Protocol):
    """One connection of a proxy."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            body, stop = _body(self.buffer, end)
            if body is None:
                return
            answer, kept = self.upstream.answer(self.buffer[:end], body)
            self.buffer = self.buffer[stop:]
            self.transport.write(answer)
            if not kept:
                self.transport.close()
                return


class Line(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self) -> None:
        self.buffer = b""
        self.headless = False
        self.waiter: asyncio.Future[tuple[bytes, bytes]] | None = None
        self.gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        if self.headless or self.buffer[9:12] in (b"204", b"304"):
            body, stop = b"", end + 4
        else:
            found, stop = _body(self.buffer, end, of_response=True)
            if found is None:
                return
            body = found
        self._give(self.buffer[:end], body)
        self.buffer = self.buffer[stop:]

    def connection_lost(self, error: Exception | None) -> None:
        self.gone = True
        head, _, body = self.buffer.partition(b"\r\n\r\n")
        self._give(head, body)  # one that ends with its connection, or none

    def _give(self, head: bytes, body: bytes) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result((head, body))

    async def ask(self, data: bytes, headless: bool) -> tuple[bytes, bytes]:
        """Head and body of the answer; an empty head if the connection ended instead."""
        self.headless = headless
        self.waiter = asyncio.get_running_loop().create_future()
        self.transport.write(data)
        return await self.waiter


class Client:
    """One client of one proxy: its connections by port."""

    def __init__(self, who: str, ports: dict[str, int], secure: Collection[str] = ()) -> None:
        self.who = who
        self.ports = ports
        self.secure = {ports[listen] for listen in secure}
        self.lines: dict[int, Line] = {}

    async def ask(self, number: int, request: Request) -> tuple[bytes, bytes]:
        """Head and body of the answer."""
        data = _bytes_of(request, f"{self.who[0]}{number}")
        for _ in range(2):  # a connection that was kept may have ended meanwhile
            line, fresh = await self._line(self.ports[request.listen])
            async with asyncio.timeout(PATIENCE):
                head, body = await line.ask(data, request.method == "HEAD")
            if head or fresh:
                break
        if b"\r\nconnection: close" in head.lower():
            line.transport.close()
            line.gone = True
        return head, body

    async def _line(self, port: int) -> tuple[Line, bool]:
        line = self.lines.get(port)
        if line is not None and not line.gone:
            return line, False
        loop = asyncio.get_running_loop()
        context = UNVERIFIED if port in self.secure else None
        name = "a.test" if context is not None else None
        _, line = await loop.create_connection(
            Line, "127.0.0.1", port, ssl=context, server_hostname=name
        )
        self.lines[port] = line
        return line, True

    def close(self) -> None:
        for line in self.lines.values():
            line.transport.close()


def seen(head: bytes, body: bytes, noted: list[Noted]) -> Seen:
    """What came of a request, as `compare` takes it."""
    status, *lines = head.decode("latin-1").split("\r\n")
    code = int(status.split()[1]) if status else 0
    line = " and then ".join(one.line for one in noted)
    asked = noted[0] if noted else Noted("", {}, b"")
    return Seen(line, asked.fields, code, fields_of(lines), body, asked.body)


def _bytes_of(request: Request, pair: str) -> bytes:
    lines = [f"{request.method} {request.target} HTTP/1.1", f"Host: {request.host}", *request.lines]
    lines.append(f"X-Pair: {pair}")
    if request.body:
        lines.append(f"Content-Length: {len(request.body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + request.body


def _body(data: bytes, end: int, *, of_response: bool = False) -> tuple[bytes | None, int]:
    """The body behind the head that ends at `end`, and where it stops; None: it is not whole."""
    head, start = data[:end].lower(), end + 4
    at = head.find(b"\r\ntransfer-encoding: chunked")
    if at >= 0:
        return _chunks(data, start)
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        return (None, start) if of_response else (b"", start)
    length = int(head[at + 17 :].partition(b"\r\n")[0])
    stop = start + length
    return (data[start:stop] if len(data) >= stop else None), stop


def _chunks(data: bytes, at: int) -> tuple[bytes | None, int]:
    made = b""
    while True:
        stop = data.find(b"\r\n", at)
        if stop < 0:
            return None, at
        size = int(data[at:stop], 16)
        at = stop + 2 + size + 2
        if len(data) < at:
            return None, at
        if not size:
            return made, at
        made += data[stop + 2 : stop + 2 + size]
