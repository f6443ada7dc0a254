"""One stream of an HTTP/2 connection: the client's side of one exchange.

    the client's half    DATA ──► exchange; window credit goes back as the upstream takes the bytes
    our half             exchange ──► HEADERS, DATA (`h2_responder`)

A stream is a `ClientSide`, as the HTTP/1 connection is: the exchange cannot tell them apart. It
never writes to a socket: frames leave through the connection, which shares out the send window.
Invariants: a stalled upstream or client costs at most the stream's window or one read. The stream
is in the table of the connection until both halves have ended or one side has reset it.
"""

from __future__ import annotations

from typing import Any, Final

from rawproxy.client.h2_responder import StreamResponder
from rawproxy.client.h2_stream_transport import StreamTransport
from rawproxy.client.h2_writer import FrameWriter
from rawproxy.errors import ClientError, ProxyError
from rawproxy.net.backpressure import WRITER_FULL
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http.head import CHUNKED, RequestHead, ResponseHead
from rawproxy.protocol.http2.frames import Code, StreamFault, window_update
from rawproxy.upstream.connection import UpstreamConnection

# Seconds until a client that is answered, and neither sends on nor ends its body, is told to stop:
# one or two turns of the sweep, so that the answer has long been read.
STOP: Final = 1.5


class Stream(StreamResponder):
    """A request and its response, between HEADERS and END_STREAM."""

    __slots__ = ("dropped", "early", "last", "remote_ended", "throttled", "tunnel", "unsure")

    def __init__(
        self, connection: FrameWriter[Any], number: int, head: RequestHead | None, ended: bool
    ) -> None:
        super().__init__(connection, number, head)
        self.tunnel: StreamTransport | None = None
        self.remote_ended = ended
        if not ended:
            self.receive_window = connection.flow.receiver()
        self.unsure = False  # whether the body is as empty as the head says
        self.last: bytes | None = None  # a body's last bytes, until END_STREAM confirms them
        self.early: list[bytes] = []  # of a tunnel that is not one yet
        self.throttled = 0  # reasons why the client gets no credit
        self.dropped = 0  # bytes that came after the answer, less those it could not stop

    def __repr__(self) -> str:
        return f"<Stream {self.id} of {self.context.peer.decode()}>"

    def start(self, opening: bytes) -> None:
        """The head of the request is here: serve it."""
        head = self.head
        assert head is not None
        if not self.find(head):
            self.exchange_done()
            return
        if head.upgrade and head.upgrade not in self.route_target.upgrades:
            self.refuse(ClientError("WebSockets are not served here: see --upgrade", 501))
            return
        if not self.remote_ended:
            self.expect_body()
            if not head.framing and not head.upgrade:
                # A Content-Length of 0 is true once END_STREAM says so (RFC 9113 8.1.1).
                self.unsure = True
                return
        self.begin(head).start(opening)

    def refuse(self, error: ProxyError) -> None:
        """Answer without an upstream."""
        self.send_error(error)
        self.exchange_done()

    # ── the client's half ───────────────────────────────────────────────────────────────────────

    def take(self, size: int) -> None:
        """`size` bytes of DATA came, padding included. Raises `StreamFault`."""
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
        """Drop what still comes after the answer, until the client must have seen the answer."""
        self.dropped += size
        if self.local_ended and (ended or self.dropped > 0):
            self.end()
        elif not ended:
            self.credit(size)

    def _measured(self, length: int, payload: bytes, ended: bool) -> bytes:
        """Pass the last byte on only if the sum is right (RFC 9113 8.1.1)."""
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
        """`size` bytes were consumed. Tell the client when that is worth a frame."""
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
                self.expect_body()
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
        self.client_gone()

    # ── what the exchange calls ─────────────────────────────────────────────────────────────────

    def switch(self, head: ResponseHead, connection: UpstreamConnection, rest: bytes) -> None:
        """A genuine 101: the stream becomes a tunnel. The client is told 200 (RFC 8441 5)."""
        self.status = 200
        self.deadline = 0.0
        block = rewrite.without(rewrite.response(head, self.context), (b"sec-websocket-accept",))
        self.send_fields(200, block, False)
        self.hold()
        if self.full:
            connection.valve.close(WRITER_FULL)
        tunnel = self.tunnel = StreamTransport(self)
        early, self.early = b"".join(self.early), []
        self.tunnel_to((tunnel, tunnel.valve, early), connection, rest)
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

    def exchange_done(self) -> None:
        """The exchange has ended: record it. The stream lives until its outbox is empty."""
        self.exchange = None
        if not self.local_ended:
            self.deadline = 0.0
        if self.queued:
            self.taken = self.sent - self.queued
            self.deadline = self.service.deadline(self.route_target.deadlines.response_body)
        if self.head is not None:
            self.record(self.head)

    # ── what our half tells ─────────────────────────────────────────────────────────────────────

    def on_room(self, room: bool) -> None:
        """The outbox has room, or has none."""
        if self.tunnel is not None:
            self.tunnel.on_writable(room)
        elif self.exchange is not None:
            self.exchange.on_client_writable(room)

    def on_end_sent(self) -> None:
        """END_STREAM is out.

        What the client still sends is not needed (RFC 9113 8.1). But a reset right now could
        overtake the answer within the client (curl 7 loses it then). So the reset comes when the
        client has sent more than it could before it got credit after the answer, or after `STOP`.
        """
        if self.remote_ended or (self.tunnel is not None and self.tunnel.is_closing()):
            self.end()
        elif self.tunnel is None:
            window = self.receive_window
            self.throttled = 0
            self.dropped = -window.left if window is not None else 0
            self.deadline = self.service.deadline(min(STOP, self.service.deadlines.linger))
            self.credit(0)

    def end(self) -> None:
        """Both halves are over, or the client's half is not needed any more."""
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
        if self.local_ended:
            self.end()
        elif self.exchange is None:
            if not self.still_takes(self.route_target.deadlines.response_body):
                self.reset(Code.CANCEL)
        elif not self.still_sends(waived=bool(self.throttled)):
            self.deadline = 0.0
            self.exchange.fail(ClientError("the request body stopped coming, or nearly", 408))
