"""What is looked up again: the routes that other routes lead to, and how they are found.

    rewrite, again     the path that a route has made is looked up among the routes of its site
    internal           a route that only this finds; a client that asks for it gets 404
    error-page         a path, or the name of a route (`error_places`)

Routes with `first` are left out: a request has passed them already. It never sees a connection.
Invariant: a request is looked up at most `MOVES` times more, however routes lead to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from rawproxy.config.model import Config, Respond, Route, Site
from rawproxy.errors import ClientError, ProxyError
from rawproxy.protocol.http.variable_values import Asked
from rawproxy.routing.match import Routes
from rawproxy.routing.route_targets import RouteTarget, variant, varied

MOVES: Final = 10  # times that one request's path may be looked up again, as in nginx


class InnerRoutes:
    """The routes of a site for what is looked up again: no `first`, and those that are internal."""

    __slots__ = ("_named", "_routes")

    def __init__(self, routes: Sequence[Route], targets: Sequence[RouteTarget]) -> None:
        pairs = list(zip(routes, targets, strict=True))
        found = [(one, it) for one, it in pairs if not one.first and one.named is None]
        self._routes = Routes(varied([one for one, _ in found], [it for _, it in found]))
        self._named: dict[str, list[RouteTarget]] = {}
        for route, target in pairs:
            if route.named is not None:
                self._named.setdefault(route.named, []).append(target)

    def find(self, target: RouteTarget, asked: Asked) -> tuple[RouteTarget, bytes]:
        """Where a request of a route with `again` ends, and its target there.

        Raises `ClientError` 400 or 404, and `ProxyError` 500 if it goes round in circles.
        """
        where = b""
        for _ in range(MOVES + 1):
            if target.again is None:
                return target, where
            where = target.again.target(asked.matched(target.captures(asked)))
            asked = _moved(asked, where)
            target = variant(self._routes.find(where), asked)
        raise ProxyError(f"more than {MOVES} times a path was rewritten and looked up again")

    def at(self, where: bytes, asked: Asked) -> tuple[RouteTarget, bytes]:
        """The same for a path that an error leads to."""
        asked = _moved(asked, where)
        target, again = self.find(variant(self._routes.find(where), asked), asked)
        return target, again or where

    def named(self, name: str, asked: Asked) -> tuple[RouteTarget, bytes]:
        """The same for a route that an error leads to by its name: the path may stay."""
        asked = asked.matched(())
        for target in self._named[name]:
            if target.when is None or target.fits(asked):
                return self.find(target, asked)
        raise ClientError("no route of this name is for such a request", 404)


def _moved(asked: Asked, where: bytes) -> Asked:
    return asked.within(asked.context._replace(moved=where)).matched(())


def has_inner(route: Route) -> bool:
    """Whether something is looked up again because of this route."""
    return bool(route.again or route.internal or route.named or route.error_pages)


def outer(
    config: Config, site: Site, routes: Sequence[Route], targets: Sequence[RouteTarget]
) -> tuple[list[Route], list[RouteTarget]]:
    """The routes as clients find them: none by name, and 404 for those that are internal.

    What is looked up again finds the others.
    """
    inner = InnerRoutes(routes, targets)
    found = []
    for route, target in zip(routes, targets, strict=True):
        target.inner = inner
        if route.internal:
            plain = replace(route, rewrite=None, again=False, respond=Respond(404), access=None)
            hidden = RouteTarget(config, site, plain)
            hidden.inside, hidden.inner, target = target, inner, hidden
        if route.named is None:
            found.append((route, target))
    return [one for one, _ in found], [it for _, it in found]
