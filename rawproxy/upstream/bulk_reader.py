"""Long bodies are read into one place, and little at a time while many clients are slow.

The loop's own transports read a quarter of a megabyte at once, which is right for a client that
takes it. One that does not leaves it in memory, and a thousand of those are 256 MB. So whoever
reads a long body says how much it wants, each time.

It stands in for its connection between the transport and it, and never looks at a byte. Invariant:
what it hands over is a copy, as the place is everybody's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

# Bytes still to come, or, where nobody says, bytes of one read, behind which a body is a long one:
# less than that is one read anyway.
LONG: Final = 64 * 1024
LONG_READ: Final = 32 * 1024
# Bytes of one read: system calls are what it costs to read less, memory what it costs to read more.
# As many as uvloop reads: of a few more, which are a power of two, malloc gave each back to the
# kernel, and a megabyte cost 40 % more.
MOST: Final = 256_000
LITTLE: Final = 16 * 1024
FEW: Final = 32  # connections that wait for their clients, before the others read little


class BulkBuffer:
    """What one thread reads long bodies into: one at a time, as nobody keeps it."""

    __slots__ = ("little", "whole")

    def __init__(self) -> None:
        self.whole = memoryview(bytearray(MOST))
        self.little = self.whole[:LITTLE]


class BulkReader(asyncio.BufferedProtocol):
    """Reads for `connection`, of which it is the transport's protocol meanwhile."""

    __slots__ = ("_connection", "_view", "_where")

    _view: memoryview

    def __init__(self, connection: asyncio.Protocol, where: Callable[[], memoryview]) -> None:
        self._connection = connection
        self._where = where

    def get_buffer(self, sizehint: int) -> memoryview:
        view = self._view = self._where()
        return view

    def buffer_updated(self, nbytes: int) -> None:
        self._connection.data_received(bytes(self._view[:nbytes]))

    def eof_received(self) -> bool | None:
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()
