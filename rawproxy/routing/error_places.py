"""What stands in the place of an error: a page of the site, a route by its name, or a redirect.

    of      which of a route's `error-page`s is for a status
    place   where that leads for one request; None: the error itself is shown

It never sees a connection. Invariants: a request is led to one page, and not from there to another.
Only a route that everybody may see, and an upstream that is asked without a body, is such a place.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rawproxy.config.model import REDIRECTS, ErrorPage
from rawproxy.errors import ProxyError
from rawproxy.protocol.http.variable_values import Asked, Value
from rawproxy.routing.own_answer import cache_line, location


class Place(NamedTuple):
    """Where one error leads."""

    target: Any  # the `RouteTarget`; None: a redirect
    moved: bytes  # its path and query; empty: as before
    status: int  # that the client sees; 0: that of the place
    where: bytes = b""  # of the redirect
    keeps: bool = False  # the method, whatever it is
    lines: bytes = b""  # beside the redirect


class ErrorPages:
    """The `error-page` of one route."""

    __slots__ = ("_cache", "_pages", "intercepts")

    def __init__(
        self, pages: tuple[ErrorPage, ...], intercepts: bool, cache: str | None = None
    ) -> None:
        self._cache = cache
        self._pages = [(one, Value(one.to.removeprefix("@"))) for one in pages]
        self.intercepts = intercepts

    def has(self, status: int) -> bool:
        """Whether a page is for this status."""
        return any(one.first <= status <= one.last for one, _ in self._pages)

    def place(
        self, status: int, inner: Any, asked: Asked, whole: bool, has_body: bool
    ) -> Place | None:
        """Where an error leads. `whole`: whatever the request had of a body is here."""
        for page, value in self._pages:
            if page.first <= status <= page.last:
                answer = status if page.answer < 0 else page.answer
                if page.to.startswith(("@", "/")):
                    return _page(page.to, value, answer, inner, asked, whole, has_body)
                redirect = page.answer if page.answer in REDIRECTS else 302
                lines = cache_line(self._cache, redirect)
                return Place(None, b"", redirect, location(value, asked), lines=lines)
        return None


def by_get(asked: Asked) -> Asked:
    """The request for a page by its path: GET, whatever the method was; HEAD stays."""
    head = asked.head
    if head.method in (b"GET", b"HEAD"):
        return asked
    return asked.of(head._replace(method=b"GET"))


def _page(
    to: str, value: Value, answer: int, inner: Any, asked: Asked, whole: bool, has_body: bool
) -> Place | None:
    named = to.startswith("@")
    moved = asked.context.moved if named else location(value, asked)
    asked = asked if named else by_get(asked)
    try:
        target, again = inner.named(to, asked) if named else inner.at(moved, asked)
    except ProxyError:
        return None
    moved = again or moved
    if target.guard is not None:
        return None  # also where the route answers itself: who may see that is not known here
    if target.answer is not None:
        answer = answer if target.answer.says_something() else 0
        return Place(target, moved, answer, keeps=named)
    # A body that an upstream has had cannot be sent again, and a page by its path needs none.
    if not whole or (named and has_body):
        return None
    return Place(target, moved, answer, keeps=named)
