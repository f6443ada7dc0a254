"""How we end a tunnel: each peer is told so by a Close frame.

The code is 1012 if the worker leaves, and 1008 if the client may no longer be here.

    relaying ──at a frame's end──► said: our Close is out, nothing of this direction follows it
       │                             │
       └──the peer's own Close───────┴──► heard ──both directions──► the connections are closed

If a message is under way, we wait for its end, up to `PATIENCE`. After that the end of a fragment
is enough (RFC 6455 5.4). If no frame ends in time, the connection is cut like any other. If a peer
has said Close by itself, the other peer answers it, as always. This module never changes what goes
through before the Close. Invariants: we tear no frame. Nothing follows a Close.
"""

from __future__ import annotations

import asyncio
import enum
import math
import secrets
from typing import Protocol

from rawproxy.protocol.websocket.frames import close_frame

PATIENCE = 2.0  # seconds for a message that is under way to come to its end


class DrainReason(enum.Enum):
    """Why a worker drains: seconds over which tunnels end, at the most, and for idle clients.

    A client that sends a request just as its idle connection is closed cannot know whether it was
    heard. So idle connections are kept a little, and their next request is told to be the last.
    """

    RETIRED = (math.inf, 5.0)  # others serve on, and clients shall not all come to them at once
    STOPPED = (2.0, 1.0)  # nobody is there to come back to, and somebody waits for our end

    def __init__(self, spread: float, grace: float) -> None:
        self.spread = spread
        self.grace = grace


class TunnelSide(Protocol):
    """One side of a tunnel, as far as it is used here: its tracker too."""

    transport: asyncio.Transport
    received: int
    ended: bool
    closed: bool
    left: int

    def feed(self, data: bytes) -> None: ...
    def stop(self, data: bytes, *, whole: bool) -> int: ...
    def lost(self) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class TunnelClose:
    """The close of both directions of one tunnel, within so many seconds."""

    def __init__(self, client: TunnelSide, upstream: TunnelSide, seconds: float, code: int) -> None:
        self.whole = True  # only between messages
        self.code = code
        self.sides = (
            ClosingSide(self, client, upstream, masked=True),
            ClosingSide(self, upstream, client, masked=False),
        )
        loop = asyncio.get_running_loop()
        self.timers = [
            loop.call_later(min(PATIENCE, seconds / 2), self.hurry),
            loop.call_later(seconds, self.end),
        ]
        for parting in self.sides:
            parting.side.transport.set_protocol(parting)
        self.go_on()

    def hurry(self) -> None:
        """From now on the end of a fragment is enough."""
        self.whole = False
        self.go_on()

    def go_on(self) -> None:
        """Say Close where that is possible now."""
        for parting in self.sides:
            parting.say(b"")
        self.look()

    def look(self) -> None:
        """End, if both peers have said Close or have gone: then there is nothing to wait for."""
        if all(parting.over for parting in self.sides):
            self.end()

    def end(self) -> None:
        """Close both connections. What was written still goes out."""
        for timer in self.timers:
            timer.cancel()
        for parting in self.sides:
            parting.side.transport.close()


class ClosingSide(asyncio.Protocol):
    """One side. What it reads goes to the other side until a Close frame can stand there."""

    def __init__(
        self, tunnel_close: TunnelClose, side: TunnelSide, other: TunnelSide, *, masked: bool
    ) -> None:
        self.tunnel_close = tunnel_close
        self.side = side
        self.other = other
        self.masked = masked  # what we write for it: its reader is a server
        self.said = False

    @property
    def over(self) -> bool:
        """Nothing that matters comes from this side any more."""
        side = self.side
        return side.ended or (side.closed and not side.left)

    def say(self, data: bytes) -> None:
        """Relay `data`, up to the place where our Close goes in."""
        if self.said or self.side.closed or self.side.ended:
            return  # ended: an end of file has gone the same way already
        at = self.side.stop(data, whole=self.tunnel_close.whole)
        if at < 0 or self.side.closed:  # its own Close is on its way: nothing goes behind it
            self._pass(data)
            return
        self.said = True
        mask = secrets.token_bytes(4) if self.masked else b""
        self._pass(data[:at] + close_frame(self.tunnel_close.code, mask))
        self.side.feed(data[at:])

    def _pass(self, data: bytes) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.write(data)

    def data_received(self, data: bytes) -> None:
        self.side.received += len(data)
        if self.said:
            self.side.feed(data)
        elif self.side.closed:  # the rest of its own Close
            self.side.feed(data)
            self._pass(data)
        else:
            self.say(data)
        self.tunnel_close.look()

    def eof_received(self) -> bool:
        self.side.ended = True
        if self.said or self.side.closed:
            self.tunnel_close.look()
        else:
            self.tunnel_close.end()  # it went without a Close, and the other one cannot be helped
        return self.side.transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self.side.lost()
        self.tunnel_close.look()

    def pause_writing(self) -> None:
        self.side.pause_writing()

    def resume_writing(self) -> None:
        self.side.resume_writing()
