"""One connection to an upstream: it reads responses, and says whether it may serve another request.

It hands what it reads to its `ResponseHandler` (usually the exchange that holds it), by direct
calls.

It never decides about retries and never rewrites a head. Invariants: a connection without an
exchange is in the pool or closed. If bytes or an end of file arrive while it is idle, it leaves the
pool (RFC 9112 9.2). If bytes follow the last byte of a response, the connection is not used again.
"""

from __future__ import annotations

import asyncio
import select
from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from typing import Final, cast

from rawproxy.config.model import Limits
from rawproxy.errors import CutError, MalformedError, PrematureCloseError, ProxyError, UpstreamError
from rawproxy.net.backpressure import WRITER_FULL, Valve, last_words
from rawproxy.net.kernel_relay import LEAST
from rawproxy.net.socket_transport import SocketTransport
from rawproxy.net.tls_transport import TlsTransport
from rawproxy.protocol.http.head import CHUNKED, ResponseHead, response_framing
from rawproxy.protocol.http.last_head import LastHead
from rawproxy.protocol.http1.body import BodyError, ChunkedBody, CloseBody, LengthBody
from rawproxy.protocol.http1.head_limits import waits
from rawproxy.protocol.http1.parser import Parser
from rawproxy.upstream.bulk_reader import LONG, BulkReader
from rawproxy.upstream.response_body import ResponseBody
from rawproxy.upstream.response_handler import ResponseHandler

HEAD: Final = b"HEAD"
VERSION: Final = b"HTTP/1."  # what a response begins with
# How some say that they close an idle connection (RFC 9110 15.5.9).
TIMED_OUT: Final = (b"HTTP/1.1 408 ", b"HTTP/1.0 408 ")
# Bytes of a body that are not cut out of what was read, whatever its head says: to cut off fewer
# takes less than a view. Where nothing changes, fewer are not cut out either.
WHOLE: Final = 4096
Write = Callable[[bytes], object]
INTERIMS: Final = 32  # 1xx of one response in one read; Go's client allows five in all


class ConnectionOwner(metaclass=ABCMeta):
    """The endpoint, as its connections see it. A class for the same reason as `ResponseHandler`."""

    limits: Limits
    parse: Parser[ResponseHead]
    babbles: bool = False  # the upstream has sent bytes that nobody asked for
    bodied: bool = False  # those bytes were bodies of responses to HEAD

    @property
    @abstractmethod
    def title(self) -> str:
        """Its name in the log."""

    @abstractmethod
    def wanted(self) -> bool:
        """Whether a request waits for a connection."""

    @abstractmethod
    def settle(self, connection: UpstreamConnection) -> None:
        """The connection is free now: it serves another request, or is closed."""

    @abstractmethod
    def evict(self, connection: UpstreamConnection) -> None:
        """An idle connection sent something or ended: it must not be used again."""

    @abstractmethod
    def remember(self, connection: UpstreamConnection) -> None:
        """The connection has read its first response to the end."""

    @abstractmethod
    def babbled(self, bare: bool) -> None:
        """Bytes came that belong to no response. `bare`: they followed a response to HEAD."""

    @abstractmethod
    def stalled(self, connection: UpstreamConnection, waits: bool) -> None:
        """The connection waits for its own client now, or no longer does (`waits`)."""

    @abstractmethod
    def where_to_read(self) -> memoryview:
        """The memory for the next piece of a long body; its size is the most that is read."""

    @abstractmethod
    def crowded(self) -> bool:
        """Whether so many clients are slow that little is read at a time, of whatever comes."""

    @abstractmethod
    def complaint(self, error: Exception | None) -> str:
        """What the TLS alert in `error` means; empty if `error` is not an alert."""


