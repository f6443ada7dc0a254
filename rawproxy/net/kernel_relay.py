"""Moves a long body from one socket to another within the kernel: splice(2), through a pipe.

Both transports stay as they are, and only what is read of one of them goes another way: the
transport is paused (`RELAYED`), what comes is spliced into a pipe, and from there to the other
socket, for which nothing may be queued. A megabyte takes a third to a half less CPU time than one
that is read and written. The kernel does it for plain sockets only: TLS has to see the bytes.

    relaying    the poller watches the source: pipe filled, pipe emptied, in turn
    full        the sink takes no more: the poller watches it instead, and the sink's protocol has
                heard `pause_writing`
    over        both are watched by nobody; the transport reads again

It is over when `most` bytes were taken, when the source ends or fails (the transport will find the
end itself), when the sink fails, or by `stop`. Whoever owns a transport calls `stop` before its
descriptor is closed, so in `connection_lost` at the latest.

This module never looks at a byte. Invariants: bytes keep their order and none is lost, but what the
pipe has when `stop` is called. A pipe is used again only if it is empty.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
from collections.abc import Callable
from typing import Final, cast

from rawproxy.net.backpressure import RELAYED, Valve
from rawproxy.net.poller import Poller, poller
from rawproxy.net.socket_transport import SocketTransport

# Bytes that must be still to come of a body. A relay takes some calls to begin and to end, and less
# than this is here by the next read, which takes up to 256 KB. Other bounds were not measured.
LEAST: Final = 128 * 1024
# Bytes of a body's end that go the ordinary way, which knows what may follow.
TAIL: Final = 16 * 1024
# Bytes that a pipe holds at most. A larger one is no faster: 220 microseconds for a megabyte with
# this, 216 to 233 with 1 MiB, 237 to 283 with 64 KiB.
ROOM: Final = 256 * 1024
TURN: Final = 1024 * 1024  # bytes that one connection moves before others have their turn
# Pipes that one worker uses at the same time: 16 MiB that wait for slow clients, and a quarter of
# what Linux allows one user by default (pipe-user-pages-soft). Who gets none is read and written.
PIPES: Final = 64
SPARE: Final = 16  # of them, empty ones that are kept for the next body

UNABLE: Final = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
NOBODY: Final = 0  # for whom a relay waits
SOURCE: Final = 1
SINK: Final = 2
FLAGS: Final = getattr(os, "SPLICE_F_MOVE", 0) | getattr(os, "SPLICE_F_NONBLOCK", 0)


class Pipes:
    """The pipes of one worker. `able`: whether this system can do it at all. `most`: at a time."""

    __slots__ = ("able", "most", "spare", "used")

    def __init__(self) -> None:
        self.able = hasattr(os, "splice")
        self.most = PIPES
        self.spare: list[tuple[int, int]] = []
        self.used = 0

    def take(self) -> tuple[int, int] | None:
        """An empty pipe: where to read from it, and where to write to it. None: there is none."""
        if not self.able or self.used >= self.most:
            return None
        if self.spare:
            pipe = self.spare.pop()
        else:
            try:
                pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:  # no descriptor is left
                return None
            # Where this user has too many, it stays as it is: of the usual size, or smaller.
            with contextlib.suppress(OSError):
                fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, ROOM)
        self.used += 1
        return pipe

    def failed(self, error: OSError) -> bool:
        """Whether it failed because this system cannot do it; then nobody tries again."""
        unable = error.errno in UNABLE
        if unable:
            self.able = False
        return unable

    def give_back(self, pipe: tuple[int, int], empty: bool) -> None:
        """Nobody uses `pipe` any more."""
        self.used -= 1
        if empty and len(self.spare) < SPARE:
            self.spare.append(pipe)
            return
        os.close(pipe[0])
        os.close(pipe[1])


PIPES_OF_ALL: Final = Pipes()


def relay(
    source: asyncio.Transport,
    sink: asyncio.Transport,
    valve: Valve,
    most: int,
    on_relayed: Callable[[int], object],
    on_over: Callable[[int], object],
) -> KernelRelay | None:
    """A relay of `most` bytes, which `begin` begins, if both are plain sockets.

    None: they have to be read and written. `on_relayed` gets how many bytes more the sink has
    taken, and `on_over`, when `source` is read as before, how many were taken of it in all.
    """
    if isinstance(source, SocketTransport) or isinstance(sink, SocketTransport):
        return None
    if source.is_closing() or sink.is_closing():
        return None
    from_socket, to_socket = source.get_extra_info("socket"), sink.get_extra_info("socket")
    if from_socket is None or to_socket is None:  # it was reset
        return None
    pipe = PIPES_OF_ALL.take()
    if pipe is None:
        return None
    numbers = from_socket.fileno(), to_socket.fileno()
    return KernelRelay(numbers, sink, valve, most, on_relayed, on_over, pipe)


class KernelRelay:
    """One body on its way to `sink`. `numbers`: both descriptors. `valve`: that of the source."""

    __slots__ = (
        "_held", "_left", "_most", "_on_over", "_on_relayed", "_pipe", "_poller", "_sink",
        "_sink_number", "_source_number", "_valve", "_watched",
    )  # fmt: skip

    def __init__(
        self,
        numbers: tuple[int, int],
        sink: asyncio.Transport,
        valve: Valve,
        most: int,
        on_relayed: Callable[[int], object],
        on_over: Callable[[int], object],
        pipe: tuple[int, int],
    ) -> None:
        self._sink, self._valve = sink, valve
        self._most = self._left = most  # bytes in all, and still to be taken of the source
        self._held = 0  # bytes in the pipe
        self._on_relayed, self._on_over = on_relayed, on_over
        self._pipe: tuple[int, int] | None = pipe  # None: it is over
        self._poller: Poller = poller()
        self._source_number, self._sink_number = numbers
        self._watched = NOBODY

    def begin(self) -> None:
        """Read no more by the source's transport, and write no more by the sink's."""
        self._valve.close(RELAYED)
        if not self._sink.get_write_buffer_size():
            self._fill()
            return
        # The loop writes what was queued in this turn at its end, after what is called soon.
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self._begin_later)

    def _begin_later(self) -> None:
        if self._sink.get_write_buffer_size():  # so the client is slower than that
            self.stop()
        else:
            self._fill()

    def _fill(self) -> None:
        """Fill the pipe and empty it, until there is nothing to read or no room to write."""
        moved = 0
        over = False
        while not self._held:
            pipe = self._pipe
            if pipe is None:  # it was stopped meanwhile
                return
            if not self._left:
                over = True
                break
            if moved >= TURN:
                self._watch(SOURCE)
                break
            try:
                size = os.splice(self._source_number, pipe[1], min(self._left, ROOM), flags=FLAGS)
            except BlockingIOError:
                self._watch(SOURCE)
                break
            except OSError as error:
                PIPES_OF_ALL.failed(error)
                size = 0
            if not size:  # the end, or an error: the transport finds it too
                over = True
                break
            self._left -= size
            self._held = size
            moved += self._empty(pipe)
        if over:
            self.stop()

    def _go_on(self) -> None:
        """The sink takes more."""
        pipe = self._pipe
        if pipe is None:
            return
        self._empty(pipe)
        if not self._held and self._pipe is not None:
            self._watch(NOBODY)
            _protocol(self._sink).resume_writing()
            self._fill()

    def _empty(self, pipe: tuple[int, int]) -> int:
        """Give the sink what it takes of the pipe, and tell. Returns how many bytes it took."""
        moved = 0
        error: OSError | None = None
        try:
            while self._held:
                size = os.splice(pipe[0], self._sink_number, self._held, flags=FLAGS)
                self._held -= size
                moved += size
        except OSError as caught:
            error = caught
        if moved:
            self._on_relayed(moved)
        if error is not None:
            self._refused(pipe, error)
        return moved

    def _refused(self, pipe: tuple[int, int], error: OSError) -> None:
        """The sink did not take what the pipe has."""
        sink = self._sink
        if isinstance(error, BlockingIOError):
            if self._watched != SINK:
                self._watch(SINK)
                _protocol(sink).pause_writing()
        elif PIPES_OF_ALL.failed(error):
            sink.write(os.read(pipe[0], self._held))
            self._on_relayed(self._held)
            self._held = 0
            waited = self._watched == SINK
            self.stop()
            if waited:  # from now on the transport itself tells when it is full
                _protocol(sink).resume_writing()
        else:  # what the pipe has is lost, so nothing may follow it
            self.stop()
            sink.abort()

    def _watch(self, whom: int) -> None:
        """Wait for one of the two sockets, or for none."""
        before, self._watched = self._watched, whom
        if before == whom:
            return
        if before == SOURCE:
            self._poller.remove_reader(self._source_number)
        elif before == SINK:
            self._poller.remove_writer(self._sink_number)
        if whom == SOURCE:
            self._poller.add_reader(self._source_number, self._fill)
        elif whom == SINK:
            self._poller.add_writer(self._sink_number, self._go_on)

    def stop(self) -> None:
        """Be over, whatever the pipe still has. A second call does nothing."""
        pipe = self._pipe
        if pipe is None:
            return
        self._pipe = None
        self._watch(NOBODY)
        PIPES_OF_ALL.give_back(pipe, not self._held)
        self._on_over(self._most - self._left)
        self._valve.open(RELAYED)


def _protocol(transport: asyncio.Transport) -> asyncio.Protocol:
    return cast(asyncio.Protocol, transport.get_protocol())
