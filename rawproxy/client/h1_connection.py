"""The client's side of HTTP/1: one connection, with one request after the other.

    phase    data_received means
    ───────  ─────────────────────────────────────────────────────────────────
    HEAD     a request head, whole or in part; an exchange starts. While the client does not take
             what it has, and when many were served at once: kept, and reading stops
    BODY     bytes of the request's body, for the exchange
    ANSWER   bytes of the next request: kept, and reading stops (pipelining)
    DRAIN    bytes of a body whose response is out already: dropped, up to a limit
    LINGER   whatever still comes is dropped until the client closes

The exchange answers by direct calls to the writing half, `h1_responder`. This module never
rewrites, chooses an upstream or retries. Invariants: responses leave in the order of their requests
(RFC 9112 9.3.2). No byte behind a head or a body is lost. No request starts while the client does
not take the answers it has. One turn of the loop serves a limited number of requests. Every wait
has a deadline.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from rawproxy.client.h1_body import H1RequestBody
from rawproxy.client.h1_intake import ANSWER, BODY, DRAIN, HEAD, LINGER, TURN
from rawproxy.client.presence import ASK, Presence
from rawproxy.errors import ClientError
from rawproxy.net.backpressure import PIPELINED, RELAYED, WRITER_FULL, Valve, cut, take_more
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http.head import CHUNKED, RequestHead, ResponseHead
from rawproxy.protocol.http.last_head import LastHead
from rawproxy.protocol.http1.head_limits import waits
from rawproxy.protocol.websocket.upgrade import settled
from rawproxy.proxy.admission import ConnectionSlot
from rawproxy.proxy.service import Service
from rawproxy.upstream.connection import UpstreamConnection

LF: Final = 10
CR: Final = 13  # a head never begins with it, nor with a line feed or anything below
LEADING_BLANKS: Final = 8  # bytes of empty lines before a request: forgiven (RFC 9112 2.2)


class H1Connection(H1RequestBody, asyncio.Protocol):
    """One connection of an HTTP/1 client."""

    __slots__ = ("last_head", "parse", "presence", "requests", "secure")

    def __init__(
        self, service: Service, slot: ConnectionSlot, secure: bool, redirect: int = 0
    ) -> None:
        super().__init__(service, slot, redirect)
        self.requests = 0
        self.secure = secure
        self.parse = service.parse
        self.presence: Presence | None = None  # of a client that sends no more
        self.last_head: LastHead[RequestHead] = LastHead()  # of requests without a body

    def __repr__(self) -> str:
        return f"<H1Connection {self.context.peer.decode()} {self.phase.value}>"

    # ── the transport's calls ───────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are not subclasses
        self.transport, self.write = transport, transport.write
        self.valve = Valve(transport)
        self.context = self.service.context(self.slot, self.secure)
        if self.slot.epoch != self.service.epoch:
            self.adopt()
        self.service.clients.add(self)
        self.deadline = self.service.deadline(self.service.deadlines.request_head)

    def data_received(self, data: bytes) -> None:
        if self.phase is HEAD:
            if self.valve.reasons:  # it is not the client's turn
                self.keep(data)
                return
            if self.buffer:
                seen = len(self.buffer)
                data = self.buffer = self.buffer + data
                limits = self.service.limits
                if data[0] > CR and waits(data, seen, limits.head, limits.start_line):
                    return
            self.read_requests(data, 0)
        elif self.phase is BODY:
            self.read_body(data)
        elif self.phase is ANSWER:
            self.keep(data)
        elif self.phase is DRAIN:
            self.drop_body(data)

    def eof_received(self) -> bool:
        """The client sends no more: it half-closed or has gone, which looks the same.

        A request that came whole is still answered. If the client has gone, the first write to it
        ends the exchange; that may be the one of `Presence`.
        """
        if self.phase is ANSWER and not self.secure and not self._upgrading():
            self.closing = self.half_closed = True
            self.deadline = self.service.deadline(self.service.deadlines.linger)
            self.presence = Presence(self.transport, self._ask, self.abort)
            return True
        if self.phase is BODY:
            self.client_failed(ClientError("the client closed within the request body"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.end_hurry()
        self.service.clients.discard(self)
        self.slot.leave()
        if self.presence is not None:
            self.presence.over()
        self._unbind()
        self.phase = LINGER
        self.client_gone()

    def pause_writing(self) -> None:
        self.blocked = True
        if self.exchange is not None:
            self.exchange.on_client_writable(False)

    def resume_writing(self) -> None:
        self.blocked = False
        if self.slot.unproven:
            self.prove(1)
        if self.exchange is not None:
            self.exchange.on_client_writable(True)
        elif self.phase is HEAD and not self.parsing:
            self.deadline = self.service.deadline(self.service.deadlines.client_idle)
            self.go_on()

    def prove(self, times: int) -> None:
        """The client has taken what it was waited for; that, or a tunnel, counts so many times."""
        self.slot.unproven -= times
        if times and not self.slot.unproven:
            take_more(self.transport, queue=not self.secure)

    # ── requests ────────────────────────────────────────────────────────────────────────────────

    def read_requests(self, data: bytes, at: int) -> None:
        """Start exchanges for what is in `data` from `at` on. Keep what is for later."""
        self.parsing = True
        self.buffer, self.at = b"", 0
        turns = TURN
        # Requests are read where they stand: to cut each off would copy all that follow it.
        size = len(data)
        try:
            while at < size and self.phase is HEAD and turns and not self.blocked:
                turns -= 1
                if data[at] <= CR:
                    at = self._skip_blanks(data, at)
                    if at == size:
                        break
                last = self.last_head
                if last.head is not None:
                    known = last.again(data, at)
                    if known is not None:
                        at += known.size
                        self._start(known, last.opening)
                        continue
                head = self.parse(data, at)
                if head is None:
                    self._wait_for_head(data[at:])
                    return
                begin, at = at, at + head.size
                if head.framing:
                    at = self._start_with_body(head, data, at)
                    continue
                self._start(head, b"")
                plain = self.route_target.plan is None and not self.moved
                if at == size and self.exchange is not None and plain:
                    self.last_head.keep(data, begin, head, self.exchange.opening)
        except ClientError as error:
            self._refuse(error)
            return
        finally:
            self.parsing = False
        if at < size or self.phase is not ANSWER:
            self.stop_reading(data, at)

    def _skip_blanks(self, data: bytes, begin: int) -> int:
        """Where the request behind empty lines begins; the end of `data` if it is still to come."""
        at, size = begin, len(data)
        while data.startswith(b"\r\n", at):
            at += 2
            if at - begin > LEADING_BLANKS:
                raise ClientError("too many empty lines before the request")
        if at == size or (at == size - 1 and data[at] == CR):
            self._wait_for_head(data[begin:])
            return size
        if data[at] == CR or data[at] == LF:
            raise ClientError("a bare line end before the request")
        return at

    def _wait_for_head(self, data: bytes) -> None:
        if not self.buffer and not self.deadline:
            self.deadline = self.service.deadline(self.service.deadlines.request_head)
        self.buffer = data
        if self.valve.reasons:
            self.valve.open(PIPELINED)

    def _admit(self, head: RequestHead) -> bool:
        """Whether this request may start an exchange. If not, it has been answered."""
        self.head = head
        self.requests += 1
        last = self.requests >= self.service.limits.requests
        self.closing = head.close or self.service.draining or last
        self.status = self.sent = self.taken = 0
        self.deadline = 0.0
        if self.redirect and self.answer_here(head):
            return False
        if self.slot.sites is not None and not self.find(head):
            return False
        if head.upgrade or head.offered:
            self.head = settled(head, self.route_target.upgrades)
        return True

    def _start(self, head: RequestHead, opening: bytes) -> None:
        """Start the exchange of a request without a body."""
        self.phase = ANSWER  # it has been read whole: whoever is refused need not be waited for
        if not self._admit(head):
            self.exchange_done()
            return
        assert self.head is not None
        exchange = self.begin(self.head)
        exchange.start(opening)

    def _start_with_body(self, head: RequestHead, data: bytes, at: int) -> int:
        """Start a request whose body begins at `at`. Returns where the body ends."""
        stop = len(data)
        if head.framing != CHUNKED:
            stop = min(stop, at + head.framing)
        self.begin_body(head)
        if self._admit(head):
            self.expect_body()
            exchange = self.begin(self.head or head)
            exchange.start(coming=at < stop)
        else:
            self.exchange_done()
        if at < stop:
            self.data_received(data[at:stop])
        stop -= len(self.buffer)  # behind the last chunk
        self.buffer = b""
        return stop

    def _refuse(self, error: ClientError) -> None:
        """The head is no request: answer, and read no further (RFC 9112 2.2, 6.3)."""
        self.closing = True
        self.head = None
        self.send_error(error)
        self.close()

    # ── what the exchange calls ─────────────────────────────────────────────────────────────────

    def switch(self, head: ResponseHead, connection: UpstreamConnection, rest: bytes) -> None:
        """Send the upstream's own 101. From then on only bytes pass (RFC 9110 7.8)."""
        assert self.head is not None
        block = rewrite.response(head, self.context)
        lines = (head.line, block, rewrite.upgrade_to(self.head.upgrade), b"\r\n")
        self.transport.write(b"".join(lines))
        if self.blocked:
            connection.valve.close(WRITER_FULL)
        self.prove(self.slot.unproven)
        self.service.clients.discard(self)
        self._unbind()
        self.status = head.status
        client = (self.transport, self.valve, self.all_kept())
        self.tunnel_to(client, connection, rest, self.slot.handed_over())

    def claim(self, connection: UpstreamConnection) -> bool:
        """The client has proved who it is on `connection`, or will: nobody else gets it."""
        self._unbind()
        self.bound = connection
        connection.bind()
        return True

    def _unbind(self) -> None:
        bound, self.bound = self.bound, None
        if bound is not None:
            bound.unbind()

    def abort(self) -> None:
        """Cut the connection so that the client sees it (RFC 9112 8)."""
        self.closing = True
        self.phase = LINGER
        if self.blocked:
            cut(self.transport)
        else:  # what is on its way may still arrive
            self.transport.abort()

    def exchange_done(self) -> None:
        """The exchange has ended: record it, and then read the next request or close."""
        self.exchange = None
        self.end_hurry()
        if self.valve.reasons:
            self.valve.open(~PIPELINED if self.buffer else ~0)
        if self.head is not None:
            self.record(self.head)
        if self.phase is LINGER:
            return
        if self.phase is BODY and not self.closing:
            self.phase = DRAIN
            self.deadline = self.service.deadline(self.service.deadlines.linger)
        elif self.closing:
            self.close()
        else:
            self.next_request()

    # ── between requests ────────────────────────────────────────────────────────────────────────

    def next_request(self) -> None:
        """The answer is out, and the body has ended: what comes now is a head."""
        self.phase = HEAD
        service = self.service
        self.deadline = service.next_sweep + service.deadlines.client_idle  # `Service.deadline`
        if self.parsing:
            return
        if self.blocked:
            self.hold(self.buffer, self.at)
        elif self.buffer:
            self.go_on()

    def close(self) -> None:
        """Take no more requests. If the client may still send, let our answer arrive first."""
        sending = self.phase in (HEAD, BODY, DRAIN) or bool(self.buffer)
        self.phase = LINGER
        self.buffer = b""
        self.body = None
        self.deadline = self.service.deadline(self.service.deadlines.linger)
        # TLS says close_notify first, which is what a client waits for that reads to the end (RFC
        # 9112 9.8). What still comes is then dropped by the transport, for as long as here.
        if not sending or not self.transport.can_write_eof():
            self.transport.close()
            return
        # Closing with unread bytes would reset the connection and could destroy the response.
        self.valve.open(~0)
        self.transport.write_eof()

    def _ask(self) -> bool:
        """Ask a client that sends no more whether it is there. False if that is not possible."""
        head = self.head
        if head is None or not head.minor or self.status or self.exchange is None:
            return False
        self.transport.write(ASK)
        return True

    def _upgrading(self) -> bool:
        return self.head is not None and bool(self.head.upgrade)

    # ── the sweep and the drain ─────────────────────────────────────────────────────────────────

    def sweep(self, now: float) -> None:
        """Called about once a second."""
        if self.exchange is not None:
            self.exchange.sweep(now)
        elif self.bound is not None and self.bound.endpoint.wanted():
            self._unbind()  # the client proves itself again; others may not wait for its next click
        elif self.service.draining and self.phase is HEAD and not self.buffer:
            self.deadline = min(self.deadline, self.service.deadline(self.service.leaving.grace))
        if not self.deadline or now < self.deadline:
            return
        if self.phase is BODY:
            if not self.still_sends(waived=bool(self.valve.reasons & ~RELAYED)):
                self.client_failed(ClientError("the request body stopped coming, or nearly", 408))
        elif self.phase is HEAD and self.buffer and not self.blocked:
            self._refuse(ClientError("the request head did not come to its end", 408))
        elif self.half_closed and self._ask():
            self.deadline = self.service.deadline(self.service.deadlines.linger)
        elif not self.takes_the_rest():
            self.phase = LINGER
            cut(self.transport)

    def has_tunnels(self) -> bool:
        """A connection that became a tunnel is none of ours any more."""
        return False

    def adopt(self) -> None:
        """Another configuration counts, from the next request on.

        A response that is to come is the last one where what we know of the client might be another
        thing by then: its request goes on under the rules it began with.
        """
        service = self.service
        self.slot.follow(service.epoch, service.sites)
        self.parse = service.parse
        self.last_head = LastHead()
        if self.exchange is None or self.status:
            self.context = self.fresh_context(self.secure)
        elif not self.same_client(self.secure):
            self.closing = True

    def drain(self) -> None:
        """The worker stops: the next response that begins is the last one (RFC 9112 9.6).

        A response that has begun did not say so. Then there is another one, or some time of
        silence.
        """
        if self.exchange is not None and not self.status:
            self.closing = True
