"""Reads long bodies: into one shared buffer, and little at a time while many clients are slow.

The loop's own transports read a quarter of a megabyte at once. That is right if the client takes
it. If not, it stays in memory, and a thousand such clients are 256 MB. So whoever reads a long body
says each time how much to read. While many clients are slow, a new connection does so from the
first byte on, as nobody knows yet what will come.

A `BulkReader` stands between the transport and its connection, and never looks at a byte.
Invariant: it hands on a copy, because all connections share the buffer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

# A body is a long one if so many bytes of it are still to come (LONG) or, where its length is not
# known, if one read had so many (LONG_READ). A shorter one is read at once anyway.
LONG: Final = 64 * 1024
LONG_READ: Final = 32 * 1024
# Bytes of one read. To read less costs system calls; to read more costs memory. This is what uvloop
# reads. A little more, a power of two, cost 40 % more for a megabyte: malloc gave each piece back
# to the kernel.
MOST: Final = 256_000
LITTLE: Final = 16 * 1024
FEW: Final = 32  # connections may wait for their clients before all read little


class BulkBuffer:
    """The memory that one thread reads long bodies into, one piece at a time; nobody keeps it."""

    __slots__ = ("little", "whole")

    def __init__(self) -> None:
        self.whole = memoryview(bytearray(MOST))
        self.little = self.whole[:LITTLE]


class BulkReader(asyncio.BufferedProtocol):
    """Reads for `connection`: it takes its place as the protocol of the transport."""

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
