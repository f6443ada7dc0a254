"""The exchange for a page of the site that stands in the place of an error.

It never asks a guard: a route that has one is no such place. Invariant: the client sees the status
that `error-page` says, whatever the upstream of the page answers.
"""

from __future__ import annotations

from rawproxy.errors import MalformedError, ProxyError
from rawproxy.protocol.http import error_pages
from rawproxy.protocol.http.head import RequestHead, ResponseHead
from rawproxy.proxy.client_side import ClientSide
from rawproxy.proxy.error_places import with_status
from rawproxy.proxy.exchange import Exchange
from rawproxy.proxy.service import Service


class PageExchange(Exchange):
    """A request for a page, and its response."""

    __slots__ = ("lines", "status")

    def __init__(
        self, service: Service, client: ClientSide, head: RequestHead, status: int, lines: bytes
    ) -> None:
        super().__init__(service, client, head)
        self.status = status  # that the client sees; 0: that of the page
        self.lines = lines

    def on_response(self, head: ResponseHead, framing: int, payload: bytes, ended: bool) -> None:
        """The page, or an error in whose place there is none."""
        if not self._is_error(head):
            head = with_status(head, self.status, self.lines)
            super().on_response(head, framing, payload, ended)

    def on_uncut(
        self, head: ResponseHead, framing: int, data: bytes, start: int, ended: bool
    ) -> None:
        """The same, in one piece."""
        if not self._is_error(head):
            head = with_status(head, self.status, self.lines)
            super().on_uncut(head, framing, data, start, ended)

    def on_chunks(self, head: ResponseHead | None, chunks: bytes, inside: int, ended: bool) -> None:
        """The page, in chunks as they came."""
        if head is not None:
            if self._is_error(head):
                return
            head = with_status(head, self.status, self.lines)
        super().on_chunks(head, chunks, inside, ended)

    def _is_error(self, head: ResponseHead) -> bool:
        """Whether the page is an error, where errors of the upstream are not shown."""
        pages = self.client.route_target.pages
        if pages is None or not pages.intercepts or not pages.has(head.status):
            return False
        status = head.status if head.status in error_pages.REASONS else 502
        self.fail(ProxyError(f"the error page is a {head.status} itself", status))
        return True

    def on_switch(self, head: ResponseHead, rest: bytes) -> None:
        """Nobody has asked for a tunnel."""
        self.fail(MalformedError("a 101 for an error page"))
