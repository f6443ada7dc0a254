"""What the master and its workers say to each other: one JSON object a line, over a socketpair.

    master ──► worker   {"do": "serve"}, "stats", "drain", "cut", "reopen"    orders
                        {"sums": {"workers": […], "retired": {…}}}            an answer
                        {"pins": {…}}                                         what others accepted
                        {"tickets": "4f00…"}                                  new keys of tickets
    worker ──► master   {"is": "ready"}, "serving", "draining"                where it has got to
                        {"failed": ["--cert f: …"], "code": 2}            why it cannot start
                        {"stats": {"counters": {…}, "gauges": {…}, …},    asked for, and at the end;
                         "pins": {…}}            at once where one accepts a certificate
                        {"ask": "sums"}                                   for a metrics page, say

A snapshot's `counters` only ever grow, and outlive their worker in the sums; whatever else is in
it goes with the worker. The last ones that a killed worker sent count.

Nothing here opens a socket or looks at a clock, and no order is carried out here. Invariants: half
a line is never acted upon; no more than `LIMIT` bytes wait for a worker that does not read, nor
much more than `UNREAD` for a master that does not.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any, cast

from rawproxy.errors import ignore
from rawproxy.telemetry.counters import Tree, add

Message = dict[str, Any]
UNREAD = 1 << 20  # bytes for a master that does not read, until nobody is asked for its sums
LIMIT = 8 << 20  # bytes of one line, or unsent ones: a big configuration, many workers' counters


def encode(message: Message) -> bytes:
    """One line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


class Lines:
    """Bytes in, whole messages out."""

    __slots__ = ("_buffer", "_limit")

    def __init__(self, limit: int = LIMIT) -> None:
        self._buffer = b""
        self._limit = limit

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are whole now. Raises `ValueError` for what is none."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > self._limit:
            raise ValueError("a line without end")
        messages = [json.loads(line) for line in lines]
        if not all(isinstance(message, dict) for message in messages):
            raise ValueError("not an object")
        return messages


class Ledger:
    """The master's book: the last snapshot of each worker, and the counters of those gone."""

    def __init__(self) -> None:
        self.live: dict[int, Tree] = {}  # by the worker's process id
        self.retired: Tree = {}

    def note(self, pid: int, snapshot: Tree) -> None:
        """What this worker counted so far."""
        self.live[pid] = snapshot

    def bury(self, pid: int) -> None:
        """The worker has gone: its counters stay, its gauges do not."""
        snapshot = self.live.pop(pid, {})
        self.retired = add(self.retired, snapshot.get("counters", {}))

    def sums(self) -> Tree:
        """What a worker is told that asks: to be summed by whoever shows it."""
        return {"workers": list(self.live.values()), "retired": self.retired}


class Channel:
    """The master's end of a worker's socketpair: never blocks, whatever the worker does."""

    def __init__(self, sock: socket.socket, limit: int = LIMIT) -> None:
        sock.setblocking(False)
        self._limit = limit
        self.sock = sock
        self.unsent = b""
        self._lines = Lines()

    def send(self, message: Message) -> None:
        """As much as fits now; the rest waits for `flush`. A worker that has gone is ignored."""
        if len(self.unsent) < self._limit:
            self.unsent += encode(message)
        self.flush()

    def flush(self) -> None:
        """Send on; called when the socket is writable and `unsent` is not empty."""
        try:
            while self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.unsent = b""

    def receive(self) -> list[Message] | None:
        """What came; None once the worker has closed its end, or makes no sense."""
        try:
            data = self.sock.recv(1 << 16)
            return self._lines.feed(data) if data else None
        except (BlockingIOError, InterruptedError):
            return []
        except (OSError, ValueError):
            return None


def _nothing_yet() -> dict[str, Any]:
    """What a worker has to report as long as it does not serve."""
    return {}


class Control(asyncio.Protocol):
    """The worker's end."""

    def __init__(self) -> None:
        self.snapshot: Callable[[], Tree] = _nothing_yet
        self.pins: Callable[[], dict[str, str]] = _nothing_yet
        self.learn: Callable[[dict[str, str]], object] = ignore  # pins that others found
        self.renew: Callable[[bytes], object] = ignore  # keys of tickets
        self.orders: dict[str, Callable[[], object]] = {"stats": self.report}
        self.gone: Callable[[], object] = ignore  # called once the master has gone
        self._lines = Lines()
        self._asking: list[asyncio.Future[Tree]] = []
        self._transport: asyncio.Transport | None = None

    def say(self, message: Message) -> None:
        """Tell the master."""
        if self._transport is not None:
            self._transport.write(encode(message))

    def behind(self) -> bool:
        """Whether the master does not read: then nothing more is said that need not be."""
        transport = self._transport
        return transport is not None and transport.get_write_buffer_size() > UNREAD

    def report(self) -> None:
        """The counters as they are."""
        self.say({"stats": self.snapshot(), "pins": self.pins()})

    async def sums(self) -> Tree:
        """All workers' snapshots, ours as fresh as can be. Raises `ConnectionError`."""
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
            elif "tickets" in message:
                self.renew(bytes.fromhex(message["tickets"]))
            else:
                self.orders.get(message.get("do", ""), ignore)()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for asking in self._asking:
            if not asking.done():
                asking.set_exception(ConnectionResetError("the master has gone"))
        self._asking.clear()
        self.gone()

    async def close(self) -> None:
        """Hear no more; what was said is still sent."""
        if self._transport is not None:
            self._transport.close()
        await asyncio.sleep(0)


def first(sock: socket.socket) -> Message:
    """A child's first message, waited for; the master sends no other one until it is answered.

    Raises `EOFError` where the master has gone.
    """
    lines = Lines()
    while data := sock.recv(1 << 16):
        for message in lines.feed(data):
            return message
    raise EOFError
