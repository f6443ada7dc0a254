"""A tunnel: after a 101, two sockets with nothing between them but bytes.

Both transports get a new protocol. What either side has sent beyond its head is written first. If a
side ends, its end is passed on (half-close) if the other transport can do that. TLS cannot; there
the tunnel closes once everything under way has been written.

A tunnel never looks into payloads: masking and compression are the peers' business. Of the framing
it knows only where frames end (`websocket.frames`), so that `tunnel_close` can end a tunnel well.
Invariants: bytes keep their order and none is lost. The connection is never pooled again. The pool
hears of its end exactly once. An idle tunnel ends after `Deadlines.tunnel_idle`.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from abc import ABCMeta, abstractmethod

from rawproxy.errors import CutError
from rawproxy.net.backpressure import WRITER_FULL, Valve, cut, last_words
from rawproxy.net.tls_transport import TlsTransport
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http.head import RequestHead
from rawproxy.protocol.websocket.frames import POLICY, RESTART, Tracker
from rawproxy.protocol.websocket.upgrade import WEBSOCKET
from rawproxy.proxy.admission import Seat
from rawproxy.proxy.service import Service
from rawproxy.proxy.tunnel_close import TunnelClose
from rawproxy.telemetry import kept_head
from rawproxy.telemetry.facts import Facts
from rawproxy.upstream.endpoint import Endpoint

Spliceable = tuple[asyncio.Transport, Valve, bytes]  # and the bytes that side sent already


class Splice(Tracker, asyncio.Protocol):
    """One side of a tunnel. The other side writes what it reads.

    Most tunnels rest most of the time, and there may be many: so a side is one object, which is its
    own tracker and its own valve, and keeps no method of its transport.
    """

    __slots__ = (
        "counted", "ended", "framed", "held", "other", "received", "secure", "transport", "tunnel",
    )  # fmt: skip
    __deletable__ = ("other", "tunnel")  # mypyc would not let them be deleted otherwise

    other: Splice

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport, held: bool) -> None:
        Tracker.__init__(self)
        self.tunnel = tunnel
        self.transport = transport
        # The same transport, where compiled code can call it by its layout.
        self.secure = transport if isinstance(transport, TlsTransport) else None
        self.received = 0
        self.counted = 0  # of them, those in the worker's counters
        self.ended = False
        self.held = held  # not read, as the other side does not take what was
        self.framed = tunnel.framed  # other protocols have no frames that we know, nor a Close

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self.tunnel.active = True
        if self.framed:
            self.feed(data)
        other = self.other
        if other.secure is not None:
            other.secure.write(data)
        else:
            other.transport.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        self.tunnel.active = True
        other = self.other
        if other.ended or not other.transport.can_write_eof():
            other.transport.close()
            return False
        other.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        words = last_words(self.transport) if exc is not None and not self.ended else b""
        if words and self is self.tunnel.upstream:  # why it takes no more: a Close frame, say
            self.data_received(words)
            self.other.transport.close()
        # TLS without close_notify is how many a client leaves: what it said before is not lost.
        elif exc is not None and not isinstance(exc, CutError):
            if self.held:  # the other side does not read
                cut(self.other.transport)
            else:
                self.other.transport.abort()
        else:
            self.other.transport.close()
        self.lost()

    def lost(self) -> None:
        """The connection of this side has gone."""
        self.ended = True
        self.tunnel.lost()

    def pause_writing(self) -> None:
        other = self.other
        if not other.held and not other.transport.is_closing():
            other.transport.pause_reading()
        other.held = True

    def resume_writing(self) -> None:
        self.tunnel.active = True
        other = self.other
        if other.held and not other.transport.is_closing():
            other.transport.resume_reading()
        other.held = False


class TunnelWatch(metaclass=ABCMeta):
    """Who watches a tunnel. A class for the same reason as `response_handler.ResponseHandler`."""

    __slots__ = ()

    @abstractmethod
    def sweep(self, now: float) -> None:
        """Called about once a second."""

    @abstractmethod
    def over(self) -> None:
        """The tunnel has ended."""


class Tunnel:
    """A pair of spliced connections."""

    __slots__ = (
        "active",
        "client",
        "context",
        "deadline",
        "deadlines",
        "endpoint",
        "facts",
        "framed",
        "head",
        "open",
        "seat",
        "service",
        "status",
        "tunnel_close",
        "upstream",
        "watch",
    )  # fmt: skip

    client: Splice
    upstream: Splice

    def __init__(
        self,
        service: Service,
        head: RequestHead,
        context: rewrite.ClientContext,
        endpoint: Endpoint,
        facts: Facts | None,
        seat: Seat | None = None,
        status: int = 101,
    ) -> None:
        self.service = service
        self.context = kept_head.of_client(head, context)
        self.head = kept_head.packed(head)
        self.endpoint = endpoint
        self.facts = facts
        self.seat = seat  # None: a stream of HTTP/2, whose connection has one
        self.status = status  # as the client was told: 200 in HTTP/2 (RFC 8441 5)
        self.framed = head.upgrade == WEBSOCKET
        self.active = True
        self.open = 2
        self.deadline = 0.0
        self.deadlines = service.deadlines  # or those of the route
        self.tunnel_close: TunnelClose | None = None
        self.watch: TunnelWatch | None = None

    def splice(self, client: Spliceable, upstream: Spliceable) -> None:
        """Give both transports their new protocols. Bytes that came early go first."""
        self.client = Splice(self, client[0], bool(client[1].reasons & WRITER_FULL))
        self.upstream = Splice(self, upstream[0], bool(upstream[1].reasons & WRITER_FULL))
        self.client.other, self.upstream.other = self.upstream, self.client
        self.service.clients.add(self)
        self.service.counters.tunnels += 1
        self.service.counters.tunnels_begun += 1
        sides = ((self.client, client), (self.upstream, upstream))
        for splice, (transport, _, _) in sides:
            transport.set_protocol(splice)
        # Whoever has been paused so far is known to be (WRITER_FULL), and hears it when that ends.
        for splice, (transport, valve, early) in sides:
            if early and not splice.other.transport.is_closing():
                splice.data_received(early)
            if splice.held:
                valve.close(WRITER_FULL)
            valve.open(~WRITER_FULL)
            if transport.is_closing():
                splice.other.transport.close()
        if self.upstream.secure is not None:
            self.upstream.secure.rest()  # its tickets came before the 101
        if self.service.draining:  # it was on its way already
            self.drain()

    def lost(self) -> None:
        """One side has gone for good."""
        self.open -= 1
        if self.client.ended and self.seat is not None:
            self.seat.leave()
        if self.open:
            return
        self.service.clients.discard(self)
        if self.watch is not None:
            self.watch.over()
        self.service.counters.tunnels -= 1
        self.endpoint.tunnel_over()
        self._count()
        if self.facts is not None:
            self.facts.received = self.client.received
        sent, head = self.upstream.received, kept_head.unpacked(self.head)
        self.service.recorder.record(head, self.context, self.status, sent, self.facts)
        # Sockets and buffers are given back now, not when the collector looks at old objects.
        for splice in (self.client, self.upstream):
            del splice.other, splice.tunnel

    def sweep(self, now: float) -> None:
        """Called about once a second: an idle tunnel ends."""
        if self.watch is not None:
            self.watch.sweep(now)
        if self.active:
            self.active = False
            self._count()
            deadlines = self.deadlines
            half = self.client.ended or self.upstream.ended
            # A side that has ended and one that says nothing are soon nobody's tunnel.
            wait = deadlines.response_body if half else deadlines.tunnel_idle
            self.deadline = self.service.deadline(wait)
        elif now >= self.deadline:
            self.abort()

    def _count(self) -> None:
        """Add the bytes that passed since the last time to the worker's counters."""
        counters, came, went = self.service.counters, self.client, self.upstream
        counters.tunnel_in += came.received - came.counted
        counters.tunnel_out += went.received - went.counted
        came.counted, went.counted = came.received, went.received

    def has_tunnels(self) -> bool:
        """It is one."""
        return True

    def adopt(self) -> None:
        """Another configuration counts, but not for what has begun under this one."""

    def drain(self) -> None:
        """The worker leaves: say goodbye at some time before it has to be gone."""
        service = self.service
        left = service.tunnel_time_left()
        if left == math.inf:
            return  # it may stay; should that end, it is told again
        most = max(left - service.deadlines.linger, left / 2)
        # Not all at once: their clients come back, and would all come at once.
        wait = secrets.SystemRandom().uniform(0, min(most, service.leaving.spread))
        asyncio.get_running_loop().call_later(wait, self.part)

    def part(self) -> None:
        """Tell both peers that this is the end, and close when they have answered."""
        if self.open == 2 and self.tunnel_close is None and self.framed:
            seconds = min(self.service.deadlines.linger, self.service.tunnel_time_left())
            self.tunnel_close = TunnelClose(self.client, self.upstream, seconds, RESTART)

    def expel(self) -> None:
        """The client may be here no more: the same now, and not for all; others are cut."""
        if self.open == 2 and self.tunnel_close is None and self.framed:
            linger = self.service.deadlines.linger
            self.tunnel_close = TunnelClose(self.client, self.upstream, linger, POLICY)
        elif self.tunnel_close is None:
            self.abort()

    def abort(self) -> None:
        """Cut both sides."""
        cut(self.client.transport)
        cut(self.upstream.transport)
