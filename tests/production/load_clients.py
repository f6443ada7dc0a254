"""Clients of the reload test, each strict: nothing is sent again that may have been heard.

`Tally.failed` is whatever a client cannot explain: a connection that ended with a request on it, a
wrong answer, a WebSocket that ended without a Close frame of 1012. What befalls the connections of
a worker that was killed is counted apart, by their ports.
"""

import asyncio
import collections
import contextlib
import os
import random
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage


@dataclass
class Tally:
    """What all clients saw."""

    h1: int = 0
    h2: int = 0
    messages: int = 0
    connections: int = 0
    refused_and_sent_again: int = 0  # HTTP/2 streams above the GOAWAY's: by RFC 9113 6.8 unheard
    killed: collections.Counter = field(default_factory=collections.Counter)
    closes: collections.Counter = field(default_factory=collections.Counter)
    failed: collections.Counter = field(default_factory=collections.Counter)
    doomed: set[int] = field(default_factory=set)  # client ports of killed workers' connections
    sockets: int = 0  # WebSockets open now
    over: bool = False

    def blame(self, kind: str, port: int, why: object) -> None:
        """A request or a WebSocket came to harm."""
        if port in self.doomed:
            self.killed[kind] += 1
        else:
            self.failed[f"{kind}: {why}"] += 1


async def dial(port: int) -> tuple[socket.socket, int]:
    """A TCP connection, and its port: known before anything can go wrong with it."""
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return sock, sock.getsockname()[1]


async def http1(tally: Tally, port: int, tls: ssl.SSLContext | None, pause: float) -> None:
    """GETs and POSTs over kept connections, with up to `pause` seconds of silence between them."""
    while not tally.over:
        name = "localhost" if tls else None
        sock, ours = await dial(port)
        try:
            reader, writer = await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=name)
        except OSError as error:
            tally.blame("TLS handshake", ours, repr(error))
            continue
        tally.connections += 1
        try:
            while not tally.over:
                if pause:
                    await asyncio.sleep(random.random() * pause)
                if reader.at_eof() or not await ask(tally, reader, writer):
                    break
        except (OSError, EOFError) as error:
            tally.blame("HTTP/1.1", ours, type(error).__name__)
        finally:
            writer.transport.abort()


