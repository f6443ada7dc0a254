"""The writing half of an HTTP/1 client connection: the calls by which an exchange answers.

Every response is framed again (RFC 9112 6.2). A Content-Length passes; everything else is chunked
for HTTP/1.1, and ends with the connection for HTTP/1.0. Whole chunks may stay as they are. A head
goes out in one write with the part of its body that is there.

This module never reads. Invariant: when `closing` has been announced, or a body ends with the
connection, no further response follows.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Final

from rawproxy.client.request_side import RequestSide
from rawproxy.config.model import HANG_UP
from rawproxy.errors import ClientError
from rawproxy.net.tls_outbox import RECORD
from rawproxy.net.tls_transport import CORKED, TlsTransport
from rawproxy.protocol.http import error_pages, rewrite
from rawproxy.protocol.http.head import CHUNKED, RequestHead, ResponseHead
from rawproxy.protocol.http.target import redirect_target
from rawproxy.protocol.http1.body import encode_chunk, last_chunk
from rawproxy.proxy.admission import ConnectionSlot
from rawproxy.proxy.service import Service
from rawproxy.upstream.connection import WHOLE, Write

# Bytes of a body from which on it costs less to give its head and it to the kernel as two pieces
# than to join them.
APART: Final = 32 * 1024
ANSWER_ONLY: Final = -1  # in the place of a port: nothing but what a capability answers


class Responder(RequestSide):
    """Base of the HTTP/1 connection: the response under way and how it is written."""

    __slots__ = ("chunked", "closing", "half_closed", "redirect", "transport", "write")

    transport: asyncio.Transport
    write: Write  # the transport's own: to look it up for each answer takes longer

    def __init__(self, service: Service, slot: ConnectionSlot, redirect: int) -> None:
        super().__init__(service, slot)
        # The https port to send clients to; 0: proxy here. What a capability answers comes first.
        self.redirect = redirect
        self.closing = False  # no further request after this one
        self.half_closed = False  # the client has sent its end; an answer may still be due
        self.chunked = False

    @abstractmethod
    def may_stay(self) -> bool:
        """Whether the connection can be kept although an answer goes out now."""

    def send_interim(self, head: ResponseHead) -> None:
        """A 1xx: for HTTP/1.1 clients only (RFC 9110 15.2)."""
        if self.head is not None and self.head.minor:
            self.transport.write(b"%b%b\r\n" % (head.line, self.interim_lines(head)))

    def send_response(self, head: ResponseHead, framing: int, payload: bytes, ended: bool) -> None:
        """The head of the final response and the part of its body that is there, in one write."""
        parts = self._head(head, framing)
        if payload:
            self.sent += len(payload)
            parts.append(encode_chunk(payload) if self.chunked else payload)
        if ended and self.chunked:
            parts.append(last_chunk(b""))
        self.write(b"".join(parts))

    def takes_uncut(self) -> bool:
        return True

    def send_uncut(
        self, head: ResponseHead, framing: int, data: bytes, start: int, ended: bool
    ) -> None:
        """Both at once. What is long is copied once at most, from what was read."""
        stop = start + framing if ended else len(data)
        size = stop - start
        self.sent += size
        if start == head.size and stop == len(data) and self._unchanged(head):
            hsts = self.context.hsts
            if not hsts:
                self.write(data)
                return
            parts = [data[: start - 2], hsts, b"\r\n"]  # the head's last line is empty
        else:
            parts = self._head(head, framing)
        if size < WHOLE:
            parts.append(data[start:stop])
            self.write(b"".join(parts))
        elif size >= RECORD and isinstance(self.transport, TlsTransport):
            self._send_records(b"".join(parts), memoryview(data)[start:stop])
        elif size < APART:
            self.write(b"".join([*parts, memoryview(data)[start:stop]]))
        else:
            self.transport.writelines((b"".join(parts), memoryview(data)[start:stop]))

    def _send_records(self, head: bytes, body: memoryview) -> None:
        """Both over TLS, in as few records as they fill. Only what the first one has is copied."""
        first = len(body) % RECORD
        if len(head) + first > RECORD:
            if len(body) < CORKED:
                self.transport.write(b"".join((head, body)))
                return
            first = 0  # a record more costs less than to copy so much
        self.transport.write(b"".join((head, body[:first])) if first else head)
        self.transport.write(body[first:] if first else body)

    def _unchanged(self, head: ResponseHead) -> bool:
        """Whether the head of the final response may go on as it came, but for one line more.

        Its `Connection: keep-alive` is ours then (RFC 9110 7.6.1).
        """
        request = self.head
        assert request is not None
        edits = self.context.edits
        if not (head.unchanged and request.minor and (edits is None or edits.quiet)):
            return False
        if self.closing or not self.may_stay():
            return False
        self.status = head.status
        self.chunked = False
        return True

    def _head(self, head: ResponseHead, framing: int) -> list[bytes]:
        """The head of the final response; from now on it is known how its body is framed."""
        request = self.head
        assert request is not None
        self.status = head.status
        parts = rewrite.response_parts(head, self.context)
        if not head.dated:
            parts.append(self.service.date_line)
        self.chunked = False
        if framing < 0:
            if request.minor:
                self.chunked = True
                parts.append(b"Transfer-Encoding: chunked\r\n")
            else:
                self.closing = True
        if not self.may_stay():
            self.closing = True
        if self.closing:
            parts.append(b"Connection: close\r\n\r\n")
        elif head.upgrade and head.status == 426:
            parts.append(rewrite.upgrade_lines(head) + b"\r\n")
        elif request.minor:
            parts.append(b"\r\n")
        else:
            parts.append(b"Connection: keep-alive\r\n\r\n")
        return parts

    def passes_chunks(self) -> bool:
        """HTTP/1.0 has no chunks."""
        return self.head is not None and self.head.minor == 1

    def send_chunks(self, head: ResponseHead | None, chunks: bytes, inside: int) -> None:
        """Whole chunks of the response's body, with its head if that has not been sent."""
        self.sent += inside
        if head is not None:
            parts = self._head(head, CHUNKED)
            parts.append(chunks)
            self.transport.write(b"".join(parts))
            return
        self._came()
        self.transport.write(chunks)

    def takes_views(self) -> bool:
        """TLS has sent a view's bytes, or copied them, when `write` returns."""
        return isinstance(self.transport, TlsTransport)

    def send_view(self, view: memoryview) -> None:
        """More of the response's body, which is of a known length."""
        self.sent += len(view)
        self._came()
        self.transport.write(view)

    def relay_sink(self) -> asyncio.Transport | None:
        """The socket itself: what is relayed is of a known length."""
        return self.transport

    def relayed(self, size: int) -> None:
        """The kernel has moved `size` bytes more of it to the client."""
        self.sent += size
        self._came()

    def send_payload(self, payload: bytes) -> None:
        """More of the response's body."""
        self.sent += len(payload)
        self._came()
        self.transport.write(encode_chunk(payload) if self.chunked else payload)

    def _came(self) -> None:
        """The answer comes along, so whoever has half-closed is there to have it."""
        if self.half_closed:
            self.deadline = self.service.deadline(self.service.deadlines.linger)

    def send_end(self, trailers: bytes) -> None:
        """The response's body ends here."""
        if self.chunked:
            self.transport.write(last_chunk(trailers))

    def answer_here(self, head: RequestHead) -> bool:
        """Whether a plain listener answers by itself: a capability's answer, or a redirect."""
        answer = self.service.plain_answer
        page = None if answer is None else answer(head)
        if page is not None:
            self.reply(200, b"Content-Type: application/octet-stream\r\n", page)
        elif self.redirect == ANSWER_ONLY:
            return False
        else:
            self.redirect_to_https(head)
        return True

    def redirect_to_https(self, head: RequestHead) -> None:
        """Answer with a 301 to the https port, whatever was asked."""
        sites = self.slot.sites
        try:
            if sites is not None:
                sites.routes(head.host)  # a name that is not served leads nowhere
            if not head.host:
                raise ClientError("Host is missing, so there is nowhere to redirect to")
        except ClientError as error:
            self.send_error(error)
            return
        target = redirect_target(head.host, head.target, self.redirect)
        self.reply(301, *error_pages.redirect(target))

    def reply(self, status: int, extra: bytes, page: bytes) -> None:
        """Send a response of our own."""
        head = self.head
        self.status = status
        if status == HANG_UP:
            self.abort()
            return
        if not self.may_stay():
            self.closing = True
        if self.closing:
            extra += b"Connection: close\r\n"
        elif head is not None and not head.minor:
            extra += b"Connection: keep-alive\r\n"
        body = b"" if head is not None and head.method == b"HEAD" else page
        self.sent = len(body)
        line = b"HTTP/1.1 %d %b\r\n" % (status, error_pages.REASONS.get(status, b""))
        self.transport.write(b"".join((line, self.own_lines(status, extra, page), b"\r\n", body)))
