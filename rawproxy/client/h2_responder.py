"""The writing half of an HTTP/2 stream: the calls by which an exchange answers.

    HEADERS ──► DATA ──► END_STREAM, on the last frame: of HEADERS, DATA or trailers

What the windows and the socket do not allow waits in the outbox. The connection decides who sends
next (`h2_writer`). This module never reads. Invariants: the outbox holds at most one read of the
upstream, because whoever feeds it is told to wait. END_STREAM is sent once, and nothing after it.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Final

from rawproxy.client.h2_writer import FrameWriter, Sender
from rawproxy.config.model import HANG_UP
from rawproxy.errors import UpstreamError
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http.head import RequestHead, ResponseHead
from rawproxy.protocol.http2.frames import MAX_FRAME, Code
from rawproxy.protocol.http2.hpack import encode_block

OUTBOX_LOW: Final = 16 * 1024  # bytes left in the outbox when the upstream is read again


class StreamResponder(Sender):
    """Base of the stream: the response under way and how it is written."""

    __slots__ = ("connection", "ending", "full", "local_ended", "outbox", "trailers")

    def __init__(self, connection: FrameWriter[Any], number: int, head: RequestHead | None) -> None:
        super().__init__(connection.service, connection.slot, number, connection.flow.sender())
        self.connection = connection
        self.context = connection.context
        self.head = head
        self.outbox: list[memoryview] = []
        self.full = False  # whoever feeds it has been told to wait
        self.ending = False  # END_STREAM follows the outbox
        self.trailers = b""
        self.local_ended = False

    @abstractmethod
    def on_end_sent(self) -> None:
        """END_STREAM is out."""

    @abstractmethod
    def on_room(self, room: bool) -> None:
        """The outbox has room for what the exchange or the tunnel has, or has none."""

    @abstractmethod
    def end(self) -> None:
        """Both halves are over, or the client's half is not needed any more."""

    @abstractmethod
    def reset(self, code: Code) -> None:
        """Reset the stream, whatever is under way."""

    # ── what the exchange calls ─────────────────────────────────────────────────────────────────

    def send_interim(self, head: ResponseHead) -> None:
        """A 1xx (RFC 9113 8.1)."""
        self.send_fields(head.status, self.interim_lines(head), False)
        self.hold()

    def send_response(self, head: ResponseHead, framing: int, payload: bytes, ended: bool) -> None:
        """The head of the final response, and the part of its body that is there."""
        request = self.head
        if request is not None and request.upgrade and 200 <= head.status < 300:
            # To a CONNECT, 2xx means that the tunnel stands (RFC 8441 5), and it does not.
            self.send_error(UpstreamError(f"a {head.status} where a 101 to websocket was due"))
            return
        self.status = head.status
        block = rewrite.response(head, self.context)
        if not head.dated:
            block += self.service.date_line
        if ended and not payload:
            self.send_fields(head.status, block, True)
            self._end_sent()
        elif payload:
            self._answer(encode_block(block, head.status), payload, ended)
        else:
            self.send_fields(head.status, block, False)

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

    def reply(self, status: int, extra: bytes, page: bytes) -> None:
        """Send a response of our own."""
        head = self.head
        self.status = status
        if status == HANG_UP:
            self.abort()
            return
        fields = encode_block(self.own_lines(status, extra, page), status)
        if head is not None and head.method == b"HEAD":
            page = b""
        self._answer(fields, page, True)

    def client_has(self) -> int:
        """Bytes of the response that the client has taken."""
        return self.sent - self.queued

    # ── frames ──────────────────────────────────────────────────────────────────────────────────

    def send_fields(self, status: int, block: bytes, ended: bool) -> None:
        """HEADERS of a response, or of what comes before one."""
        self.connection.send_headers(self.id, encode_block(block, status), ended)

    def _send(self, payload: bytes, ended: bool) -> None:
        """Send DATA as far as the windows and the socket allow. The rest waits in the outbox."""
        if self.local_ended or self.ending:
            return
        self.sent += len(payload)
        self.ending = ended
        taken = 0 if self.queued else self.connection.send_data(self, payload, ended)
        if self.queued or taken < len(payload):
            self._queue(payload, taken)
        elif ended:
            self._end_sent()

    def _answer(self, fields: bytes, payload: bytes, ended: bool) -> None:
        """Send HEADERS, with the first DATA as in `_send`."""
        size = len(payload)
        self.sent += size
        self.ending = ended
        taken = self.connection.send_answer(self, fields, payload, ended)
        if taken < size:
            self._queue(payload, taken)
        elif ended:
            self._end_sent()

    def _queue(self, payload: bytes, taken: int) -> None:
        """The rest has to wait for its turn."""
        rest = memoryview(payload)[taken:]
        self.outbox.append(rest)
        self.queued += len(rest)
        self.connection.waiting[self.id] = self
        self._tell(True)

    def pump(self, room: int) -> int:
        """Send one frame of at most `room` bytes from the outbox. Returns its size."""
        room = min(room, self.send_window.left, MAX_FRAME)
        if room <= 0:  # a window may be negative (RFC 9113 6.9.2)
            return 0
        piece = self.outbox[0][:room]
        size = len(piece)
        if size == len(self.outbox[0]):
            del self.outbox[0]
        else:
            self.outbox[0] = self.outbox[0][size:]
        self.queued -= size
        over = not self.queued
        last = over and self.ending and not self.trailers
        self.connection.send_data(self, piece, last)
        if last:
            self._end_sent()
        elif over and self.ending:
            self._finish()
        if self.queued <= OUTBOX_LOW:
            self._tell(False)
        return size

    def _tell(self, full: bool) -> None:
        """Tell whoever feeds the outbox to wait, or to go on."""
        if full is not self.full:
            self.full = full
            self.on_room(not full)

    def hold(self) -> None:
        """Take nothing from the upstream while the socket is full, not even heads."""
        if self.connection.blocked and not self.full:
            self.connection.held.append(self)
            self._tell(True)

    def release(self) -> None:
        """The socket takes more: what waits in the outbox has its turn."""
        if self.queued <= OUTBOX_LOW and self.id in self.connection.streams:
            self._tell(False)

    def _finish(self) -> None:
        """All DATA is out but END_STREAM is not: send trailers, or an empty DATA frame."""
        if self.trailers:
            self.connection.send_headers(self.id, encode_block(self.trailers), True)
        else:
            self.connection.send_data(self, b"", True)
        self._end_sent()

    def _end_sent(self) -> None:
        self.local_ended = True
        self.on_end_sent()
