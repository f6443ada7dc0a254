"""What each route of each site leads to, ready for use: its `RouteTarget`.

It is made once for a configuration, so that a request costs only a look-up. It never sees a
connection. Invariant: what a request needs of its route is there before the request comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from rawproxy.config.field_names import plain
from rawproxy.config.model import Config, Deadlines, Edits, Group, Limits, Route, Site
from rawproxy.config.path_regex import path_regex
from rawproxy.config.variables import named
from rawproxy.errors import ClientError
from rawproxy.protocol.http.head import RequestHead
from rawproxy.protocol.http.path_change import PathChange
from rawproxy.protocol.http.response_map import AskedMap, ResponseMap
from rawproxy.protocol.http.rewrite import ClientContext, HeadEdits, cuts_only, finder
from rawproxy.protocol.http.target import is_host
from rawproxy.protocol.http.variable_values import Asked, Value, current, normalised
from rawproxy.routing.conditions import Conditions
from rawproxy.routing.error_places import ErrorPages
from rawproxy.routing.match import RouteEntry, Routes, Sites, path_of
from rawproxy.routing.own_answer import own_answer

T = TypeVar("T")

ClientCertPolicy = tuple[str, str]  # --client-ca and --client-verify: who may come in


class RouteTarget:
    """One route, ready for use."""

    __slots__ = (
        "access",
        "again",
        "answer",
        "as_nginx",
        "client_cert_policy",
        "deadlines",
        "edits",
        "followed",
        "gather",
        "gather_passes",
        "group",
        "guard",
        "hsts",
        "inner",
        "inside",
        "limits",
        "name",
        "optional",
        "pages",
        "plan",
        "regex",
        "trace",
        "trailers",
        "upgrades",
        "upstreams",
        "variants",
        "when",
    )  # fmt: skip

    def __init__(
        self, config: Config, site: Site, route: Route, cookies: frozenset[bytes] | None = None
    ) -> None:
        """`cookies` are those of `own_cookies`, if they are known already."""
        self.group = route.group or ""  # its name; empty if `answer` answers
        # The `upstream.group.UpstreamGroup` of that name. Requests that are under way keep theirs.
        self.upstreams: Any = None
        self.access: Any = route.access  # what a guard is made of
        self.guard: object | None = None  # a `proxy.guard.Guard`; None: everybody may pass
        self.answer = own_answer(route)
        self.regex = None if route.path_regex is None else path_regex(route.path_regex)
        self.when = Conditions(route.when) if route.when else None
        # Routes of the same path that come first where their `when` holds.
        self.variants: tuple[RouteTarget, ...] = ()
        self.as_nginx = route.as_nginx
        self.limits: Limits = route.limits or config.limits
        self.deadlines: Deadlines = route.deadlines or config.deadlines
        self.client_cert_policy = client_cert_policy(site)
        self.optional = site.client_verify == "optional"
        hsts = site.hsts
        self.hsts = None if hsts is None else f"Strict-Transport-Security: {hsts}\r\n".encode()
        self.name = site.names[0].encode() if site.names else b""
        if cookies is None:
            cookies = own_cookies(config.groups, site)
        response_map = _response_map(config, route)
        self.edits = edits(route, cookies, response_map)
        # The context that was last made to follow this route, behind what it was made of: most
        # requests come from a client that has just sent another one.
        self.followed: tuple[ClientContext, ClientContext] | None = None
        # What differs from request to request; None: `edits` is all there is.
        self.plan = plan(route, response_map)
        # Of a route with `again`: the path that is looked up, and among which routes.
        self.again = path_change(route) if route.again else None
        self.inner: Any = None  # an `inner_routes.InnerRoutes`
        self.inside: RouteTarget | None = None  # of one that is internal, as others lead to it
        # What stands in the place of errors; None: they are shown as they are.
        pages = route.error_pages
        self.pages = ErrorPages(pages, route.intercept, route.cache_control) if pages else None
        self.trace = config.allow_trace if route.allow_trace is None else route.allow_trace
        listed = config.upgrades if route.upgrades is None else route.upgrades
        self.upgrades = {one.lower().encode(): one.encode() for one in listed}
        self.gather = route.gather
        self.gather_passes = route.gather_over == "pass"
        self.trailers = frozenset(name.encode() for name in route.request_trailers)

    def asked(
        self, head: RequestHead, context: ClientContext, server_port: int, remote_port: int
    ) -> Asked:
        """What the values of this route may use of a request."""
        asked = Asked(head, context, self.name, server_port, remote_port)
        if self.regex is None and self.when is None:
            return asked
        return asked.matched(self.captures(asked))

    def captures(self, asked: Asked) -> tuple[bytes, ...]:
        """What the groups of `path-regex` have matched in a request, or the last one of `when`."""
        own: tuple[bytes, ...] = ()
        if self.regex is not None:
            own = self._own(asked) or (b"",) * self.regex.groups
        if self.when is None:
            return own
        return self.when.captures(asked.matched(own)) or own

    def fits(self, asked: Asked) -> bool:
        """Whether the `when` of this route holds for a request that its path fits."""
        when = self.when
        if when is None:
            return True
        return when.captures(asked.matched(self._own(asked))) is not None

    def _own(self, asked: Asked) -> tuple[bytes, ...]:
        """What the groups of `path-regex` have matched; nothing where there is none."""
        if self.regex is None:
            return ()
        path = path_of(current(asked))
        return self.regex.captures(normalised(path) if self.as_nginx else path) or ()


def client_cert_policy(site: Site) -> ClientCertPolicy | None:
    """Which client certificates a site accepts; None if it asks for none."""
    if site.client_verify == "off" or site.client_ca is None:
        return None
    return site.client_ca, site.client_verify


def own_cookies(groups: Iterable[Group], site: Site) -> frozenset[bytes]:
    """The cookies by which groups of this site recognise their clients.

    Every path of the site gets them.
    """
    used = {route.group for route in site.routes}
    return frozenset(
        group.cookie.encode() for group in groups if group.policy == "cookie" and group.name in used
    )


def edits(
    route: Route, cookies: frozenset[bytes] = frozenset(), response_map: ResponseMap | None = None
) -> HeadEdits | None:
    """The changes of a route's headers in both directions; None if nothing changes.

    Lines with variables are left out: `plan` makes them.
    """
    request, response, change = route.request_headers, route.response_headers, path_change(route)
    if request == response == Edits() and not cookies and change is None and response_map is None:
        return None
    cut = frozenset(map(plain, _cut(request)))
    if change is not None and change.strips:
        cut |= {plain(b"X-Forwarded-Prefix")}
    made = HeadEdits(
        cut,
        _lines(request),
        _cut(response),
        _lines(response),
        cookies,
        map=None if response_map is None else response_map.of,
        finds=finder(cut),
    )
    return cuts_only(made)


def path_change(route: Route) -> PathChange | None:
    """How the path is changed for the upstream; None if it is not."""
    if route.rewrite is not None:
        return PathChange("/", "/", route.rewrite, as_nginx=route.as_nginx)
    if route.replace_prefix is None:
        return None
    return PathChange(route.path, route.replace_prefix, as_nginx=route.as_nginx)


def _response_map(config: Config, route: Route) -> ResponseMap | None:
    """How paths that upstreams name are changed for the client; None if they are not."""
    mapping = route.mapping
    change = path_change(route) if mapping.back and route.replace_prefix is not None else None
    if change is None and not _pairs(route) and route.cache_control is None:
        return None
    # Only what takes a prefix back asks who the upstream is.
    authorities = () if change is None else tuple(_authorities(config, route))
    pairs = (mapping.locations, mapping.cookie_paths, mapping.cookie_domains)
    return ResponseMap(change, authorities, pairs, route.cache_control)


def _pairs(route: Route) -> bool:
    """Whether a route says what stands for what in an upstream's paths and names."""
    mapping = route.mapping
    return bool(mapping.locations or mapping.cookie_paths or mapping.cookie_domains)


