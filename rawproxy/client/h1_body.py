"""The body of an HTTP/1 request: read for its exchange, or dropped after an answer.

    BODY     what the exchange gets as it comes
    DRAIN    the answer is out already: what still comes is dropped, up to a limit, so that the
             connection can be kept

What is still to come of a long body of known length is not copied: between plain sockets the kernel
moves it (`kernel_relay`), and from TLS to TLS it goes on from the place that it was read into.

This module never frames anything. Invariants: no byte behind a body is lost. A body that breaks off
or is malformed reaches no upstream as a whole one.
"""

from __future__ import annotations

from abc import abstractmethod

from rawproxy.client.h1_intake import ANSWER, BODY, H1Intake
from rawproxy.errors import ClientError
from rawproxy.net.backpressure import PIPELINED
from rawproxy.net.kernel_relay import LEAST, TAIL, KernelRelay, relay
from rawproxy.net.tls_transport import TlsTransport
from rawproxy.protocol.http.head import CHUNKED, RequestHead
from rawproxy.protocol.http1.body import BodyError, ChunkedBody, LengthBody
from rawproxy.proxy.admission import ConnectionSlot
from rawproxy.proxy.exchange import Exchange
from rawproxy.proxy.service import Service


class H1RequestBody(H1Intake):
    """Base of the HTTP/1 connection: the body under way."""

    __slots__ = ("body", "drained", "relay", "viewing")

    def __init__(self, service: Service, slot: ConnectionSlot, redirect: int) -> None:
        super().__init__(service, slot, redirect)
        self.body: LengthBody | ChunkedBody | None = None
        self.drained = 0  # bytes that were dropped
        self.relay: KernelRelay | None = None  # which moves the body just now
        self.viewing = False  # the transport gives views of it

    @abstractmethod
    def next_request(self) -> None:
        """The body has ended, and its answer is out."""

    @abstractmethod
    def close(self) -> None:
        """No more requests on this connection."""

    def begin_body(self, head: RequestHead) -> None:
        """The bytes that come next are the body of `head`."""
        limits = self.service.limits
        self.drained = 0
        if head.framing == CHUNKED:
            self.body = ChunkedBody(limits.chunk_line, limits.trailers)
        else:
            self.body = LengthBody(head.framing)
        self.phase = BODY

    def read_body(self, data: bytes) -> None:
        """Read bytes of the body for the exchange."""
        exchange, body = self.exchange, self.body
        assert exchange is not None and body is not None
        if isinstance(body, ChunkedBody) and exchange.passes_chunks():
            data = self._pass_chunks(exchange, body, data)
            if not data and not body.more:
                return
        try:
            payload, rest = body.feed(data)
        except BodyError as error:
            self.client_failed(ClientError(f"the request body is malformed: {error}"))
            return
        if rest is None:
            self.received += len(data)
            if body.more:
                self.later()
            exchange.on_request_body(payload, False, b"")
            if isinstance(body, LengthBody) and body.left >= LEAST and self.exchange is exchange:
                self._hurry(exchange, body)
            return
        self._body_ended(rest)
        exchange.on_request_body(payload, True, body.trailers)

    def _hurry(self, exchange: Exchange, body: LengthBody) -> None:
        """Much of `body` is still to come. If it can be, it is not copied."""
        transport = self.transport
        if isinstance(transport, TlsTransport):
            if not self.viewing and exchange.takes_request_views():
                self.viewing = True
                transport.read_views(self._view_received, ahead=True)
            return
        sink = exchange.request_sink()
        if sink is not None:
            most = body.left - TAIL
            self.relay = relay(
                self.transport, sink, self.valve, most, self._on_relayed, self._on_relay_over
            )
            if self.relay is not None:
                self.relay.begin()

    def end_hurry(self) -> None:
        """The body is read as before, if it is read at all."""
        if self.relay is not None:
            self.relay.stop()
        elif self.viewing:
            self.viewing = False
            if isinstance(self.transport, TlsTransport):
                self.transport.read_views(None)

    def _view_received(self, view: memoryview) -> None:
        """The transport's call, while it gives views: the next one is in the same place."""
        exchange, body = self.exchange, self.body
        size = len(view)
        if (
            exchange is not None
            and isinstance(body, LengthBody)
            and size < body.left
            and exchange.takes_request_views()
        ):
            body.left -= size
            self.received += size
            exchange.on_request_view(view)
        else:
            self.data_received(bytes(view))

    def _on_relayed(self, size: int) -> None:
        """The upstream's socket has taken `size` bytes more."""
        self.received += size
        if self.exchange is not None:
            self.exchange.on_request_relayed(size)

    def _on_relay_over(self, taken: int) -> None:
        """The connection reads again."""
        self.relay = None
        if isinstance(self.body, LengthBody):
            self.body.left -= taken

    def _pass_chunks(self, exchange: Exchange, body: ChunkedBody, data: bytes) -> bytes:
        """Whole chunks for the exchange, as they came; what is left of `data` if it goes on."""
        at = body.whole(data, 0)
        if not at:
            return data
        rest = data[at:]
        chunks = data if not rest else data[:at]
        if body.ended:
            self._body_ended(rest)
            exchange.on_request_chunks(chunks, body.inside, True)
            return b""
        self.received += at
        exchange.on_request_chunks(chunks, body.inside, False)
        return rest if self.exchange is exchange else b""  # else it has failed

    def _body_ended(self, rest: bytes) -> None:
        """It is whole; `rest` came behind it."""
        self.end_hurry()
        self.phase = ANSWER
        self.deadline = 0.0
        self.body = None
        if rest:
            self.buffer = rest
            self.valve.close(PIPELINED)

    def drop_body(self, data: bytes) -> None:
        """Drop bytes of a body that nobody wants."""
        body = self.body
        assert body is not None
        self.drained += len(data)
        try:
            _, rest = body.feed(data)
        except BodyError:
            self.close()
            return
        if rest is not None:
            self.body = None
            self.buffer = rest
            self.next_request()
        elif self.drained > self.service.limits.drain:
            self.close()
        elif body.more:
            self.later()

    def client_failed(self, error: ClientError) -> None:
        """The request broke off within its body: the upstream must not take it for whole."""
        self.closing = True
        self.end_hurry()
        self.body = None
        if self.exchange is not None:
            self.exchange.fail(error)

    def may_stay(self) -> bool:
        """Whether the connection can be kept although an answer goes out now.

        If the rest of a body is known to be small, it is read so that the connection can stay.
        After an Expect the client decides whether the body comes at all (RFC 9110 10.1.1).
        """
        head = self.head
        if self.phase is not BODY or head is None:
            return True
        small = head.framing != CHUNKED and head.framing <= self.service.limits.drain
        return small and not head.expect

    def throttle(self, reason: int, full: bool) -> None:
        """The upstream cannot take more of the body, or can again."""
        if full:
            self.valve.close(reason)
        else:
            self.valve.open(reason)
            if self.phase is BODY:
                self.expect_body()
