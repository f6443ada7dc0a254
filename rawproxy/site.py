"""What routes lead to while the proxy runs: a `Goal` for each route of each site.

It is made once, at start, so that a request costs a look-up and a comparison. It never sees a
connection. Invariant: where one route serves every name and every path, `for_listener` gives None,
and a request is not looked at.
"""

from __future__ import annotations

import re

from .config import Address, Config, Deadlines, Edits, Limits, Redirect, Route, Site
from .head import RequestHead
from .names import plain
from .rewrite import HeadEdits, split_host
from .routing import Entry, Routes, Sites

_PLACEHOLDER = re.compile(rb"\$(?:request_uri|host|path|query)").sub
Realm = tuple[str, str]  # --client-ca and --client-verify: who may come in


class Goal:
    """One route, ready for use."""

    __slots__ = (
        "deadlines", "edits", "group", "hsts", "limits", "optional", "realm", "redirect",
        "trailers",
    )  # fmt: skip

    def __init__(self, config: Config, site: Site, route: Route) -> None:
        self.group = route.group or ""  # its name; none where `redirect` answers
        self.redirect: Redirect | None = route.redirect
        self.limits: Limits = route.limits or config.limits
        self.deadlines: Deadlines = route.deadlines or config.deadlines
        self.realm = realm(site)
        self.optional = site.client_verify == "optional"
        hsts = site.hsts
        self.hsts = None if hsts is None else f"Strict-Transport-Security: {hsts}\r\n".encode()
        self.edits = edits(
            route.request_headers, route.response_headers, _own_cookies(config, site)
        )
        self.trailers = frozenset(name.encode() for name in route.request_trailers)


def realm(site: Site) -> Realm | None:
    """Which client certificates a site takes; None: it asks for none."""
    if site.client_verify == "off" or site.client_ca is None:
        return None
    return site.client_ca, site.client_verify


def _own_cookies(config: Config, site: Site) -> frozenset[bytes]:
    """The cookies by which groups of this site know their clients: every path of it gets them."""
    used = {route.group for route in site.routes}
    return frozenset(
        group.cookie.encode()
        for group in config.groups
        if group.policy == "cookie" and group.name in used
    )


def edits(
    request: Edits, response: Edits, cookies: frozenset[bytes] = frozenset()
) -> HeadEdits | None:
    """Both directions of a route's edits; None where nothing changes."""
    if request == response == Edits() and not cookies:
        return None
    cut = frozenset(map(plain, _cut(request)))
    return HeadEdits(cut, _lines(request), _cut(response), _lines(response), cookies)


def _cut(edits: Edits) -> frozenset[bytes]:
    names = (*edits.remove, *(name for name, _ in edits.set))
    return frozenset(name.lower().encode() for name in names)


def _lines(edits: Edits) -> bytes:
    return b"".join(f"{name}: {value}\r\n".encode() for name, value in (*edits.set, *edits.add))


class Goals:
    """Every route of every site."""

    def __init__(self, config: Config) -> None:
        self._served: list[tuple[Site, Routes[Goal]]] = []
        for site in config.sites:
            entries = [
                Entry(route.path.encode(), route.exact, Goal(config, site, route))
                for route in site.routes
            ]
            self._served.append((site, Routes(entries)))
            if site is config.sites[0]:
                self.default = entries[0].goal
        self.guarded = any(realm(site) for site in config.sites)

    def for_listener(self, address: Address | None) -> Sites[Goal] | None:
        """What `address` serves; None: the default goal, whatever is asked for."""
        served = [
            (site, routes)
            for site, routes in self._served
            if not site.listeners or address in site.listeners
        ]
        if len(self._served) == 1 and served and _everything(served[0][0]):
            return None
        return Sites([(site.names, routes) for site, routes in served])


def _everything(site: Site) -> bool:
    """Whether a site serves all names, all paths and all clients alike."""
    (first, *others) = site.routes
    plain = first.path == "/" and not first.exact and first.redirect is None
    return plain and not others and not site.names and realm(site) is None


def location(redirect: Redirect, head: RequestHead) -> bytes:
    """Where a redirect sends this request. What the client said cannot name another host."""
    target = b"/" if head.target == b"*" else head.target
    path, _, query = target.partition(b"?")
    values = {
        b"$request_uri": target,
        b"$host": split_host(head.host)[0],
        b"$path": path,
        b"$query": query,
    }
    where = _PLACEHOLDER(lambda match: values[match[0]], redirect.target.encode())
    return b"/" + where.lstrip(b"/\\") if where.startswith(b"/") else where
