"""What the master and its workers say to each other: one JSON object a line, over a socketpair.

    master ──► worker   {"do": "serve"}, "stats", "retire", "drain", "cut", "reopen"    orders
                        {"sums": {"workers": […], "retired": {…}}}      the answer to "ask"
                        {"pins": {…}}                       certificates that others accepted
                        {"tickets": "4f00…"}                new keys of TLS tickets
                        {"secret": "9c1d…"}                 what only the machines of a store know
                        {"change": 7, …}                    another configuration: `adoption`
    worker ──► master   {"is": "ready", "lines": […]}, {"is": "draining"}    its state
                        {"failed": ["--cert f: …"], "code": 2}      why it cannot start
                        {"stats": {…}, "pins": {…}}         its numbers, when asked and at the end;
                                                            at once if it accepts a certificate
                        {"ask": "sums"}                     the numbers of all, for a page
                        {"change": 7, …}                    what becomes of that configuration
    keeper ──► master   {"shared": {"tickets": …}}          what holds on other machines too
                        {"counted": {"store": {…}}}         its numbers

The first message to a child is its work order (`order`), or {"do": "load"}.

This module never opens a socket, never looks at a clock, and carries out no order. Invariants:
nobody acts on half a line. At most `LIMIT` bytes wait for a worker that does not read, and little
more than `UNREAD` bytes for a master that does not read.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any, cast

from rawproxy.errors import ignore
from rawproxy.telemetry.counters import Tree

Message = dict[str, Any]
IN_FORCE, REFUSED = "in force", "refused"  # what becomes of an offer: `loader`
UNREAD = 1 << 20  # bytes that the master has not read; beyond it no worker asks for sums
LIMIT = 8 << 20  # bytes of a line, or unsent: a big configuration, the counters of many workers


def encode(message: Message) -> bytes:
    """The message as a line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


class LineReader:
    """Makes messages of bytes, however the bytes were cut."""

    __slots__ = ("_buffer", "_limit")

    def __init__(self, limit: int = LIMIT) -> None:
        self._buffer = b""
        self._limit = limit

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete now. Raises `ValueError` for a line that is no message."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > self._limit:
            raise ValueError(f"a message between processes is longer than {self._limit} bytes")
        messages = [json.loads(line) for line in lines]
        if not all(isinstance(message, dict) for message in messages):
            raise ValueError("a message between processes is no JSON object")
        return messages


class ChildChannel:
    """The master's end of a child's socketpair. It never blocks, whatever the child does."""

    def __init__(self, sock: socket.socket, limit: int = LIMIT) -> None:
        sock.setblocking(False)
        self._limit = limit
        self.sock = sock
        self.unsent = b""
        self._lines = LineReader()

    def send(self, message: Message) -> None:
        """Send as much as the socket takes now; the rest waits for `flush`.

        To a child that has gone nothing is sent, and that is no error.
        """
        if len(self.unsent) < self._limit:
            self.unsent += encode(message)
        self.flush()

    def flush(self) -> None:
        """Send what is unsent. The loop calls this when the socket takes bytes again."""
        try:
            while self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.unsent = b""

    def receive(self) -> list[Message] | None:
        """The messages that came. None if the child has closed its end, or sends nonsense."""
        try:
            data = self.sock.recv(1 << 16)
            return self._lines.feed(data) if data else None
        except (BlockingIOError, InterruptedError):
            return []
        except (OSError, ValueError):
            return None


def _nothing_yet() -> dict[str, Any]:
    """What a worker reports before it serves."""
    return {}


class MasterChannel(asyncio.Protocol):
    """The worker's end. The worker sets the callbacks once it has what they need."""

    def __init__(self) -> None:
        self.snapshot: Callable[[], Tree] = _nothing_yet
        self.pins: Callable[[], dict[str, str]] = _nothing_yet
        self.learn: Callable[[dict[str, str]], object] = ignore  # pins that others found
        self.renew: Callable[[bytes], object] = ignore  # new keys of TLS tickets
        self.reseed: Callable[[bytes], object] = ignore  # a secret that other machines have too
        self.change: Callable[[Message], object] = ignore  # another configuration: `adoption`
        self.orders: dict[str, Callable[[], object]] = {"stats": self.report}
        self.gone: Callable[[], object] = ignore  # called once the master has gone
        self._lines = LineReader()
        self._asking: list[asyncio.Future[Tree]] = []
        self._transport: asyncio.Transport | None = None

    def say(self, message: Message) -> None:
        """Send a message to the master, if there is one still."""
        if self._transport is not None:
            self._transport.write(encode(message))

    def behind(self) -> bool:
        """Whether the master does not read: then only what it must know is sent."""
        transport = self._transport
        return transport is not None and transport.get_write_buffer_size() > UNREAD

    def report(self) -> None:
        """Send the counters and the accepted certificates as they are now."""
        self.say({"stats": self.snapshot(), "pins": self.pins()})

    async def sums(self) -> Tree:
        """The snapshots of all workers; ours is fresh. Raises `ConnectionError`."""
        if self._transport is None:
            raise ConnectionResetError("the master has gone")
        if self.behind():
            raise ConnectionResetError("the master does not read")
        self.report()
        self.say({"ask": "sums"})
        asking: asyncio.Future[Tree] = asyncio.get_running_loop().create_future()
        self._asking.append(asking)
        return await asking

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for message in self._lines.feed(data):
            if "sums" in message:
                asking = self._asking.pop(0)
                if not asking.done():
                    asking.set_result(message["sums"])
            elif "pins" in message:
                self.learn(message["pins"])
            elif "change" in message:
                self.change(message)
            elif "tickets" in message:
                self.renew(bytes.fromhex(message["tickets"]))
            elif "secret" in message:
                self.reseed(bytes.fromhex(message["secret"]))
            else:
                # A newer master may give orders that this code does not know.
                self.orders.get(message.get("do", ""), ignore)()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for asking in self._asking:
            if not asking.done():
                asking.set_exception(ConnectionResetError("the master has gone"))
        self._asking.clear()
        self.gone()

    async def close(self) -> None:
        """Receive no more. What was said before is still sent."""
        if self._transport is not None:
            self._transport.close()
        await asyncio.sleep(0)


def first_message(sock: socket.socket) -> Message:
    """Wait for a child's first message. The master sends no other one until it is answered.

    Raises `EOFError` if the master has gone, `ValueError` for a line that is no message.
    """
    lines = LineReader()
    while data := sock.recv(1 << 16):
        for message in lines.feed(data):
            return message
    raise EOFError
