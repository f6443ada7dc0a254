"""The targets of all routes of all sites, and what each listener serves.

They are made once for each configuration; what is the same in the next one stays the same object,
so that whatever is known of a route stays known. This module never sees a request. Invariant: if
one route serves every name and every path, `for_listener` gives None, and no request is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from rawproxy.config.model import Address, Config, Site
from rawproxy.routing.inner_routes import has_inner, outer
from rawproxy.routing.match import Routes, Sites
from rawproxy.routing.own_answer import own_answer
from rawproxy.routing.route_targets import (
    RouteTarget,
    client_cert_policy,
    own_cookies,
    plan,
    varied,
)


class RouteTargets:
    """The targets of all routes of all sites."""

    def __init__(self, config: Config, before: RouteTargets | None = None) -> None:
        """Without `before` all sites are added at once; with it, `add` has to be called for each.

        `before` are those of another configuration: what is the same stays the same object, so
        that whatever is known of a route stays known.
        """
        self.config = config
        self.all: list[RouteTarget] = []
        self.fresh: list[RouteTarget] = []  # those that `before` does not have
        self.guarded = False  # whether a site asks for client certificates
        self.default: RouteTarget | None = None
        self.common = _common(config)
        self._sticky = [one for one in config.groups if one.policy == "cookie"]
        self._served: list[tuple[Site, Routes[RouteTarget]]] = []
        self._made: dict[int, tuple[Site, Routes[RouteTarget], list[RouteTarget]]] = {}
        same = before is not None and before.common == self.common
        self._before = before._made if before is not None and same else {}
        if before is None:
            for site in config.sites:
                self.add(site)

    def add(self, site: Site) -> None:
        """The next site of the configuration."""
        known = self._before.get(id(site))
        if known is None:
            cookies = own_cookies(self._sticky, site)
            targets = [RouteTarget(self.config, site, route, cookies) for route in site.routes]
            listed, shown = list(site.routes), targets
            if any(map(has_inner, listed)):
                listed, shown = outer(self.config, site, listed, targets)
            conditional = any(route.when or route.first for route in site.routes)
            routes = Routes(varied(listed, shown), conditional=conditional)
            self.fresh += targets
            known = (site, routes, targets)
        # The site itself is kept, so that no other one can have its `id`.
        self._made[id(site)] = known
        self._served.append((site, known[1]))
        self.all += known[2]
        if self.default is None:
            self.default = known[2][0]
        self.guarded = self.guarded or client_cert_policy(site) is not None

    def done(self) -> None:
        """All sites are here: forget those from before."""
        self._before = {}

    def first(self) -> RouteTarget:
        """The first route of the first site, which every configuration has."""
        assert self.default is not None
        return self.default

    def alone(self, address: Address | None) -> bool:
        """Whether all requests to `address` go to the default route."""
        (site, _), *others = self._served
        here = not site.listeners or address in site.listeners
        return not others and here and _everything(site)

    def served(
        self, address: Address | None
    ) -> Iterator[tuple[tuple[str, ...], Routes[RouteTarget]]]:
        """The names and routes of each site that `address` serves."""
        for site, routes in self._served:
            if not site.listeners or address in site.listeners:
                yield site.called(), routes

    def for_listener(self, address: Address | None) -> Sites[RouteTarget] | None:
        """What `address` serves; None if all requests go to the default route."""
        return None if self.alone(address) else Sites(list(self.served(address)))


def _common(config: Config) -> tuple[object, ...]:
    """What the target of a route depends on, beside its site."""
    cookies = tuple((one.name, one.cookie) for one in config.groups if one.policy == "cookie")
    return config.limits, config.deadlines, config.allow_trace, config.upgrades, cookies


def _everything(site: Site) -> bool:
    """Whether a site serves all names, all paths and all clients in the same way."""
    (first, *others) = site.routes
    plain = first.path == "/" and not first.exact and own_answer(first) is None
    plain = plain and not first.when and first.path_regex is None and plan(first) is None
    plain = plain and first.access is None and not first.as_nginx
    plain = plain and not has_inner(first)
    return plain and not others and not site.called() and client_cert_policy(site) is None
