"""What is looked up again: the routes that other routes lead to, and how they are found.

    rewrite, again     the path that a route has made is looked up among the routes of its site
    internal           a route that only this finds; a client that asks for it gets 404

Routes with `first` are left out: a request has passed them already. It never sees a connection.
Invariant: a request is looked up at most `MOVES` times more, however routes lead to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from rawproxy.config.model import Config, Respond, Route, Site
from rawproxy.errors import ProxyError
from rawproxy.protocol.http.variable_values import Asked
from rawproxy.routing.match import Routes
from rawproxy.routing.route_targets import RouteTarget, variant, varied

MOVES: Final = 10  # times that one request's path may be looked up again, as in nginx


class InnerRoutes:
    """The routes of a site for what is looked up again: no `first`, and those that are internal."""

    __slots__ = ("_routes",)

    def __init__(self, routes: Sequence[Route], targets: Sequence[RouteTarget]) -> None:
        pairs = [(one, it) for one, it in zip(routes, targets, strict=True) if not one.first]
        self._routes = Routes(varied([one for one, _ in pairs], [it for _, it in pairs]))

    def find(self, target: RouteTarget, asked: Asked) -> tuple[RouteTarget, bytes]:
        """Where a request of a route with `again` ends, and its target there.

        Raises `ClientError` 400 or 404, and `ProxyError` 500 if it goes round in circles.
        """
        where = b""
        for _ in range(MOVES + 1):
            if target.again is None:
                return target, where
            where = target.again.target(asked._replace(captures=target.captures(asked)))
            asked = asked._replace(context=asked.context._replace(moved=where), captures=())
            target = variant(self._routes.find(where), asked)
        raise ProxyError(f"more than {MOVES} times a path was rewritten and looked up again")


def outer_targets(
    config: Config, site: Site, routes: Sequence[Route], targets: Sequence[RouteTarget]
) -> list[RouteTarget]:
    """The targets as clients find them: 404 for a route that is internal.

    What `again` looks up finds the others.
    """
    inner = InnerRoutes(routes, targets)
    found = []
    for route, target in zip(routes, targets, strict=True):
        target.inner = inner
        if route.internal:
            plain = replace(route, rewrite=None, again=False, respond=Respond(404), access=None)
            hidden = RouteTarget(config, site, plain)
            hidden.inside, target = target, hidden
        found.append(target)
    return found
