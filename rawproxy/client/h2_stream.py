"""One stream of an HTTP/2 connection: the client's side of one exchange.

    the client's half    DATA ──► exchange; window credit goes back as the upstream takes the bytes
    our half             exchange ──► HEADERS, DATA; what the windows do not allow waits in `outbox`

It is a `ClientSide`, as the HTTP/1 connection is: the exchange cannot tell them apart. It never
writes to a socket; frames leave through the connection, which shares the send window out.
Invariants: a stalled upstream or client costs at most the stream's window or one read;
END_STREAM is sent once; the stream is in the connection's table until both halves have
ended or one side has reset it.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from rawproxy.client.h2_stream_transport import StreamTransport
from rawproxy.client.h2_writer import FrameWriter
from rawproxy.errors import ClientError, ProxyError, UpstreamError
from rawproxy.net.backpressure import WRITER_FULL
from rawproxy.protocol.http import error_pages, rewrite
from rawproxy.protocol.http.head import CHUNKED, RequestHead, ResponseHead
from rawproxy.protocol.http2.flow_control import Window
from rawproxy.protocol.http2.frames import MAX_FRAME, Code, StreamFault, window_update
from rawproxy.protocol.http2.hpack import encode_block, encode_status
from rawproxy.proxy.client_side import ClientSide
from rawproxy.proxy.exchange import Exchange
from rawproxy.proxy.guard import exchange_for
from rawproxy.proxy.tunnel import Tunnel
from rawproxy.routing.match import Sites
from rawproxy.routing.route_targets import RouteTarget
from rawproxy.upstream.connection import UpstreamConnection

# Seconds until a client that is answered, and neither sends on nor ends its body, is told to stop:
# one or two turns of the sweep, so that the answer has long been read.
STOP: Final = 1.5
OUTBOX_LOW: Final = 16 * 1024  # bytes left in the outbox when the upstream is read again


class Stream(ClientSide):
    """A request and its response, between HEADERS and END_STREAM."""

    __slots__ = (
        "connection", "deadline", "dropped", "early", "ending", "exchange", "full", "head", "id",
        "last", "local_ended", "outbox", "queued", "receive_window", "received", "remote_ended",
        "seen", "send_window", "sent", "status", "taken", "throttled", "trailers", "tunnel",
        "unsure",
    )  # fmt: skip

    def __init__(
        self, connection: FrameWriter[Any], number: int, head: RequestHead | None, ended: bool
    ) -> None:
        self.connection = connection
        self.context = connection.context
        self.route_target = connection.service.route_target
        self.bound = None  # and it never is: who speaks NTLM over HTTP/2 goes back to HTTP/1.1
        self.facts = None
        self.id = number
        self.head = head
        self.exchange: Exchange | None = None
        self.tunnel: StreamTransport | None = None
        self.status = 0
        self.sent = 0  # bytes of the response's body
        self.deadline = 0.0
        # the client's half
        self.remote_ended = ended
        self.received = 0
        self.unsure = False  # whether the body is as empty as the head says
        self.seen = 0  # `received` when the deadline was set
        self.last: bytes | None = None  # a body's last bytes, until END_STREAM confirms them
        self.early: list[bytes] = []  # of a tunnel that is not one yet
        self.throttled = 0  # reasons why the client gets no credit
        # What the client may send; None: its request had no body.
        self.receive_window: Window | None = None if ended else connection.flow.receiver()
        # our half
        self.dropped = 0  # bytes that came after the answer, less those it could not stop
        self.send_window: Window = connection.flow.sender()
        self.outbox: deque[memoryview] = deque()
        self.queued = 0  # bytes in it
        self.full = False  # the exchange has been told to wait
        self.taken = 0  # `sent` less `queued` at the last look
        self.ending = False  # END_STREAM follows the outbox
        self.trailers = b""
        self.local_ended = False

    def __repr__(self) -> str:
        return f"<Stream {self.id} of {self.context.peer.decode()}>"

    def start(self, opening: bytes) -> None:
        """The request's head is here: serve it."""
        head = self.head
        assert head is not None
        service = self.connection.service
        sites = self.connection.slot.sites
        if sites is not None and not self._find(sites, head):
            return
        if head.upgrade and head.upgrade not in self.route_target.upgrades:
            self.refuse(ClientError("WebSockets are not served here: see --upgrade", 501))
            return
        if not self.remote_ended:
            self._expect_body()
            if not head.framing and not head.upgrade:
                # A Content-Length of 0 is true once END_STREAM says so (RFC 9113 8.1.1).
                self.unsure = True
                return
        slot = self.connection.slot
        exchange = self.exchange = exchange_for(service, self, head, slot)
        exchange.start(opening)

    def _find(self, sites: Sites[RouteTarget], head: RequestHead) -> bool:
        """Choose the route; the answer is out where there is none, or where it redirects."""
        service = self.connection.service
        try:
            route_target = self.route_target = service.find(sites, self.connection.slot, head)
        except ClientError as error:
            self.refuse(error)
            return False
        self.context = service.follow(self.context, route_target)
        if route_target.plan is not None or route_target.answer is not None:
            return self._amend(route_target, head)
        return True

    def _amend(self, route_target: RouteTarget, head: RequestHead) -> bool:
        """The route's values for this request; the answer is out where it redirects."""
        asked = self.connection.service.asked(
            head, self.context, self.connection.slot, route_target
        )
        edits = route_target.edits
        if route_target.plan is not None and edits is not None:
            edits = route_target.plan.of(edits, asked)
        self.context = asked.context._replace(edits=edits)
        if route_target.answer is None or route_target.guard is not None:
            return True
        self.reply(*route_target.answer.of(asked, edits))
        self.exchange_done()
        return False

    def _expect_body(self) -> None:
        """From now on the client has to keep the pace, `Limits.rate`."""
        self.seen = self.received
        self.deadline = self.connection.service.deadline(self.route_target.deadlines.request_body)

    def refuse(self, error: ProxyError) -> None:
        """Answer without an upstream."""
        self.send_error(error)
        self.exchange_done()

    # ── the client's half ───────────────────────────────────────────────────────────────────────

    def take(self, size: int) -> None:
        """`size` bytes of DATA, padding included, are here. Raises `StreamFault`."""
        window = self.receive_window
        if self.remote_ended or window is None:
            raise StreamFault(Code.STREAM_CLOSED, "DATA behind END_STREAM (5.1)")
        window.take(size)

    def on_data(self, payload: bytes, ended: bool, trailers: bytes = b"") -> None:
        """Bytes of the request's body. Raises `StreamFault`."""
        self.received += len(payload)
        head = self.head
        if head is not None and self.exchange and not head.upgrade and head.framing != CHUNKED:
            if ended and self.status and self.received < head.framing:
                # The answer has begun, and the client does not care for the rest (curl). That is no
                # reason to reset it; the upstream is not told of an end.
                self.remote_ended = True
                self.deadline = 0.0
                return
            payload = self._measured(head.framing, payload, ended)
        self.remote_ended = ended
        if ended:
            self.deadline = 0.0
        exchange = self.exchange
        if self.tunnel is not None:
            self.tunnel.feed(payload, ended)
        elif self.unsure:
            self._confirm(payload, ended)
        elif exchange is None:
            self._drop(len(payload), ended)
            return
        elif head is not None and head.upgrade:
            self.early.append(payload)  # at most a window of it, as no credit is given
            return
        elif not exchange.request_ended:
            exchange.on_request_body(payload, ended, trailers)
        if ended and self.local_ended:
            self.end()
        elif payload and not ended:
            self.credit(len(payload))

    def _confirm(self, payload: bytes, ended: bool) -> None:
        """The stream whose request says that its body is empty."""
        self.unsure = not ended
        if payload:
            raise StreamFault(Code.PROTOCOL_ERROR, "DATA behind a Content-Length of 0 (8.1.1)")
        if ended:
            self.start(b"")

    def _drop(self, size: int, ended: bool) -> None:
        """What still comes after the answer is dropped, until the client must have seen that."""
        self.dropped += size
        if self.local_ended and (ended or self.dropped > 0):
            self.end()
        elif not ended:
            self.credit(size)

    def _measured(self, length: int, payload: bytes, ended: bool) -> bytes:
        """RFC 9113 8.1.1: the last byte goes on only when the sum is known to be right."""
        if self.received > length or (ended and self.received != length):
            raise StreamFault(Code.PROTOCOL_ERROR, "Content-Length is not the sum of DATA (8.1.1)")
        if ended:
            whole, self.last = (self.last or b"") + payload, None
            return whole
        if self.received == length:
            self.last = (self.last or b"") + payload
            return b""
        return payload

    def credit(self, size: int) -> None:
        """`size` bytes have been consumed; tell the client once it is worth a frame."""
        window = self.receive_window
        if window is None:
            return
        window.consume(size)
        if window.due() and not (self.throttled or self.remote_ended):
            self.connection.flow.widen(window)
            self.connection.write(window_update(self.id, window.give()))

    def throttle(self, reason: int, full: bool) -> None:
        """The upstream cannot take more of the body, or can again."""
        if full:
            self.throttled |= reason
            return
        self.throttled &= ~reason
        if not self.throttled:
            if self.deadline:
                self._expect_body()
            self.credit(0)

    def on_reset(self, code: int) -> None:
        """The client gave the stream up (RFC 9113 6.4)."""
        self.connection.forget(self)
        self.cancel(ConnectionResetError(f"RST_STREAM {code}"))

    def cancel(self, reason: Exception | None = None) -> None:
        """Nobody waits for the answer any more."""
        self.outbox.clear()
        self.queued = 0
        self.local_ended = True
        if self.tunnel is not None:
            self.tunnel.lost(reason)
        exchange = self.exchange
        if exchange is not None:
            self.status = self.status or 499
            exchange.cancel()

    # ── what the exchange calls ─────────────────────────────────────────────────────────────────

    def send_interim(self, head: ResponseHead) -> None:
        """A 1xx (RFC 9113 8.1)."""
        block = rewrite.response(head, self.context._replace(hsts=None))
        self.connection.send_headers(self.id, encode_status(head.status) + encode_block(block))
        self.hold()

    def send_response(self, head: ResponseHead, framing: int, payload: bytes, ended: bool) -> None:
        """The head of the final response, and what there is of its body."""
        request = self.head
        if request is not None and request.upgrade and 200 <= head.status < 300:
            # To a CONNECT, 2xx means that the tunnel stands (RFC 8441 5), and it does not.
            self.send_error(UpstreamError(f"a {head.status} where a 101 to websocket was due"))
            return
        self.status = head.status
        block = rewrite.response(head, self.context)
        if not head.dated:
            block += self.connection.service.date_line
        fields = encode_status(head.status) + encode_block(block)
        if ended and not payload:
            self.connection.send_headers(self.id, fields, True)
            self._ended()
            return
        self.connection.send_headers(self.id, fields)
        if payload:
            self._send(payload, ended)

    def send_payload(self, payload: bytes) -> None:
        """More of the response's body."""
        self._send(payload, False)

    def send_end(self, trailers: bytes) -> None:
        """The response's body ends here."""
        if self.local_ended or self.ending:
            return
        self.trailers = trailers
        self.ending = True
        if not self.queued:
            self._finish()

    def send_error(self, error: ProxyError) -> None:
        """A response of our own."""
        service, head = self.connection.service, self.head
        if head is not None and self.facts is None:
            self.facts = service.recorder.bare(head, self.context)
        extra, page = service.error_page(error, head, self.context, self.facts)
        self.reply(error.status, extra, page)

    def reply(self, status: int, extra: bytes, page: bytes) -> None:
        """A response of our own."""
        head = self.head
        self.status = status
        lines = (
            self.connection.service.date_line,
            error_pages.length_line(status, page),
            extra,
            self.context.hsts or b"",
        )
        fields = encode_status(status) + encode_block(b"".join(lines))
        self.connection.send_headers(self.id, fields)
        if head is not None and head.method == b"HEAD":
            page = b""
        self._send(page, True)

    def switch(self, head: ResponseHead, connection: UpstreamConnection, rest: bytes) -> None:
        """A genuine 101: the stream becomes a tunnel (RFC 8441 5)."""
        self.status = 200
        exchange, self.exchange = self.exchange, None
        self.deadline = 0.0
        block = rewrite.without(rewrite.response(head, self.context), (b"sec-websocket-accept",))
        self.connection.send_headers(self.id, encode_status(200) + encode_block(block))
        self.hold()
        if self.full:
            connection.valve.close(WRITER_FULL)
        assert self.head is not None and exchange is not None
        tunnel = self.tunnel = StreamTransport(self)
        early, self.early = b"".join(self.early), []
        service = self.connection.service
        pair = Tunnel(
            service, self.head, self.context, exchange.endpoint, exchange.facts, status=200
        )
        pair.deadlines = exchange.deadlines
        pair.splice((tunnel, tunnel.valve, early), (connection.transport, connection.valve, rest))
        exchange.tunnelled(pair)
        self.credit(len(early))
        if self.remote_ended:
            tunnel.feed(b"", True)

    def abort(self) -> None:
        """End visibly (RFC 9113 8.1)."""
        self.reset(Code.INTERNAL_ERROR)

    def reset(self, code: Code) -> None:
        """Reset the stream, whatever is under way."""
        if self.connection.forget(self):
            self.connection.reset(self.id, code)
        self.cancel()

    def client_has(self) -> int:
        """Bytes of the response that the client has taken."""
        return self.sent - self.queued

    def client_took(self) -> int:
        """Bytes of the response that the client took since it was last asked."""
        before, self.taken = self.taken, self.client_has()
        return self.taken - before

    def exchange_done(self) -> None:
        """The exchange has ended: record it. The stream lives until its outbox is empty."""
        self.exchange = None
        if not self.local_ended:
            self.deadline = 0.0
        if self.queued:
            service = self.connection.service
            self.taken = self.sent - self.queued
            self.deadline = service.deadline(self.route_target.deadlines.response_body)
        if self.head is not None:
            self.connection.service.recorder.record(
                self.head, self.context, self.status, self.sent, self.facts
            )

    # ── our half ────────────────────────────────────────────────────────────────────────────────

    def _send(self, payload: bytes, ended: bool) -> None:
        """DATA, as far as the windows and the socket allow; the rest waits in the outbox."""
        if self.local_ended or self.ending:
            return
        self.sent += len(payload)
        self.ending = ended
        rest = memoryview(payload)
        if not self.queued:
            taken = self.connection.send_data(self, payload, ended)
            if taken == len(payload):
                if ended:
                    self._ended()
                return
            rest = rest[taken:]
        self.outbox.append(rest)
        self.queued += len(rest)
        self.connection.waiting[self.id] = self
        self._tell(True)

    def pump(self, room: int) -> int:
        """Send one frame of at most `room` bytes from the outbox; how many bytes it took."""
        room = min(room, self.send_window.left, MAX_FRAME)
        if room <= 0:  # a window may be negative (RFC 9113 6.9.2)
            return 0
        piece = self.outbox[0][:room]
        size = len(piece)
        if size == len(self.outbox[0]):
            self.outbox.popleft()
        else:
            self.outbox[0] = self.outbox[0][size:]
        self.queued -= size
        over = not self.queued
        last = over and self.ending and not self.trailers
        self.connection.send_data(self, piece, last)
        if last:
            self._ended()
        elif over and self.ending:
            self._finish()
        if self.queued <= OUTBOX_LOW:
            self._tell(False)
        return size

    def _tell(self, full: bool) -> None:
        """Backpressure on whoever feeds the outbox."""
        if full is self.full:
            return
        self.full = full
        if self.tunnel is not None:
            self.tunnel.on_writable(not full)
        elif self.exchange is not None:
            self.exchange.on_client_writable(not full)

    def hold(self) -> None:
        """Nothing more from the upstream while the socket is full, be it all heads."""
        if self.connection.blocked and not self.full:
            self.connection.held.append(self)
            self._tell(True)

    def release(self) -> None:
        """The socket takes more; what waits in the outbox has its turn."""
        if self.queued <= OUTBOX_LOW and self.id in self.connection.streams:
            self._tell(False)

    def _finish(self) -> None:
        """All DATA is out, END_STREAM is not: trailers, or an empty DATA frame."""
        if self.trailers:
            self.connection.send_headers(self.id, encode_block(self.trailers), True)
        else:
            self.connection.send_data(self, b"", True)
        self._ended()

    def _ended(self) -> None:
        """END_STREAM is out.

        What the client still sends interests nobody (RFC 9113 8.1), but a reset right now could
        overtake the answer within the client (curl 7 loses it then). So it comes when the client
        has sent more than it could before it was given credit behind the answer, or after `STOP`.
        """
        self.local_ended = True
        if self.remote_ended or (self.tunnel is not None and self.tunnel.is_closing()):
            self.end()
        elif self.tunnel is None:
            service, window = self.connection.service, self.receive_window
            self.throttled = 0
            self.dropped = -window.left if window is not None else 0
            self.deadline = service.deadline(min(STOP, service.deadlines.linger))
            self.credit(0)

    def end(self) -> None:
        """Both halves are over, or the client's is of no use any more."""
        if self.connection.forget(self) and not self.remote_ended:
            self.connection.reset(self.id, Code.NO_ERROR)
        if self.tunnel is not None:
            self.tunnel.lost(None)

    # ── the sweep ───────────────────────────────────────────────────────────────────────────────

    def sweep(self, now: float) -> None:
        """Called about once a second."""
        exchange = self.exchange
        if exchange is not None:
            exchange.sweep(now)
        if not self.deadline or now < self.deadline:
            return
        deadlines = self.route_target.deadlines
        if self.local_ended:
            self.end()
        elif self.exchange is None:
            least = self.connection.service.pace(self.route_target, deadlines.response_body)
            if self.client_took() >= least:
                self.deadline = self.connection.service.deadline(deadlines.response_body)
            else:
                self.reset(Code.CANCEL)
        elif self.throttled or self._keeps_pace():
            self._expect_body()
        else:
            self.deadline = 0.0
            self.exchange.fail(ClientError("the request body stopped coming, or nearly", 408))

    def _keeps_pace(self) -> bool:
        pace = self.connection.service.pace(
            self.route_target, self.route_target.deadlines.request_body
        )
        return self.received - self.seen >= pace
