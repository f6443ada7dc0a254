"""HTTP/2 flow control (RFC 9113 5.2, 6.9): how many bytes of DATA may be under way.

    Window         one direction of a stream, or of the connection; both directions count alike
      take         DATA leaves or comes: it has to fit
      credit       the client's WINDOW_UPDATE: more may leave
      shift        the client's SETTINGS change what streams begin with: this may leave it negative
      consume      somebody has taken bytes that had come; once that is worth a frame (`due`),
      give         the client may send as many again: the number for our WINDOW_UPDATE
      grow         the client may have more under way than before
    FlowControl    the connection's two windows, and what those of its streams begin with

Nothing else counts what may be sent. This module never makes a frame and never holds a byte.
Invariants: no window is ever above 2^31-1. Nothing is taken that does not fit. Every byte that was
taken and consumed is given back exactly once. The windows of all streams together grow by at most
`GROWTH`.

Raises `ConnectionFault` and `StreamFault` with FLOW_CONTROL_ERROR, nothing else. The design is that
of hyper's h2: one class for both directions, which knows no frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rawproxy.protocol.http2.frames import (
    DEFAULT_WINDOW,
    MAX_WINDOW,
    Code,
    ConnectionFault,
    Fault,
    StreamFault,
)

STREAM: Final = DEFAULT_WINDOW  # bytes of a request body under way that nobody has taken yet
WIDEST: Final = 1024 * 1024  # where that grows to while the upstream keeps up: 1 Gbit/s at 8 ms
GROWTH: Final = 4 * 1024 * 1024  # bytes by which the windows of all streams together may grow
CONNECTION: Final = 16 * 1024 * 1024  # of all streams: wide, as their own windows bound them
# A WINDOW_UPDATE is due when this share of the window is to be given back. Half of it leaves a
# stream's client the other half to send from while the frame is on its way.
STREAM_SHARE: Final = 2
CONNECTION_SHARE: Final = 16


class Window:
    """What may be sent in one direction. `fault` is raised for who sends more."""

    __slots__ = ("due_at", "fault", "left", "owed", "share", "size")

    def __init__(self, size: int, fault: type[Fault], share: int = STREAM_SHARE) -> None:
        self.left = size  # bytes that may be sent; below zero after 6.9.2
        self.fault = fault
        self.size = size  # of a receiver: bytes that it lets be under way
        self.owed = 0  # bytes that were consumed, and not given back yet
        self.share = share
        self.due_at = size // share

    def __repr__(self) -> str:
        return f"<Window {self.left} of {self.size}, {self.owed} owed>"

    def take(self, size: int) -> None:
        """`size` bytes of DATA leave or come, padding included (6.9.1)."""
        if size > self.left and size:  # an empty frame always fits
            raise self.fault(Code.FLOW_CONTROL_ERROR, "DATA beyond the window (6.9)")
        self.left -= size

    def credit(self, size: int) -> None:
        """The receiver allows `size` bytes more (6.9.1)."""
        if self.left + size > MAX_WINDOW:
            raise self.fault(Code.FLOW_CONTROL_ERROR, "a window over 2^31-1 (6.9.1)")
        self.left += size

    def shift(self, by: int, most: int) -> None:
        """Windows begin `by` bytes wider (or narrower) now. In between it was `most` (6.9.2)."""
        if self.left + most > MAX_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window over 2^31-1 (6.9.2)")
        self.left += by

    def consume(self, size: int) -> None:
        """The receiver of the bytes has taken `size` of them."""
        self.owed += size

    def due(self) -> bool:
        """Whether what is owed is worth a frame."""
        return self.owed >= self.due_at

    def grow(self, by: int) -> None:
        """Let `by` bytes more be under way. They are given with the bytes that are owed."""
        self.size += by
        self.owed += by
        self.due_at = self.size // self.share

    def give(self) -> int:
        """Give back all that is owed. Returns how much that is."""
        credit, self.owed = self.owed, 0
        self.left += credit
        return credit


class FlowControl:
    """The windows of one connection: its own two, and what those of streams begin with."""

    __slots__ = ("grown", "initial", "receive", "send")

    def __init__(self) -> None:
        self.send = Window(DEFAULT_WINDOW, ConnectionFault)
        self.receive = Window(CONNECTION, ConnectionFault, CONNECTION_SHARE)
        self.initial = DEFAULT_WINDOW  # of what we may send on a new stream
        self.grown = 0  # bytes by which streams' windows are wider than `STREAM`

    def sender(self) -> Window:
        """A window for what we may send on a new stream."""
        return Window(self.initial, StreamFault)

    def receiver(self) -> Window:
        """A window for what the client may send on a new stream."""
        return Window(STREAM, StreamFault)

    def resize(self, sizes: list[int], windows: Iterable[Window]) -> None:
        """SETTINGS_INITIAL_WINDOW_SIZE (6.9.2), which one frame may change thousands of times.

         The `windows` of streams hear only of the largest and of the last size, which has the same
        effect.
        """
        before, self.initial = self.initial, sizes[-1]
        by, most = sizes[-1] - before, max(sizes) - before
        for window in windows:
            window.shift(by, most)

    def received(self, size: int) -> int:
        """`size` bytes of DATA came. Returns the credit to give for the connection now, or 0.

        The bytes count as consumed at once: the windows of streams limit what may wait here.
        """
        window = self.receive
        window.take(size)
        window.consume(size)
        return window.give() if window.due() else 0

    def widen(self, window: Window) -> None:
        """The bytes are taken as they come, so the stream's window doubles, if it may."""
        size = window.size
        if 2 * size <= WIDEST and self.grown + size <= GROWTH:
            self.grown += size
            window.grow(size)

    def ended(self, window: Window) -> None:
        """A stream is over. Others may grow by what its window had grown."""
        self.grown -= window.size - STREAM
