"""A child that reads the configuration with the code as it is now, and says what is other in it.

    master ──► loader    {"do": "load", "running": {…}, "kept": […]}
    loader ──► master    {"order": {…}, "change": {…}}    what it has read, beside what is in force
    master ──► loader    {"verdict": "in force"}, "refused"
    loader ──► master    {"sources": {…}, "kept": […]}    how the sources are; with each offer too

Without sources it ends when it has answered. With sources it stays, watches them, and offers
another order whenever they say something else. `kept` is the last good state of fragments that are
wrong now: the master keeps it for the next loader.

It never serves. Invariants: one offer is under way at a time; each is compared with the order that
is in force (`compared`).
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

from rawproxy.config.capabilities import modules
from rawproxy.config.collector import paused
from rawproxy.config.model import Config
from rawproxy.config.options import CAPABILITIES
from rawproxy.config.reading import Reading
from rawproxy.process.channel import IN_FORCE, REFUSED, LineReader, Message, encode
from rawproxy.process.compared import compared
from rawproxy.process.order import Order, order, unpacked


class Loader:
    """One loader. Raises `ConfigError` for a configuration that cannot be used."""

    def __init__(self, reading: Reading, message: Message) -> None:
        running = message.get("running")  # a master of older code has none
        self._running: Order | None = None if running is None else unpacked(running)
        self._good: Any = None  # the state of the sources, if there are any
        self._room: Any = None  # and who watches them
        rooms = zip(
            modules(CAPABILITIES, "joining"), modules(CAPABILITIES, "watching"), strict=True
        )
        for joining, watching in rooms if self._running is not None else ():
            self._good, self._room = joining.joined(reading, message.get("kept") or []), watching
        self._config: Config = reading.config() if self._good is None else self._good.config
        self._compare()
        # The workers have loaded those certificates that are in force: thousands take seconds.
        if self._config.https and (self._change is None or self._change.get("tls", True)):
            from rawproxy.tls.server import server_context  # heavy, and not every proxy speaks TLS

            server_context(self._config)

    def _compare(self) -> None:
        self._offered = order(self._config)
        self._change: Message | None = None  # by a master of older code
        if self._running is not None:
            self._change = compared(self._running, self._offered, self._config)

    def offer(self) -> Message:
        """What was read, beside what is in force."""
        message: Message = {"order": self._offered.packed()}
        if self._change is not None:
            message["change"] = self._change
        return message | self._state()

    def stays(self) -> bool:
        """Whether there is something to watch."""
        return self._good is not None

    async def watch(self, sock: socket.socket) -> None:
        """Watch the sources until the master has gone, or has refused the first offer."""
        verdicts = Verdicts()
        await asyncio.get_running_loop().create_unix_connection(lambda: verdicts, sock=sock)
        if await verdicts.next() != IN_FORCE:
            return
        self._running = self._offered

        async def changed(another: bool) -> None:
            if not another:
                verdicts.say(self._state())
                return
            with paused():
                self._config = self._good.config
                self._compare()
                offer = self.offer()
            verdicts.say(offer)
            if await verdicts.next() == IN_FORCE:
                self._running = self._offered

        watching = asyncio.ensure_future(self._room.watch(self._good, changed))
        gone = asyncio.ensure_future(verdicts.gone.wait())
        await asyncio.wait((watching, gone), return_when=asyncio.FIRST_COMPLETED)
        for task in (watching, gone):
            task.cancel()
        await asyncio.gather(watching, gone, return_exceptions=True)

    def _state(self) -> Message:
        if self._good is None:
            return {}
        return {"sources": self._good.report(), "kept": self._good.kept()}


class Verdicts(asyncio.Protocol):
    """The loader's end of its socketpair, once it watches."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self._lines = LineReader()
        self._words: asyncio.Queue[str] = asyncio.Queue()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for message in self._lines.feed(data):
            if "verdict" in message:
                self._words.put_nowait(message["verdict"])

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        self._words.put_nowait(REFUSED)

    def say(self, message: Message) -> None:
        """Tell the master."""
        assert self._transport is not None
        self._transport.write(encode(message))

    async def next(self) -> str:
        """What became of an offer. A master that has gone refuses."""
        return await self._words.get()