class UpstreamConnection(ResponseBody, asyncio.Protocol):
    """One connection to an upstream."""

    __slots__ = (
        "apart", "bare", "bound", "buffer", "endpoint", "last_head", "limits", "look", "lost",
        "parse", "served", "suspect", "unfit", "write",
    )  # fmt: skip

    write: Write  # the transport's own: to look it up for each request takes longer

    def __init__(self, endpoint: ConnectionOwner) -> None:
        super().__init__()
        # of the connection
        self.endpoint = endpoint
        self.limits: Limits = endpoint.limits
        self.parse: Parser[ResponseHead] = endpoint.parse
        self.served = 0  # responses read to their end
        self.lost = False
        self.unfit = False  # a 1xx said something that forbids another use
        self.apart = False  # in use, but not counted by the pool
        self.bound = False  # idle, but one client's own: the pool counts it as busy
        self.last_head: LastHead[ResponseHead] = LastHead()
        self.suspect = False  # bytes may follow the last response: look before the next use
        self.look: select.poll | None = None  # made when it is first needed
        # of the response being read
        self.buffer = b""  # of a head that is not whole
        self.bare = False  # a response to HEAD: some upstreams send the body all the same

    def __repr__(self) -> str:
        state = "lost" if self.lost else "busy" if self.handler else "idle"
        return f"<UpstreamConnection {self.endpoint.title} {state} served={self.served}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are not subclasses
        self.transport, self.write = transport, transport.write
        self.valve = Valve(transport)
        if self.endpoint.crowded() and not isinstance(transport, SocketTransport):
            self.read_little(transport)

    def bind(self) -> None:
        """The exchange is over, and its client keeps the connection (see `connection_auth`)."""
        self.handler = None
        self.bound = True

    def unbind(self) -> None:
        """That client has gone. Nobody else may have the connection, as it is authenticated."""
        if self.bound:
            self.bound = False
            self.reusable = False
            self.endpoint.settle(self)

    def drop(self) -> None:
        """Close at once, whatever is under way. The peer sees a reset, not a clean end."""
        self.handler = None
        self.reusable = False
        if self.relay is not None:
            self.relay.stop()
        self.transport.abort()
        self.endpoint.settle(self)

    def stale(self) -> bool:
        """Whether anything can be read. An idle connection is silent; if not, it has ended.

        This is one system call, 3 % of a small request. So it is made only for requests that
        perhaps cannot be retried (RFC 9110 9.2.2: all but a GET without a body), and where bytes
        are likely (`suspect`). For all other requests the event loop reports what arrives. It
        misses only what arrives in the very turn in which the connection is used again; then the
        request is retried.
        """
        if self.lost or self.transport.is_closing():
            return True
        look = self.look
        if look is None:
            sock = self.transport.get_extra_info("socket")
            look = self.look = select.poll()
            look.register(sock.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
        return bool(look.poll(0))

    def data_received(self, data: bytes) -> None:
        handler = self.handler
        if handler is None:
            self.reusable = False
            if not data.startswith(TIMED_OUT):
                self.endpoint.babbled(self.bare)
            if not self.lost:
                self.endpoint.evict(self)
            return
        try:
            if self.body is None:
                if self.buffer:
                    seen, most = len(self.buffer), self.limits.response_head
                    data = self.buffer = self.buffer + data
                    if seen > len(VERSION) and waits(data, seen, most, most):
                        return
                self._read_head(handler, data)
            else:
                self.read_more(handler, self.body, data)
        except BodyError as malformed:
            self._fail(MalformedError(f"the response body is malformed: {malformed}"))
        except UpstreamError as error:
            if self.suspect and not data.startswith(VERSION):  # it belongs to the response before
                self.endpoint.babbled(self.bare)
                self._fail(
                    PrematureCloseError("the upstream sent bytes that belong to no response")
                )
            else:
                self._fail(MalformedError(error.detail, error.status))

    def _read_head(self, handler: ResponseHandler, data: bytes) -> None:
        at = interims = 0  # heads are read in place: to cut one off would copy what follows it
        while True:
            last = self.last_head
            head = last.again(data, at) if last.head is not None else None
            if head is not None:
                head.repeated = True
            else:
                head = self.parse(data, at)
                if head is None:
                    self.buffer = data[at:]
                    return
                if head.status >= 200:
                    last.keep(data, at, head)
            stop = at + head.size
            self.buffer = b""
            if head.status >= 200:
                break
            at = stop
            if head.status == 101:
                handler.on_switch(head, data[at:])
                return
            self.unfit |= head.close
            interims += 1
            if interims > INTERIMS:
                raise UpstreamError(f"more than {INTERIMS} interim responses at once")
            handler.on_interim(head)
            if at == len(data) or self.handler is not handler:
                return
        self._read_body(handler, head, data, stop)

    def _read_body(
        self, handler: ResponseHandler, head: ResponseHead, data: bytes, stop: int
    ) -> None:
        framing = response_framing(head, handler.method)
        self.bare = handler.method == HEAD
        self.reusable = not (head.close or self.unfit)
        if framing >= 0:
            whole = stop + framing
            size = len(data)
            if size >= whole:
                if self.bare and size > whole:
                    self.endpoint.babbled(True)
                self.ended(self.reusable and size == whole)
                if (head.unchanged or framing >= WHOLE) and handler.takes_uncut():
                    handler.on_uncut(head, framing, data, stop, True)
                else:
                    handler.on_response(head, framing, data[stop:whole], True)
                return
            self._read_rest(handler, head, framing, data, stop)
            return
        if framing == CHUNKED:
            body = self.body = ChunkedBody(
                self.limits.chunk_line, self.limits.trailers, padded=True
            )
            if head.nominated:
                body.nominated = frozenset(head.nominated)
            if handler.takes_chunks():
                at = body.whole(data, stop)
                last = at == len(data)
                if body.ended or (last and at > stop):
                    self.pass_chunks(handler, head, body, data[stop:at], last)
                    return
        else:
            self.body = CloseBody()
            self.reusable = False
        payload, rest = self.body.feed(data[stop:])
        if rest is None:
            more = self.body.more
            handler.on_response(head, framing, payload, False)
            if more and self.handler is handler:
                self.data_received(b"")
            return
        self.ended(self.reusable and not rest)
        trailers = self.trailers()
        if trailers:
            handler.on_response(head, framing, payload, False)
            if self.handler is handler:
                handler.on_payload(b"", True, trailers)
        else:
            handler.on_response(head, framing, payload, True)

    def _read_rest(
        self, handler: ResponseHandler, head: ResponseHead, framing: int, data: bytes, start: int
    ) -> None:
        """A body of a known length, of which the first part is in `data` from `start` on."""
        here = len(data) - start
        left = framing - here
        body = self.body = LengthBody(left)
        if left > LONG:
            self.read_bulk(handler)
        if here >= WHOLE and handler.takes_uncut():
            handler.on_uncut(head, framing, data, start, False)
        else:
            handler.on_response(head, framing, data[start:], False)
        if left >= LEAST and self.handler is handler:
            self.relay_rest(handler, body)

    def read_bulk(self, handler: ResponseHandler) -> None:
        """Read as much at a time, from now on, as the memory for slow clients allows."""
        transport = self.transport
        if not isinstance(transport, SocketTransport):  # those know how much they read
            if self.bulk_reader is None:
                self.read_little(transport)
        elif isinstance(transport, TlsTransport) and handler.takes_views():
            self.viewing = True
            transport.read_views(self.view_received, ahead=not self.endpoint.crowded())

    def read_little(self, transport: asyncio.Transport) -> None:
        """Read no more at a time than the endpoint says."""
        self.bulk_reader = BulkReader(self, self.endpoint.where_to_read)
        transport.set_protocol(self.bulk_reader)

    def ended(self, reusable: bool) -> None:
        """The response has come to its end; `reusable`: so may the connection be."""
        if self.bulk_reader is not None and not self.endpoint.crowded():
            self.bulk_reader = None
            self.transport.set_protocol(self)
        elif self.viewing and isinstance(self.transport, TlsTransport):
            self.viewing = False
            self.transport.read_views(None)
        if not self.served:
            self.endpoint.remember(self)
            if isinstance(self.transport, TlsTransport):
                self.transport.rest()  # its tickets are here
        self.served += 1
        self.suspect = self.bare or self.endpoint.babbles
        self.reusable = reusable and not (self.bare and self.endpoint.bodied)

    def _fail(self, error: ProxyError) -> None:
        handler = self.handler
        self.handler = None
        self.reusable = False
        self.transport.abort()
        if handler is not None:
            handler.on_lost(error)

    def eof_received(self) -> bool:
        self.connection_ended(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.relay is not None:
            self.relay.stop()
        if self.handler is not None:
            self.lost = True  # so that it is not used again, whatever the last bytes say
            words = last_words(self.transport)
            if words:
                self.data_received(words)
        self.connection_ended(exc)
        self.lost, self.bulk_reader = True, None

    def connection_ended(self, exc: Exception | None) -> None:
        """The upstream closed, cleanly (`exc` is None) or not."""
        handler, self.handler = self.handler, None
        self.reusable = False
        if handler is None:
            if not self.lost:
                self.endpoint.evict(self)
            return
        # Over TLS anybody on the way can cause an end without close_notify, and a reset looks the
        # same.
        cut = "cut the connection" if isinstance(exc, CutError) else "reset the connection"
        how = cut if exc is not None else "closed the connection"
        said = self.endpoint.complaint(exc)
        if said:
            how = f"ended the connection, as {said},"
        if self.body is None and not self.buffer:
            handler.on_lost(PrematureCloseError(f"the upstream {how} before its response"))
        elif self.body is None:
            handler.on_lost(UpstreamError(f"the upstream {how} within its response head"))
        elif isinstance(self.body, CloseBody) and exc is None:
            self.body = None
            handler.on_payload(b"", True, b"")
        else:
            handler.on_lost(UpstreamError(f"the upstream {how} within its response body"))

    def pause_writing(self) -> None:
        if self.handler is not None:
            self.handler.on_upstream_writable(False)

    def resume_writing(self) -> None:
        if self.handler is not None:
            self.handler.on_upstream_writable(True)

    def throttle(self, full: bool) -> None:
        """The client cannot take more of the response, or can again."""
        if full:
            self.valve.close(WRITER_FULL)
        else:
            self.valve.open(WRITER_FULL)
        self.endpoint.stalled(self, full)
