"""What the number of a stream says about it, if the stream is not open (RFC 9113 5.1, 5.1.1).

    idle      higher than all so far, or even: a request may begin it, nothing else may come on it
    closed    it was open, and is not any more
    reset     closed by us: the client may have sent something before it knew
    passed    a number that the client left out; to use it later is another error than to go on

This module keeps no closed streams, since there may be a hundred thousand. It keeps only the
exceptions: the last `MOST` streams that we reset, and the last `MOST` gaps. (To keep just the last
thousand of all streams cost more than to decode a request: a dict that is filled at one end and
emptied at the other becomes slow at its beginning.) It never sees a frame. Invariant: numbers only
rise.

Raises `ConnectionFault`.
"""

from __future__ import annotations

from typing import Final

from rawproxy.protocol.http2.frames import Code, ConnectionFault

MOST: Final = 1024


class StreamNumbers:
    """The stream numbers of one connection."""

    __slots__ = ("gaps", "last", "resets")

    def __init__(self) -> None:
        self.last = 0  # the highest that has begun
        self.resets: dict[int, bool] = {}
        self.gaps: list[tuple[int, int]] = []  # what lies between these two

    def begin(self, number: int) -> None:
        """A request begins the stream `number`, which is above the last one."""
        if not number & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a stream with an even number (5.1.1)")
        if number - self.last > 2:
            self.gaps.append((self.last, number))
            del self.gaps[:-MOST]
        self.last = number

    def idle(self, number: int) -> bool:
        """Whether no stream of this number has begun yet, or ever may."""
        return number > self.last or not number & 1

    def reset(self, number: int) -> None:
        """We reset the stream, so frames that are under way are not the client's fault."""
        self.resets[number] = True
        if len(self.resets) > MOST:
            del self.resets[next(iter(self.resets))]

    def late(self, number: int, what: str) -> None:
        """A frame that needs an open stream came for one that is not open."""
        if self.idle(number):
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"{what} on an idle stream (5.1)")
        if number in self.resets:
            return
        if what == "HEADERS" and any(low < number < high for low, high in self.gaps):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a stream number below the last (5.1.1)")
        raise ConnectionFault(Code.STREAM_CLOSED, f"{what} on a closed stream (5.1)")
