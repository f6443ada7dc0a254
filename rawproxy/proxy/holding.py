"""A request's body before it goes on: what is held of it, and whether it is gathered whole.

    held       bytes that have no connection yet, or that a retry may need: framed, as they go out
    gathered   a body of unknown length that the route wants sent with a length, for upstreams that
               read no chunks (WSGI, PEP 3333): unframed, until it has ended

If a gathered body ends within the route's `gather`, it goes on with a Content-Length, and without
its trailers, because such a message has none. If it does not end, it is refused, or goes on in
chunks like any other. Bytes that wait for the end of their body, and not for a connection, count in
the worker's sum, `PARKED`. Gathered bytes count until an upstream has taken them.

This module never writes to an upstream. Invariants: a byte is held once. A request never goes out
both with a length and in chunks.
"""

from __future__ import annotations

from typing import Final

from rawproxy.config.model import PARKED
from rawproxy.errors import CapacityError, ClientError
from rawproxy.net.backpressure import NO_UPSTREAM
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http.head import CHUNKED, RequestHead, ResponseHead
from rawproxy.protocol.http1.body import encode_chunk, last_chunk
from rawproxy.proxy.checkout import DONE, IDEMPOTENT, SEND, Checkout
from rawproxy.proxy.client_side import ClientSide
from rawproxy.proxy.service import Service
from rawproxy.upstream.connection import UpstreamConnection

# Who sends a byte at a time must not make us keep an object for each: smaller ones are joined.
PIECE: Final = 4096
# Bytes of bodies that wait for connections, for all requests together. From `PARKED` on newcomers
# are put off (`client.listener`), but clients that are here already may all send at once. Beyond
# this a body is refused, unless it is so small (SPARED) that the connection itself takes as much.
MOST_WAITING: Final = 2 * PARKED
SPARED: Final = 16 * 1024
# RFC 9110 15.2.1, where we answer in the upstream's stead.
CONTINUE: Final = ResponseHead(
    100, b"HTTP/1.1 100 Continue\r\n", 1, b"", [], 0, False, b"", True, (), 0
)


def too_large(limit: int) -> ClientError:
    """RFC 9110 15.5.14."""
    return ClientError(f"the request body is larger than {limit} bytes", 413)


class Holding(Checkout):
    """Base of the exchange: the body of its request, as long as it stays here."""

    __slots__ = (
        "chunked", "held", "held_size", "limits", "opening", "received", "request_ended",
    )  # fmt: skip

    opening: bytes

    def __init__(self, service: Service, client: ClientSide, head: RequestHead) -> None:
        Checkout.__init__(self, service, client, head)  # `super` is a call more
        route_target = client.route_target
        self.limits = route_target.limits
        self.chunked = head.framing == CHUNKED
        if self.chunked and route_target.gather and not head.upgrade:
            self.gather = route_target.gather
        self.request_ended = head.framing == 0
        # Body bytes for a connection to come or for a retry; None: no body, or no longer held.
        self.held: list[bytes] | None = None if self.request_ended else []
        self.held_size = 0
        self.received = 0  # bytes of the request's body

    def hold_back(self) -> bool:
        """Whether the body comes first: a slow one must hold no connection that others need."""
        return (
            self.held_size < self.limits.replay
            and self.service.parked < PARKED
            and self.endpoint.pool.pressed()
        )

    def hold_up(self) -> None:
        """It has no connection yet: no more of it is read, and newcomers hear of what is here."""
        self.wait_with(self.held_size)
        if self.held_size > SPARED and self.service.waiting > MOST_WAITING:
            self.fail(CapacityError("as many bytes of bodies wait for connections as may"))
        else:
            self.client.throttle(NO_UPSTREAM, True)

    def let_go(self, throttled: bool) -> None:
        """What is held has been written to an upstream, which is full if `throttled`."""
        if self.waiting:
            self.wait_with(0)
        if self.parked and not throttled:
            self.park(0)

    def may_replay(self, connection: UpstreamConnection) -> bool:
        """Whether what is held is enough for a retry."""
        return (
            connection.served > 0
            and self.method in IDEMPOTENT
            and self.held_size <= self.limits.replay
        )

    def last_chunk(self, trailers: bytes) -> bytes:
        """The end of a chunked body, with the trailers that the route lists."""
        client = self.client
        allowed = client.route_target.trailers
        if not trailers or not allowed:
            return last_chunk(b"")
        return last_chunk(rewrite.request_trailers(trailers, allowed, self.head, client.context))

    def gather_up(self, payload: bytes, ended: bool, trailers: bytes) -> None:
        """More of a body that is gathered: keep it, or send the request on its way."""
        held = self.held
        assert held is not None
        self.held_size += len(payload)
        if held and len(held[-1]) < PIECE:
            held[-1] += payload
        elif payload:
            held.append(payload)
        fits = self.held_size <= self.gather
        room = ended or self.service.parked < PARKED
        if fits and room and not ended:
            self.park(self.held_size)
            return
        if fits and room:
            self.chunked = False
            self.opening = rewrite.measured(self.opening, self.held_size)
        elif self.client.route_target.gather_passes:
            whole = b"".join(held)
            body = encode_chunk(whole) if whole else b""  # an empty chunk would be the last
            self.held = [body + self.last_chunk(trailers) if ended else body]
        elif fits:
            self.fail(CapacityError("as many bytes of bodies are being gathered as may be"))
            return
        else:
            self.fail(too_large(self.gather))
            return
        self.request_ended = ended
        self.park(self.held_size)
        self.checkout()
        if self.state is not SEND and self.state is not DONE:
            self.hold_up()