def _authorities(config: Config, route: Route) -> Iterator[str]:
    """The names that an upstream may call itself by: its group's hosts, with and without ports."""
    for group in config.groups:
        if group.name == route.group:
            for upstream in group.upstreams:
                host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
                yield f"{host}:{upstream.port}"
                if upstream.port == (443 if upstream.tls else 80):
                    yield host


def plan(route: Route, response_map: ResponseMap | None = None) -> ValuePlan | None:
    """What differs from request to request in a route; None if nothing does."""
    request, response = route.request_headers, route.response_headers
    change = path_change(route)
    pairs = (*request.set, *request.add, *response.set, *response.add)
    maps = change is not None or _pairs(route)
    if not maps and all(Value(value).fixed is not None for _, value in pairs):
        return None
    varying = None if response_map is None or response_map.fixed else response_map
    return ValuePlan(request, response, change, varying)


def _cut(edits: Edits) -> frozenset[bytes]:
    names = (*edits.remove, *(name for name, _ in edits.set))
    return frozenset(name.lower().encode() for name in names)


def _lines(edits: Edits) -> bytes:
    pairs = [(name.encode(), Value(value).fixed) for name, value in (*edits.set, *edits.add)]
    return b"".join([b"%b: %b\r\n" % (name, value) for name, value in pairs if value is not None])


