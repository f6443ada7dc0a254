"""Docker's Engine API, as far as it is needed: what runs, and news of it.

    GET /containers/json    all containers that run
    GET /events             a stream of JSON objects, for as long as the connection lasts

It speaks HTTP by h11, over the Engine's socket file or to an address (a proxy that lets only these
two pass will do). It only ever sends GET. Invariants: an answer has `ANSWER` bytes at the most, and
every wait but that for the next event has an end. Raises `EngineError`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import quote

import h11

from rawproxy.config.model import Address

PATIENCE = 5.0  # seconds to connect, and then for the next piece of an answer
ANSWER = 32 << 20  # bytes: a container is listed in some 2 KiB
EVENT = 1 << 20  # bytes of one event, which has all labels of its container
PIECE = 1 << 16
LIST = "/containers/json"
# A container stops with `kill`, before it dies; health_status: has the result behind it.
FILTERS = {
    "type": ["container", "network"],
    "event": [
        "start", "die", "kill", "pause", "unpause", "health_status", "rename",
        "connect", "disconnect",
    ],
}  # fmt: skip
EVENTS = f"/events?filters={quote(json.dumps(FILTERS))}"


class EngineError(Exception):
    """Docker cannot be asked, or says what nobody understands."""


class EngineTalk:
    """One request and its answer, without a socket: bytes go in, pieces of the body come out."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT)
        self.over = False

    def request(self, target: str) -> bytes:
        """The bytes of a GET."""
        fields = [("Host", "docker"), ("User-Agent", "rawproxy"), ("Accept", "application/json")]
        head = h11.Request(method="GET", target=target, headers=fields)
        return (self._http.send(head) or b"") + (self._http.send(h11.EndOfMessage()) or b"")

    def feed(self, data: bytes) -> list[bytes]:
        """What the bytes bring of the body; empty ones are the end. Raises `EngineError`."""
        found = []
        try:
            self._http.receive_data(data)
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    break
                if isinstance(event, h11.Response) and event.status_code != 200:
                    said = bytes(event.reason).decode("latin-1")
                    raise EngineError(f"it answers {event.status_code} {said}")
                if isinstance(event, h11.Data):
                    found.append(bytes(event.data))
                if isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                    self.over = True
                    break
        except h11.RemoteProtocolError as error:
            raise EngineError(f"not an answer of HTTP: {error}") from None
        return found


class EventLines:
    """Makes events of a stream of JSON objects, one a line, however it was cut."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The events that are complete now. Raises `EngineError`."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > EVENT:
            raise EngineError(f"an event is longer than {EVENT} bytes")
        try:
            found = [json.loads(line) for line in lines if line.strip()]
        except ValueError:
            raise EngineError("an event is no JSON") from None
        if not all(isinstance(one, dict) for one in found):
            raise EngineError("an event is no object")
        return found


class DockerEngine:
    """Where one Engine is. Every call makes a connection of its own."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def listed(self) -> Any:
        """What runs now; it may take as long as `PATIENCE` a piece. Raises `EngineError`."""
        talk, body = EngineTalk(), bytearray()
        try:
            with self._connected() as sock:
                sock.sendall(talk.request(LIST))
                while not talk.over:
                    body += b"".join(talk.feed(sock.recv(PIECE)))
                    _bounded(body)
        except OSError as error:
            raise EngineError(error.strerror or str(error)) from None
        return _json(body)

    def _connected(self) -> socket.socket:
        address = self._address
        if address.path is None:
            return socket.create_connection((address.host or "", address.port), PATIENCE)
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(PATIENCE)
            sock.connect(address.path)
        except OSError:
            sock.close()
            raise
        return sock

    async def ask(self) -> Any:
        """The same as `listed`, in a loop. Raises `EngineError`."""
        body = bytearray()
        async with contextlib.aclosing(self._pieces(LIST, PATIENCE)) as pieces:
            async for piece in pieces:
                body += piece
                _bounded(body)
        return _json(body)

    async def events(self) -> AsyncGenerator[dict[str, Any], None]:
        """News, until the connection ends. An empty one comes first: from now on none is missed.

        Raises `EngineError`.
        """
        lines = EventLines()
        async with contextlib.aclosing(self._pieces(EVENTS, None)) as pieces:
            async for piece in pieces:
                for event in lines.feed(piece) if piece else [{}]:
                    yield event

    async def _pieces(self, target: str, patience: float | None) -> AsyncGenerator[bytes, None]:
        """The body of an answer; an empty piece first, once the request is with the Engine."""
        talk = EngineTalk()
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await self._open()
                writer.write(talk.request(target))
                await writer.drain()
                # The head of the answer, which comes at once: the Engine has begun to listen.
                data = await reader.read(PIECE)
            first = talk.feed(data)
            yield b""
            for piece in first:
                yield piece
            while not talk.over:
                async with asyncio.timeout(patience):
                    data = await reader.read(PIECE)
                for piece in talk.feed(data):
                    yield piece
        except OSError as error:  # TimeoutError is one
            raise EngineError(error.strerror or str(error) or "it does not answer") from None
        finally:
            if writer is not None:
                writer.close()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = self._address
        if address.path is None:
            return await asyncio.open_connection(address.host, address.port)
        return await asyncio.open_unix_connection(address.path)


def _bounded(body: bytearray) -> None:
    if len(body) > ANSWER:
        raise EngineError(f"its answer is longer than {ANSWER} bytes")


def _json(body: bytearray) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise EngineError("its answer is no JSON") from None
