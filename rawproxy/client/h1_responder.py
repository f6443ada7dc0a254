"""The writing half of an HTTP/1 client connection: what the exchange calls to answer.

Every response is framed anew (RFC 9112 6.2): a Content-Length passes, everything else is chunked
for HTTP/1.1 and ends with the connection for HTTP/1.0. A head goes out in one write with what
there is of its body. It never reads. Invariant: once `closing` has been announced, or a body ends
with the connection, no further response follows.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod

from rawproxy.errors import ClientError, ProxyError
from rawproxy.protocol.http import error_pages, rewrite
from rawproxy.protocol.http.head import RequestHead, ResponseHead
from rawproxy.protocol.http1.body import encode_chunk, last_chunk
from rawproxy.proxy.admission import ConnectionSlot
from rawproxy.proxy.client_side import ClientSide
from rawproxy.proxy.service import Service
from rawproxy.routing.match import Sites
from rawproxy.routing.route_targets import RouteTarget


class Responder(ClientSide):
    """Base of the HTTP/1 connection: the response under way and how it is written."""

    __slots__ = (
        "chunked",
        "closing",
        "deadline",
        "half_closed",
        "head",
        "redirect",
        "sent",
        "service",
        "slot",
        "status",
        "transport",
    )  # fmt: skip

    transport: asyncio.Transport

    def __init__(self, service: Service, slot: ConnectionSlot, redirect: int) -> None:
        self.service = service
        self.slot = slot
        self.redirect = redirect  # the https port to send clients to; 0: proxy here
        self.route_target = service.route_target
        self.bound = None
        self.facts = None
        self.head: RequestHead | None = None  # of the request that is being answered
        self.closing = False  # no further request after this one
        self.half_closed = False  # the client has sent its end; an answer may still be due
        self.chunked = False
        self.status = 0
        self.sent = 0  # bytes of the response's body
        self.deadline = 0.0

    @abstractmethod
    def may_stay(self) -> bool:
        """Whether the connection can be kept although an answer goes out now."""

    def find(self, sites: Sites[RouteTarget], head: RequestHead) -> bool:
        """Choose the route; the answer is out where there is none, or where it redirects."""
        try:
            if self.redirect:
                sites.routes(head.host)
                return True
            route_target = self.service.find(sites, self.slot, head)
        except ClientError as error:
            self.context = self.context._replace(id=b"")  # it was the request before
            self.send_error(error)
            return False
        if route_target is not self.route_target:
            self.route_target = route_target
            self.context = self.service.follow(self.context, route_target)
        if route_target.plan is not None or route_target.answer is not None:
            return self._amend(route_target, head)
        return True

    def _amend(self, route_target: RouteTarget, head: RequestHead) -> bool:
        """The route's values for this request; the answer is out where it redirects."""
        asked = self.service.asked(head, self.context, self.slot, route_target)
        edits = route_target.edits
        if route_target.plan is not None and edits is not None:
            edits = route_target.plan.of(edits, asked)
        self.context = asked.context._replace(edits=edits)
        if route_target.answer is None or route_target.guard is not None:
            return True
        self.reply(*route_target.answer.of(asked, edits))
        return False

    def send_interim(self, head: ResponseHead) -> None:
        """A 1xx: for HTTP/1.1 clients only (RFC 9110 15.2)."""
        if self.head is not None and self.head.minor:
            block = rewrite.response(head, self.context._replace(hsts=None))
            self.transport.write(b"%b%b\r\n" % (head.line, block))

    def send_response(self, head: ResponseHead, framing: int, payload: bytes, ended: bool) -> None:
        """The head of the final response, and what there is of its body, in one write."""
        request = self.head
        assert request is not None
        self.status = head.status
        parts = [head.line, rewrite.response(head, self.context)]
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
        if payload:
            self.sent += len(payload)
            parts.append(encode_chunk(payload) if self.chunked else payload)
        if ended and self.chunked:
            parts.append(last_chunk(b""))
        self.transport.write(b"".join(parts))

    def send_payload(self, payload: bytes) -> None:
        """More of the response's body."""
        self.sent += len(payload)
        if self.half_closed:  # the answer comes along, so there is somebody to have it
            self.deadline = self.service.deadline(self.service.deadlines.linger)
        self.transport.write(encode_chunk(payload) if self.chunked else payload)

    def send_end(self, trailers: bytes) -> None:
        """The response's body ends here."""
        if self.chunked:
            self.transport.write(last_chunk(trailers))

    def send_error(self, error: ProxyError) -> None:
        """A response of our own; its request id is also that of the log line with the cause."""
        head = self.head
        if head is not None and self.facts is None:
            self.facts = self.service.recorder.bare(head, self.context)
        extra, page = self.service.error_page(error, head, self.context, self.facts)
        self.reply(error.status, extra, page)

    def send_redirect(self, head: RequestHead, port: int) -> None:
        """A 301 to https on `port`, for whatever was asked."""
        if not head.host:
            self.send_error(ClientError("Host is missing, so there is nowhere to redirect to"))
            return
        self.send_location(301, rewrite.redirect_target(head.host, head.target, port))

    def send_location(self, status: int, location: bytes) -> None:
        """A redirect to `location`."""
        self.reply(status, *error_pages.redirect(location))

    def reply(self, status: int, extra: bytes, page: bytes) -> None:
        """A response of our own."""
        head = self.head
        self.status = status
        if not self.may_stay():
            self.closing = True
        if self.closing:
            extra += b"Connection: close\r\n"
        elif head is not None and not head.minor:
            extra += b"Connection: keep-alive\r\n"
        lines = [
            b"HTTP/1.1 %d %b\r\n" % (status, error_pages.REASONS[status]),
            self.service.date_line,
            error_pages.length_line(status, page),
            extra,
            self.context.hsts or b"",
            b"\r\n",
        ]
        if head is None or head.method != b"HEAD":
            lines.append(page)
            self.sent = len(page)
        self.transport.write(b"".join(lines))