class ValuePlan:
    """Changes of headers whose values are made for each request."""

    __slots__ = ("_change", "_map", "_prefix", "_request", "_response")

    def __init__(
        self,
        request: Edits,
        response: Edits,
        change: PathChange | None,
        response_map: ResponseMap | None,
    ) -> None:
        self._change = change
        self._map = response_map  # one with variables
        own = (*request.remove, *(name for name, _ in (*request.set, *request.add)))
        named = "x-forwarded-prefix" in map(str.lower, own)  # then the route has it as it likes
        self._prefix = change is not None and change.strips and not named
        self._request = [(n.encode(), Value(v)) for n, v in (*request.set, *request.add)]
        self._response = [(n.encode(), Value(v)) for n, v in (*response.set, *response.add)]

    def of(self, edits: HeadEdits, asked: Asked) -> HeadEdits:
        """The route's `edits`, complete for one request."""
        lines, no_host = _made(self._request, asked)
        change = self._change
        if change is not None and self._prefix:
            lines += change.prefix_line(asked)
        return edits._replace(
            target=b"" if change is None else change.target(asked),
            host=asked.head.host,
            request_cut=edits.request_cut - {b"host"} if no_host else edits.request_cut,
            finds=None if no_host else edits.finds,
            bare=False,
            quiet=False,
            request_lines=lines,
            response_lines=_made(self._response, asked)[0],
            map=edits.map if self._map is None else AskedMap(self._map, asked).of,
        )


def _made(fields: list[tuple[bytes, Value]], asked: Asked) -> tuple[bytes, bool]:
    """The lines, and whether Host stays as it came.

    As in nginx, an empty value makes no line. An empty Host would frame another request.
    """
    lines: list[bytes] = []
    no_host = False
    for name, value in fields:
        made = value.fixed
        if made is None:
            made = value.of(asked)
            if not made:
                no_host = no_host or name.lower() == b"host"
                continue
            if name.lower() == b"host" and not is_host(made):
                no_host = True
                continue
        lines.append(b"%b: %b\r\n" % (name, made))
    return b"".join(lines), no_host


def entry(route: Route, value: T) -> RouteEntry[T]:
    """The route in the form that `Routes` takes."""
    return RouteEntry(
        route.path.encode(),
        route.exact,
        value,
        None if route.path_regex is None else path_regex(route.path_regex),
        route.before_regex,
        route.partial,
        route.first,
        route.as_nginx,
        route.rewrite is None and route.replace_prefix is None,
    )


def varied(
    routes: Sequence[Route], targets: Sequence[RouteTarget]
) -> list[RouteEntry[RouteTarget]]:
    """The entries of a site: one for each path, behind which there may be variants."""
    entries: dict[tuple[Any, ...], RouteEntry[RouteTarget]] = {}
    for number, (route, target) in enumerate(zip(routes, targets, strict=True)):
        alone = (route.path, route.exact, route.path_regex)
        key = (number,) if route.first else alone
        before = entries.get(key)
        variants = () if before is None else before.value.variants
        if target.when is not None and not route.first:
            variants += (target,)
        if before is None or before.value.when is not None:
            target.variants = variants
            entries[key] = entry(route, target)
        else:  # the one without a `when` stays the last resort, wherever it stands
            before.value.variants = variants
    return list(entries.values())


def target_of(
    sites: Sites[RouteTarget],
    head: RequestHead,
    context: ClientContext,
    server_port: int,
    remote_port: int,
) -> RouteTarget:
    """What a request leads to. Raises `ClientError` 400, 404 or 421."""
    routes = sites.routes(head.host)
    if not routes.conditional:
        return routes.find(head.target)
    return fitting(routes, head.target, Asked(head, context, b"", server_port, remote_port))


def fitting(routes: Routes[RouteTarget], target: bytes, asked: Asked) -> RouteTarget:
    """Where a request goes if more than its path decides. Raises `ClientError` 400 or 404.

    `asked` has no captures yet.
    """
    for one in routes.early(target):
        if one.when is None or one.fits(asked):
            return one
    return variant(routes.find(target), asked)


def variant(found: RouteTarget, asked: Asked) -> RouteTarget:
    """Of the routes of one path the first that fits. Raises `ClientError` 404."""
    for one in found.variants:
        if one.fits(asked):
            return one
    if found.when is not None:
        raise ClientError("no route of this path is for such a request", 404)
    return found


def names_ids(config: Config) -> bool:
    """Whether a value has $request_id, so that every request needs an id."""
    return any(named(value, "request_id") for site in config.sites for value in _values(site))


def _values(site: Site) -> Iterator[str]:
    for route in site.routes:
        for edits in (route.request_headers, route.response_headers):
            yield from (value for _, value in (*edits.set, *edits.add))
        if route.redirect is not None:
            yield route.redirect.target
        if route.respond is not None:
            yield route.respond.body
        yield route.rewrite or ""
        yield from (page.to for page in route.error_pages)
        yield from (value for value, _ in route.when)