async def ask(tally: Tally, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """One request; whether the connection stays."""
    path = b"/%x" % random.getrandbits(64)
    if random.random() < 0.3:
        head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody"
    else:
        head = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n"
    writer.write(head % path)
    answer = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(len(path))
    if not answer.startswith(b"HTTP/1.1 200 ") or body != path:
        tally.failed[f"HTTP/1.1: {answer[:40]!r}"] += 1
    else:
        tally.h1 += 1
    return b"connection: close" not in answer.lower()


class Http2:
    """One HTTP/2 client: a connection, `streams` requests at once, and another one after GOAWAY."""

    def __init__(self, tally: Tally, port: int, tls: ssl.SSLContext, streams: int) -> None:
        self.tally, self.port, self.tls, self.streams = tally, port, tls, streams
        self.again: list[tuple[bytes, bool]] = []

    async def run(self) -> None:
        while not self.tally.over:
            sock, self.ours = await dial(self.port)
            try:
                reader, writer = await asyncio.open_connection(
                    sock=sock, ssl=self.tls, server_hostname="localhost"
                )
            except OSError as error:
                self.tally.blame("TLS handshake", self.ours, repr(error))
                continue
            self.tally.connections += 1
            try:
                await self.serve(reader, writer)
            finally:
                writer.transport.abort()

    async def serve(self, reader, writer) -> None:
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        wire = self.wire = h2.connection.H2Connection(config)
        wire.initiate_connection()
        wire.increment_flow_control_window(1 << 24)
        self.open: dict[int, tuple[bytes, bool]] = {}
        self.bodies: dict[int, bytes] = {}
        self.last, self.buffer = False, b""
        while self.open or not (self.last or self.tally.over):
            while not self.last and len(self.open) < self.streams and not self.tally.over:
                self.request()
            writer.write(wire.data_to_send())
            try:
                data = await reader.read(65536)
            except OSError as error:
                data, why = b"", type(error).__name__
            else:
                why = "end of file"
            if not data:
                for _ in self.open:
                    self.tally.blame("HTTP/2", self.ours, why)
                return
            self.buffer += data
            while len(self.buffer) >= max(9, self.size()):
                size = self.size()
                frame, self.buffer = self.buffer[:size], self.buffer[size:]
                for event in wire.receive_data(frame):
                    self.on_event(event)
        writer.write(wire.data_to_send())

    def size(self) -> int:
        """Of the next frame; h2 is fed one by one, as it takes GOAWAY for the end of everything."""
        return 9 + int.from_bytes(self.buffer[:3], "big")

    def request(self) -> None:
        path, post = self.again.pop() if self.again else (
            b"/%x" % random.getrandbits(64), random.random() < 0.3
        )  # fmt: skip
        number = self.wire.get_next_available_stream_id()
        self.open[number] = (path, post)
        self.bodies[number] = b""
        method = b"POST" if post else b"GET"
        self.wire.send_headers(
            number,
            [(b":method", method), (b":scheme", b"https"), (b":authority", b"localhost"),
             (b":path", path), *([(b"content-length", b"4")] if post else [])],
            end_stream=not post,
        )  # fmt: skip
        if post:
            self.wire.send_data(number, b"body", end_stream=True)

    def on_event(self, event) -> None:
        tally = self.tally
        number = getattr(event, "stream_id", None)
        if isinstance(event, h2.events.ResponseReceived):
            status = dict(event.headers)[b":status"]
            if status != b"200":
                tally.failed[f"HTTP/2: {status!r}"] += 1
        elif isinstance(event, h2.events.DataReceived):
            self.bodies[number] += event.data
            self.wire.acknowledge_received_data(event.flow_controlled_length, number)
        elif isinstance(event, h2.events.StreamEnded):
            path, _ = self.open.pop(number)
            if self.bodies.pop(number) == path:
                tally.h2 += 1
            else:
                tally.failed["HTTP/2: wrong body"] += 1
        elif isinstance(event, h2.events.StreamReset):
            asked = self.open.pop(number)
            if event.error_code == h2.errors.ErrorCodes.REFUSED_STREAM:
                self.put_back(asked)
            else:
                tally.failed[f"HTTP/2: reset {event.error_code!r}"] += 1
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.last = True
            self.wire.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN
            if event.error_code:
                tally.failed[f"HTTP/2: GOAWAY {event.error_code!r}"] += 1
            for late in [n for n in self.open if n > event.last_stream_id]:
                self.put_back(self.open.pop(late))

    def put_back(self, asked: tuple[bytes, bool]) -> None:
        self.tally.refused_and_sent_again += 1
        self.again.append(asked)


async def websocket(tally: Tally, port: int, tls: ssl.SSLContext) -> None:
    """Compressed, fragmented messages, echoed; after a Close of 1012 it comes back."""
    while not tally.over:
        sock, ours = await dial(port)
        try:
            async with connect(
                f"wss://localhost:{port}/ws", ssl=tls, sock=sock, server_hostname="localhost",
                ping_interval=None, close_timeout=5, open_timeout=60, proxy=None,
            ) as ws:  # fmt: skip
                tally.sockets += 1
                try:
                    await talk(tally, ws)
                finally:
                    tally.sockets -= 1
        except ConnectionClosed as closed:
            if closed.rcvd is not None and closed.rcvd.code == 1012:
                tally.closes["1012"] += 1
            else:
                tally.blame("WebSocket", ours, closed)
        except (OSError, InvalidHandshake, InvalidMessage, EOFError, TimeoutError) as error:
            tally.blame("WebSocket handshake", ours, repr(error))


async def talk(tally: Tally, ws) -> None:
    while not tally.over:
        pieces = [os.urandom(random.choice((2, 50, 3000))).hex() for _ in range(4)]

        async def slowly(pieces: list[str] = pieces) -> AsyncIterator[str]:
            for piece in pieces:
                yield piece
                await asyncio.sleep(random.random() * 0.5)

        await ws.send(slowly())
        if await ws.recv() != "".join(pieces):
            tally.failed["WebSocket: a message was changed"] += 1
        tally.messages += 1
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ws.wait_closed(), random.random() * 2)
