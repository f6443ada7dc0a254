"""The body of a response, as its connection reads it, and in which form it goes on.

    the body                                    goes on as
    ──────────────────────────────────────────  ──────────────────────────────────────────────────
    of a known length                           bytes (`on_payload`)
    long, and from TLS to TLS                   views of the place that it is read into: nothing is
                                                copied (`on_view`, where `takes_views`)
    long, between two plain sockets             nothing that is seen here: the kernel moves it
                                                (`on_relayed`, where there is a `relay_sink`)
    in chunks, for a client that has them too   whole chunks as they came: nothing is framed anew
                                                (`on_chunks`, where `takes_chunks`)
    in chunks, or until the connection ends     bytes out of them (`on_payload`)

It never reads a head, and never decides whether a connection is used again. Invariant: each byte of
the body goes on once and in its place, whichever form the one before had.

Raises `BodyError`, nothing else.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod

from rawproxy.balancing.pool import Poolable
from rawproxy.net.backpressure import Valve
from rawproxy.net.kernel_relay import LEAST, TAIL, KernelRelay, relay
from rawproxy.protocol.http.head import ResponseHead
from rawproxy.protocol.http1.body import ChunkedBody, CloseBody, LengthBody
from rawproxy.upstream.bulk_reader import LONG_READ, BulkReader
from rawproxy.upstream.response_handler import ResponseHandler

Stepper = LengthBody | ChunkedBody | CloseBody


class ResponseBody(Poolable):
    """Base of the connection: the body that is being read."""

    __slots__ = (
        "body", "bulk_reader", "handler", "relay", "reusable", "transport", "valve", "viewing",
    )  # fmt: skip

    transport: asyncio.Transport
    valve: Valve

    def __init__(self) -> None:
        super().__init__()
        self.relay: KernelRelay | None = None  # which moves the body just now
        self.handler: ResponseHandler | None = None
        self.body: Stepper | None = None
        self.bulk_reader: BulkReader | None = None  # who reads a long body; None: the transport
        self.viewing = False  # the transport gives views of it
        self.reusable = False

    @abstractmethod
    def data_received(self, data: bytes) -> None:
        """The transport's call."""

    @abstractmethod
    def read_bulk(self, handler: ResponseHandler) -> None:
        """A long body comes."""

    @abstractmethod
    def ended(self, reusable: bool) -> None:
        """The response has come to its end."""

    def read_more(self, handler: ResponseHandler, body: Stepper, data: bytes) -> None:
        """Bytes behind those that came with the head."""
        size = len(data)
        if size >= LONG_READ and self.bulk_reader is None:
            self.read_bulk(handler)
        if isinstance(body, ChunkedBody) and handler.takes_chunks():
            at = body.whole(data, 0)
            if at == size and size:
                self.pass_chunks(handler, None, body, data, True)
                return
            if at:
                self.pass_chunks(handler, None, body, data[:at], False)
                if self.handler is not handler or self.body is None:
                    return
                data = data[at:]
        payload, rest = body.feed(data)
        while body.more:
            handler.on_payload(payload, False, b"")
            if self.handler is not handler or self.body is None:
                return
            payload, rest = body.feed(b"")
        if rest is None:
            handler.on_payload(payload, False, b"")
            if isinstance(body, LengthBody) and body.left >= LEAST and self.handler is handler:
                self.relay_rest(handler, body)
        else:
            self.ended(self.reusable and not rest)
            handler.on_payload(payload, True, self.trailers())

    def relay_rest(self, handler: ResponseHandler, body: LengthBody) -> None:
        """Have the kernel move what is still to come of `body`, but for its end, if it can."""
        sink = handler.relay_sink()
        if sink is not None:
            most = body.left - TAIL
            self.relay = relay(
                self.transport, sink, self.valve, most, self.on_relayed, self.on_relay_over
            )
            if self.relay is not None:
                self.relay.begin()

    def on_relayed(self, size: int) -> None:
        """The client's socket has taken `size` bytes more."""
        if self.handler is not None:
            self.handler.on_relayed(size)

    def on_relay_over(self, taken: int) -> None:
        """The connection reads again."""
        self.relay = None
        if isinstance(self.body, LengthBody):
            self.body.left -= taken

    def pass_chunks(
        self,
        handler: ResponseHandler,
        head: ResponseHead | None,
        body: ChunkedBody,
        chunks: bytes,
        last: bool,
    ) -> None:
        """Chunks that `whole` has passed by go on; `last`: nothing stands behind them."""
        over = body.ended
        if over:
            self.ended(self.reusable and last)
            self.body = None
        handler.on_chunks(head, chunks, body.inside, over)

    def view_received(self, view: memoryview) -> None:
        """The transport's call, while it gives views: the next one is in the same place."""
        handler, body = self.handler, self.body
        size = len(view)
        if handler is not None and isinstance(body, LengthBody) and size < body.left:
            body.left -= size
            handler.on_view(view)
        else:
            self.data_received(bytes(view))

    def trailers(self) -> bytes:
        """The trailer block of the body that has just ended."""
        body, self.body = self.body, None
        return body.trailers if body is not None else b""
