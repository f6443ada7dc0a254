"""Backpressure: if one side cannot write, the other side is not read.

A `Valve` stands on the reading side of one transport. It is closed as long as there is a reason to
keep it closed. So reading goes on when the last reason has gone, and nobody needs to know which
other reasons there are.

This module never buffers. Invariant: the transport is paused exactly while `reasons` is not empty.
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
WORDS: Final = "last_words"  # the name by which our transports are asked for them

# Reasons, as bits.
WRITER_FULL: Final = 1  # the other side cannot take more
PIPELINED: Final = 2  # bytes of the next request are here before its turn
NO_UPSTREAM: Final = 4  # there is no connection yet that takes the body
RELAYED: Final = 8  # the kernel moves the body by itself (`kernel_relay`)

# Bytes of a response that wait here once the kernel takes no more: beyond it the upstream is not
# read. What one read brings comes on top.
QUEUED: Final = 16 * 1024
# Bytes that the kernel takes of a response before the client's window lets them go. Else it takes
# megabytes from the upstream for each client that does not read, and until then nobody knows that
# it is slow. Half of it is left to send when we are called again: 0.5 ms at 1 Gbit/s.
# Only beyond `Service.crowd` connections: it makes a large response cost a quarter more CPU time.
AHEAD: Final = 128 * 1024
# The same for a client of which nobody knows whether it reads at all. What a thousand have taken
# who never will is copied by the time they are known, and others wait for that.
AHEAD_UNPROVEN: Final = 16 * 1024
# So often it has to be waited for and take what there is: 200 KB or more, which is what the kernel
# at its end takes by itself.
PROOFS: Final = 8

# What the kernel may keep of a socket until it is sent, and what it keeps of it now (from
# Linux 4.12 on; the other figures of `SO_MEMINFO` are not asked for).
SO_MEMINFO: Final = 55
MEMINFO: Final = struct.Struct("12xI4xI")

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
        """`reason` has gone. Read again if it was the last one."""
        if self.reasons & reason:
            self.reasons &= ~reason
            if not self.reasons and not self.transport.is_closing():
                self.transport.resume_reading()


def take_little(sock: socket.SocketType) -> None:
    """Let the kernel take little ahead of a client that nothing is known of yet."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, AHEAD_UNPROVEN)


def take_more(transport: asyncio.WriteTransport, queue: bool) -> None:
    """The client has taken what there was: let the kernel, and the `queue`, take more ahead."""
    if queue:
        transport.set_write_buffer_limits(QUEUED)
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, AHEAD)


def has_room(sock: socket.SocketType, size: int) -> bool:
    """Whether the kernel takes `size` bytes at once in any case; False where it does not say."""
    try:
        room, queued = MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMINFO.size))
        ahead = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
    except (OSError, struct.error):  # another system, or a unix socket
        return False
    return not ahead and bool(room - queued > 2 * size)


def cork(sock: socket.SocketType, on: int) -> bool:
    """Have the kernel hold short segments back (1), or send them (0). True if it does."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, on)
    except OSError:  # a unix socket, or it was closed meanwhile
        return False
    return True


def unsent(transport: asyncio.Transport) -> int:
    """Bytes written to `transport` that its peer has not acknowledged, also those in the kernel.

    This tells a slow reader from one that has stopped: the kernel reports room only in large steps,
    but this number shrinks with every acknowledged segment.
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
    """What the peer said before a write to it failed, up to `MOST_WORDS` bytes.

    Called within `connection_lost`. If an upstream takes no more of a body, it may have answered
    (413, 401). The kernel keeps the answer in spite of the reset, but event loops do not read once
    a write has failed. The descriptor is still open.
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
    """Make the close of `sock` a reset, so that the kernel frees its buffers at once.

    Otherwise the kernel keeps up to four megabytes that the peer did not read, for minutes. `sock`
    is None if the peer has reset the connection: transports of uvloop have no socket then.
    """
    if sock is None:
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def cut(transport: asyncio.Transport) -> None:
    """Close at once, and throw away what the peer has not taken, here and in the kernel."""
    sock = transport.get_extra_info("socket")
    if sock is not None and unsent(transport):
        reset_on_close(sock)
    transport.abort()
