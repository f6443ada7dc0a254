"""Shows the compiler what rawproxy usually does: seconds of each kind of work, for `make fast`.

`python -m bench.train COMMAND` runs COMMAND between the clients and the origin below. COMMAND is a
rawproxy built to count how often each line is executed. The compiler then lays out the final build
by these counts, with the usual path straight and the rest aside.

Nothing is measured here. Every response must be a 200, as a training that went wrong must not shape
a build. Invariant: what was started is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import ssl
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from hpack import Encoder, NeverIndexedHeaderTuple

from bench import payloads
from bench.procs import free_ports, insecure_context, spawn, wait_for_port
from rawproxy.tls.self_signed import load_self_signed

ALIKE = 4  # turns of HTTP/2 requests in which all but the path is as before, as within a page
CLIENTS = 16  # at once, each on a connection of its own
PATIENCE = 120.0  # seconds for all of it; it takes less than twenty
READ = 256 * 1024
SMALL = payloads.body(payloads.SMALL)
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 02 Nov 2026 10:00:00 GMT\r\n"
    b"Content-Type: text/html\r\nContent-Length: %d\r\nConnection: keep-alive\r\n"
    b"Cache-Control: no-cache\r\nVary: Accept-Encoding, Cookie\r\nX-Authentik-Id: %032x\r\n\r\n"
)
# What a guard says of whoever it lets pass (row `guarded-plain`).
GUARD = ANSWER[:-2] + (
    b"X-authentik-username: alice\r\nX-authentik-groups: users|admins\r\n"
    b"X-authentik-email: alice@bench.test\r\nX-authentik-name: Alice\r\n"
    b"X-authentik-jwt: " + payloads.TOKEN.encode() + b"\r\n\r\n"
)
ASKS = """\
[auth.sso]
kind = "authentik"
upstream = "http://127.0.0.1:{upstream}"

