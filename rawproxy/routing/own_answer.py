"""The response of a route that answers by itself: a redirect, or one with a fixed status.

It is prepared at the start, and filled in with the values of each request. It never sees a
connection, and raises nothing. Invariants: what a client says cannot name the host that a redirect
leads to. The route's changes of response headers hold for these responses too.
"""

from __future__ import annotations

from rawproxy.config.model import Redirect, Respond, Route
from rawproxy.protocol.http import error_pages
from rawproxy.protocol.http.response_map import CACHED
from rawproxy.protocol.http.rewrite import HeadEdits, without
from rawproxy.protocol.http.variable_values import Asked, Value


class OwnAnswer:
    """The response of one route."""

    __slots__ = ("_body", "_cache", "_type", "_where", "status")

    def __init__(
        self, redirect: Redirect | None, respond: Respond | None, cache: str | None = None
    ) -> None:
        self._where = None if redirect is None else Value(redirect.target)
        self._body = None if respond is None else Value(respond.body)
        self._type = b""
        self.status = 302 if redirect is None else redirect.status
        if respond is not None:
            self.status = respond.status
            if respond.body:
                self._type = b"Content-Type: %b\r\n" % respond.type.encode()
        self._cache = cache

    def says_something(self) -> bool:
        """Whether it is a page that may stand in the place of an error."""
        return self._where is None and (self.status < 400 or bool(self._type))

    def of(self, asked: Asked, edits: HeadEdits | None, shown: int = 0) -> tuple[int, bytes, bytes]:
        """Status, header lines and body for one request. `shown`: another status; 0: its own."""
        status = shown or self.status
        if self._where is not None:
            lines, page = error_pages.redirect(location(self._where, asked))
        else:
            assert self._body is not None
            lines, page = self._type, self._body.text_of(asked)
        lines += cache_line(self._cache, status)
        if edits is not None:
            lines = without(lines, edits.response_cut) + edits.response_lines
        return status, lines, page


def own_answer(route: Route) -> OwnAnswer | None:
    """The response of a route that answers by itself; None if its upstream answers."""
    if route.redirect is None and route.respond is None:
        return None
    return OwnAnswer(route.redirect, route.respond, route.cache_control)


def cache_line(cache: str | None, status: int) -> bytes:
    """What a route says of how long answers may be kept, where it is no error."""
    told = cache is not None and status in CACHED
    return b"Cache-Control: %b\r\n" % cache.encode() if told and cache else b""


def location(value: Value, asked: Asked) -> bytes:
    """The URL that a redirect sends this request to.

    The client's words cannot name another host.
    """
    where = value.url_of(asked)
    return b"/" + where.lstrip(b"/\\") if where.startswith(b"/") else where
