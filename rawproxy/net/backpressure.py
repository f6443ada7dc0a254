"""Backpressure: a writer's pause stops its reader.

A `Valve` stands on the reading side of one transport and is closed for as long as anybody has a
reason to keep it closed. Reading therefore resumes only when the last reason has gone, and nobody
needs to know who else has one.

It never buffers. Invariant: the transport is paused exactly while `reasons` is not empty.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import termios
from typing import Final

# Bytes that an upstream may have said before a write to it failed: a response's largest head.
MOST_WORDS: Final = 262_144
WORDS: Final = "last_words"  # how transports that read them themselves are asked

# Reasons, as bits.
WRITER_FULL: Final = 1  # the other side of the relay cannot take more
PIPELINED: Final = 2  # bytes of the next request are here, and it is not its turn yet
NO_UPSTREAM: Final = 4  # the body has nowhere to go until a connection is made

RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: a close throws away what was not sent


class Valve:
    """The reading side of one transport."""

    __slots__ = ("reasons", "transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.reasons = 0

    def close(self, reason: int) -> None:
        """Stop reading for `reason`."""
        if not self.reasons and not self.transport.is_closing():
            self.transport.pause_reading()
        self.reasons |= reason

    def open(self, reason: int) -> None:
        """`reason` has gone; reading resumes if it was the last."""
        if self.reasons & reason:
            self.reasons &= ~reason
            if not self.reasons and not self.transport.is_closing():
                self.transport.resume_reading()


def unsent(transport: asyncio.Transport) -> int:
    """Bytes written to `transport` that its peer has not acknowledged, kernel buffers included.

    This is how a slow reader is told from one that has stopped: the kernel reports room only in
    large steps, while this figure shrinks with every acknowledged segment.
    """
    waiting = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if sock is None:
        return waiting
    try:
        (queued,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))
    except (OSError, ValueError):  # closed meanwhile
        return waiting
    return waiting + int(queued)


def last_words(transport: asyncio.Transport) -> bytes:
    """Within `connection_lost`: what the peer said before a write to it failed, up to `MOST_WORDS`.

    An upstream that takes no more of a body may have answered (413, 401). The kernel keeps that
    behind a reset, where loops do not look once a write has failed; the descriptor is open still.
    """
    words: bytes | None = transport.get_extra_info(WORDS)
    if words is not None:
        return words
    sock = transport.get_extra_info("socket")
    pieces: list[bytes] = []
    left = MOST_WORDS
    try:
        number = sock.fileno() if sock is not None else -1
        while left > 0 and number >= 0:
            piece = os.read(number, left)
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
    except OSError:  # nothing more is here: it would block, or it is the reset
        pass
    return b"".join(pieces)


def reset_on_close(sock: socket.SocketType | None) -> None:
    """From now on closing `sock` is a reset, and the kernel gives its buffers back at once.

    Else it keeps up to four megabytes of what a peer did not read, and offers them for minutes.
    None is a transport's socket once its peer has reset it: uvloop's have none any more.
    """
    if sock is None:
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def cut(transport: asyncio.Transport) -> None:
    """Close at once. What the peer has not taken is thrown away, here and in the kernel."""
    sock = transport.get_extra_info("socket")
    if sock is not None and unsent(transport):
        reset_on_close(sock)
    transport.abort()