[[site]]
auth = "sso"
"""
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n"
    b"\r\n" + payloads.chunked(payloads.body(payloads.KIB16), 4096)
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
UPGRADE = (
    f"GET /ws HTTP/1.1\r\nHost: {payloads.HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
WINDOW = bytes((0, 0, 4, 8, 0, 0, 0, 0, 0)) + (2**31 - 65_536).to_bytes(4, "big")
HEADERS, SETTINGS, PING, ACK = 1, 4, 6, 1
END_STREAM, END_OF_HEAD = 1, 5  # flags
OK = b"\x88"  # `:status: 200` of the static table (RFC 7541 A)

_numbers = itertools.count(1)


class Origin(asyncio.Protocol):
    """Answers each request by its path; behind an upgrade it echoes."""

    def __init__(self) -> None:
        self.got = b""
        self.tunnel = False
        self.transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.tunnel:
            self.transport.write(data)
            return
        self.got += data
        head, end, body = self.got.partition(b"\r\n\r\n")
        low = head.lower()
        at = low.find(b"\r\ncontent-length: ")
        if at >= 0 and len(body) < int(low[at + 18 :].split(b"\r\n", 1)[0]):
            return
        if b"\r\ntransfer-encoding:" in low and not body.endswith(b"\r\n0\r\n\r\n"):
            return
        if end:
            self.got = b""
            self.transport.write(self.answer(head.split(b" ", 2)[1]))

    def answer(self, target: bytes) -> bytes:
        if target == b"/ws":
            self.tunnel = True
            return SWITCH
        if target == b"/chunked":
            return CHUNKED
        if target.startswith(b"/outpost."):
            return GUARD % (0, next(_numbers))
        size = {b"/files/16k": payloads.KIB16, b"/files/1m": payloads.MIB1}.get(target)
        body = payloads.body(size) if size else SMALL
        return ANSWER % (len(body), next(_numbers)) + body


class Client:
    """One connection to rawproxy."""

    def __init__(self, port: int, context: ssl.SSLContext | None) -> None:
        self.port = port
        self.context = context
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> Client:
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.context, limit=READ
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def ask(self, request: bytes) -> None:
        """Send it and read the whole answer."""
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"an answer of the training was {head[:60]!r}")
        at = head.lower().find(b"\r\ncontent-length: ")
        if at < 0:
            await self.reader.readuntil(b"\r\n0\r\n\r\n")
        else:
            await self.reader.readexactly(int(head[at + 18 :].split(b"\r\n", 1)[0]))

    async def echo(self, sizes: tuple[int, ...], times: int) -> None:
        """Open a tunnel and send messages through it."""
        self.writer.write(UPGRADE)
        await self.reader.readuntil(b"\r\n\r\n")
        messages = [message(size) for size in sizes]
        for _ in range(times):
            for one in messages:
                self.writer.write(one)
                await self.reader.readexactly(len(one))


async def browse(client: Client, times: int) -> None:
    """The browser mix: no head is sent twice."""
    heads = payloads.browser_heads()
    for _ in range(times):
        await client.ask(payloads.browser_request(next(_numbers), heads))


async def repeat(client: Client, request: bytes, times: int) -> None:
    """The same request again and again."""
    for _ in range(times):
        await client.ask(request)


class Speaker:
    """HTTP/2 on one connection."""

    def __init__(self, client: Client, alike: int = ALIKE) -> None:
        self.client = client
        self.alike = alike  # turns in which all but the path is as before
        self.encoder = Encoder()
        self.heads = payloads.browser_heads()
        self.number = 1  # of the next stream
        self.turn = 0
        client.writer.write(PREFACE + WINDOW)

    async def ask(self, at_once: int, times: int) -> None:
        """Send so many requests at a time, so many times, and read the answers."""
        for _ in range(times):
            head = self.heads[self.turn // self.alike % 8]
            self.turn += 1
            frames = []
            for _ in range(at_once):
                block = self.encoder.encode(fields(*head))
                frames.append(frame(HEADERS, END_OF_HEAD, self.number, block))
                self.number += 2
            self.client.writer.write(b"".join(frames))
            ended = 0
            while ended < at_once:
                ended += await self._frame()

    async def _frame(self) -> int:
        """Read a frame; 1 if an answer ends with it."""
        reader, writer = self.client.reader, self.client.writer
        start = await reader.readexactly(9)
        payload = await reader.readexactly(int.from_bytes(start[:3], "big"))
        kind, flags = start[3], start[4]
        if kind == HEADERS and payload[:1] != OK:
            raise RuntimeError(f"an answer of the training began with {payload[:9]!r}")
        if kind in (SETTINGS, PING) and not flags & ACK:
            writer.write(frame(kind, ACK, 0, b"" if kind == SETTINGS else bytes(8)))
        elif kind <= HEADERS:
            return flags & END_STREAM
        elif kind not in (SETTINGS, PING, 8):
            raise RuntimeError(f"HTTP/2 frame {kind} in the training")
        return 0


async def streams(client: Client, at_once: int, times: int) -> None:
    """Send HTTP/2 requests, `at_once` at a time."""
    await Speaker(client).ask(at_once, times)


def fields(first: str, second: str) -> list[tuple[str, str]]:
    """A head of the mix as HTTP/2 fields."""
    line, *rest = f"{first}{next(_numbers)}{second}".rstrip().split("\r\n")
    method, target, _ = line.split(" ")
    named = [(name.lower(), value) for name, _, value in (one.partition(": ") for one in rest)]
    return [
        (":method", method),
        (":scheme", "https"),
        (":authority", payloads.HOST),
        # No table keeps a path of browsers and h2load: only then is a request read by it alone.
        NeverIndexedHeaderTuple(":path", target),
        *(pair for pair in named if pair[0] not in ("host", "connection")),
    ]


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """An HTTP/2 frame (RFC 9113 4.1)."""
    return b"%b%c%c%b%b" % (
        len(payload).to_bytes(3, "big"), kind, flags, stream.to_bytes(4, "big"), payload
    )  # fmt: skip


def message(size: int) -> bytes:
    """A WebSocket message as a client sends it, masked by zeros (RFC 6455 5.2)."""
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return b"\x82" + length + bytes(4) + payloads.body(size)


async def lesson(
    port: int, context: ssl.SSLContext | None, work: Callable[[Client], Awaitable[None]]
) -> None:
    """Let every client do the same work at the same time."""

    async def one() -> None:
        async with Client(port, context) as client:
            await work(client)

    await asyncio.gather(*(one() for _ in range(CLIENTS)))


async def lessons(port: int, context: ssl.SSLContext | None) -> None:
    """All work over HTTP/1, in about the proportions of daily life."""
    api = "".join(f"{name}: {value}\r\n" for name, value in payloads.API_HEAD.items())
    same = f"GET /small/api HTTP/1.1\r\n{api}\r\n".encode()
    upload = payloads.upload_request("/upload", payloads.MIB1)
    chunks = payloads.chunked_request("/chunked", payloads.KIB16)
    large, larger = (payloads.plain_request(f"/files/{name}").encode() for name in ("16k", "1m"))
    await lesson(port, context, lambda client: browse(client, 600))
    await lesson(port, context, lambda client: repeat(client, same, 150))
    await lesson(port, context, lambda client: repeat(client, large, 50))
    await lesson(port, context, lambda client: repeat(client, larger, 5))
    await lesson(port, context, lambda client: repeat(client, upload, 3))
    await lesson(port, context, lambda client: repeat(client, chunks, 60))
    await lesson(port, context, lambda client: client.echo((64, 1024, 16_384), 60))
    close = payloads.plain_request("/small/login", close=True).encode()
    for _ in range(12):
        await lesson(port, context, lambda client: client.ask(close))


async def train(command: str, work: Path) -> None:
    """Train two rawproxies: a plain one with log and metrics, and one over TLS without them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_self_signed(context, ())
    loop = asyncio.get_running_loop()
    cores = tuple(os.sched_getaffinity(0))
    for tls in (False, True):
        wrap = context if tls else None
        origin = await loop.create_server(Origin, "127.0.0.1", 0, ssl=wrap)
        upstream = origin.sockets[0].getsockname()[1]
        http, https, admin = free_ports(3)
        argv = [command, "--no-redirect", "--http", f"127.0.0.1:{http}"]
        if tls:
            argv += ["--https", f"127.0.0.1:{https}", "--self-signed", "--access-log", "off"]
            argv += ["--upstream", f"https://127.0.0.1:{upstream}", "--upstream-verify", "off"]
        else:
            argv += ["--upstream", f"http://127.0.0.1:{upstream}"]
            argv += ["--access-log", str(work / "access.log"), "--admin", f"127.0.0.1:{admin}"]
        proc = spawn("rawproxy", argv, cores, work / "rawproxy.log", {"PYTHONPATH": ""})
        try:
            await asyncio.to_thread(wait_for_port, proc, https if tls else http)
            await lessons(https if tls else http, insecure_context(["http/1.1"]) if tls else None)
            if tls:
                h2 = insecure_context(["h2"])
                await lesson(https, h2, lambda client: streams(client, 10, 40))
                await lesson(https, h2, lambda client: streams(client, 1, 100))
            proc.check()
        finally:
            proc.close()
            origin.close()


async def train_guard(command: str, work: Path) -> None:
    """Train a third one, which asks about each request."""
    origin = await asyncio.get_running_loop().create_server(Origin, "127.0.0.1", 0)
    upstream = origin.sockets[0].getsockname()[1]
    (http,) = free_ports(1)
    config = work / "guard.toml"
    config.write_text(ASKS.format(upstream=upstream))
    argv = [command, "--config", str(config), "--http", f"127.0.0.1:{http}"]
    argv += ["--upstream", f"http://127.0.0.1:{upstream}", "--access-log", "off"]
    cores = tuple(os.sched_getaffinity(0))
    proc = spawn("rawproxy", argv, cores, work / "rawproxy.log", {"PYTHONPATH": ""})
    try:
        await asyncio.to_thread(wait_for_port, proc, http)
        await lesson(http, None, lambda client: browse(client, 100))
        proc.check()
    finally:
        proc.close()
        origin.close()


async def train_all(command: str, work: Path) -> None:
    """All of it."""
    await train(command, work)
    await train_guard(command, work)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="rawproxy-train-") as work:
        uvloop.run(asyncio.wait_for(train_all(sys.argv[1], Path(work)), PATIENCE))


if __name__ == "__main__":
    main()
