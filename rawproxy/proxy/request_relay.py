"""The body of a request on its way to the upstream.

    the client side has read     what goes on
    ───────────────────────────  ──────────────────────────────────────────────────────────
    bytes of a known length      the same (`on_request_body`)
    bytes out of chunks          one chunk of them (`on_request_body`)
    whole chunks, as they came   the same: nothing is copied to be framed anew
                                 (`on_request_chunks`, where `passes_chunks`)
    views of a place             the same: nothing is copied (`on_request_view`, where
                                 `takes_request_views`)
    nothing: the kernel moves    nothing that is seen here (`on_request_relayed`, where there is a
    a long body by itself        `request_sink`)

What has no connection yet, or may be needed for a retry, is held (`holding`). It never reads or
unframes anything. Invariant: the bytes that are written to a connection, and those that are held
for it, are the body's bytes in their order, framed as the head says, with one end.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod

from rawproxy.net.backpressure import WRITER_FULL
from rawproxy.net.tls_transport import TlsTransport
from rawproxy.protocol.http.head import ResponseHead
from rawproxy.protocol.http1.body import encode_chunk
from rawproxy.proxy.checkout import DONE, REWRITE
from rawproxy.proxy.error_places import intercepted
from rawproxy.proxy.holding import too_large
from rawproxy.proxy.timeouts import Timeouts
from rawproxy.upstream.connection import UpstreamConnection


class RequestRelay(Timeouts):
    """Base of the exchange: its request's body."""

    __slots__ = ()

    def on_request_body(self, payload: bytes, ended: bool, trailers: bytes) -> None:
        """Bytes of the request's body, unframed, as the client side read them."""
        framed = payload
        self.received += len(payload)
        if self.chunked:
            if self._is_too_large():
                return
            if self.gather and self.state is REWRITE:
                self.gather_up(payload, ended, trailers)
                return
            framed = encode_chunk(payload) if payload else b""
            if ended:
                framed += self.last_chunk(trailers)
        self._carry(framed, ended)

    def passes_chunks(self) -> bool:
        """Whether `on_request_chunks` may be called just now."""
        return self.chunked and not self.gather

    def on_request_chunks(self, chunks: bytes, inside: int, ended: bool) -> None:
        """Whole chunks with `inside` bytes in them; the last one is among them if it `ended`."""
        self.received += inside
        if not self._is_too_large():
            self._carry(chunks, ended)

    def takes_request_views(self) -> bool:
        """Whether bytes of the body may be in a place that is soon used again."""
        connection = self.connection
        if connection is None or self.held is not None or self.endpoint.crowded():
            return False
        # TLS has sent a view's bytes, or copied them, when `write` returns.
        return not self.chunked and isinstance(connection.transport, TlsTransport)

    def on_request_view(self, view: memoryview) -> None:
        """More of the body, and not its end."""
        connection = self.connection
        assert connection is not None
        self.received += len(view)
        self.deadline = self.service.deadline(self.deadlines.response_head)
        connection.transport.write(view)

    def request_sink(self) -> asyncio.Transport | None:
        """Where the kernel may move the rest of the body to by itself; None: nowhere."""
        connection = self.connection
        if connection is None or connection.relay is not None or self.held is not None:
            return None
        if self.chunked or self.throttled or self.endpoint.crowded():
            return None
        return connection.transport

    def on_request_relayed(self, size: int) -> None:
        """It has moved `size` bytes more of the body, and not to its end."""
        self.received += size
        self.deadline = self.service.deadline(self.deadlines.response_head)

    def _is_too_large(self) -> bool:
        """Whether a body of unknown length has become too long; it has failed then."""
        most = self.limits.body
        if not most or self.received <= most:
            return False
        self.fail(too_large(most))
        return True

    def _carry(self, framed: bytes, ended: bool) -> None:
        """To the upstream, or to those bytes that wait for one."""
        self.request_ended = ended
        if self.state is DONE:
            return
        connection = self.connection
        if connection is not None:
            self._pass_on(connection, framed)
        if self.held is not None:
            if framed:
                self.held.append(framed)
                self.held_size += len(framed)
            if self.state is REWRITE:
                if not ended and self.hold_back():
                    self.park(self.held_size)
                    return
                self.checkout()
                connection = self.connection
            if connection is None:
                if self.state is not DONE:
                    self.hold_up()
            elif not self.may_replay(connection):
                self.held = None

    def _pass_on(self, connection: UpstreamConnection, framed: bytes) -> None:
        self.deadline = self.service.deadline(self.deadlines.response_head)
        connection.transport.write(framed)
        if self.request_ended and self.endpoint.pool.stalled:
            connection.endpoint.stalled(connection, False)

    def on_upstream_writable(self, writable: bool) -> None:
        """Backpressure from the upstream on the request's body."""
        self.throttled = not writable
        if writable and self.parked:
            self.park(0)
        self.backlog = 0
        self.deadline = self.service.deadline(self.deadlines.response_head)
        self.client.throttle(WRITER_FULL, not writable)

    def leads_elsewhere(self, head: ResponseHead, ended: bool) -> bool:
        """Whether an error of the upstream leads to a page; then this response is not shown."""
        error = intercepted(self.client, head, self.request_ended)
        if error is None:
            return False
        on_response_head = self.endpoint.on_response_head
        if on_response_head is not None:
            on_response_head(self.head, self.client.context, head)
        if ended:
            self._release()
        self.fail(error)
        return True

    @abstractmethod
    def _release(self) -> None:
        """The connection is done with this exchange, and serves others if it can."""
