"""What would happen to one request, without sending anything: `rawproxy explain`.

    request ──► listener ──► site ──► route ──► who may pass ──► group ──► the upstream's head

It calls the same code that serves: the parser, the routes, the rewriting, the questions of guards.
So it cannot say anything else than what happens. Each line ends with the place that decided it: a
line of the file, an option, or a default.

This module never opens a socket and never resolves a name. Invariant: the answer depends only on
the configuration and the request. Raises `ConfigError` for a request that cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from rawproxy.config.capabilities import modules
from rawproxy.config.model import Address, Config, Key, Route
from rawproxy.config.options import CAPABILITIES
from rawproxy.config.sources import Rank, Settings
from rawproxy.errors import ClientError, ConfigError, ProxyError
from rawproxy.protocol.http import last_hop, rewrite
from rawproxy.protocol.http.forwarding import address_of
from rawproxy.protocol.http.head import RequestHead
from rawproxy.protocol.http.target import redirect_target
from rawproxy.protocol.http.variable_values import Asked
from rawproxy.protocol.websocket.upgrade import settled
from rawproxy.proxy.admission import Admission, ConnectionSlot
from rawproxy.proxy.service import Service
from rawproxy.routing.match import Sites
from rawproxy.routing.route_targets import RouteTarget, target_of

_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_SOCKET: Final = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip


class ExplanationLine(NamedTuple):
    """One line of the answer: its subject, its text, and the place that decided it."""

    label: str
    text: str
    place: str = ""


class TypedRequest(NamedTuple):
    """A request as somebody types it."""

    method: str
    url: str
    lines: tuple[str, ...]  # `Name: value`
    sender: str  # an address, or unix:


def visit(words: tuple[str, ...], lines: tuple[str, ...], sender: str) -> TypedRequest:
    """The request `[METHOD] URL` with its header lines and its sender. Raises `ConfigError`."""
    if not 1 <= len(words) <= 2:
        raise ConfigError("explain: type [METHOD] URL, as in GET https://app.domain.tld/path")
    method, url = words if len(words) == 2 else ("GET", words[0])
    if not _METHOD(method):
        raise ConfigError(f"explain {method}: not a method; type GET, say")
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.netloc:
        raise ConfigError(f"explain {url}: type a whole URL, as https://app.domain.tld/path")
    for line in lines:
        if ":" not in line or "\r" in line or "\n" in line:
            raise ConfigError(f"-H {line}: type 'Name: value'")
    if sender != "unix:" and address_of(sender.encode()) is None:
        raise ConfigError(f"--from {sender}: type an address, as 192.0.2.1, or unix:")
    return TypedRequest(method, url, lines, sender)


class Explanation:
    """One request, explained step by step."""

    def __init__(self, settings: Settings, config: Config, told: TypedRequest) -> None:
        self.settings = settings
        self.config = config
        self.told = told
        parts = urlsplit(told.url)
        self.secure = parts.scheme in ("https", "wss")
        self.port = parts.port or _PORTS[parts.scheme]
        self.host = parts.netloc.rpartition("@")[2]
        self.target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.service = Service(config, None)
        for room in modules(CAPABILITIES, "wiring"):
            room.install(self.service, None)

    def facts(self) -> Iterator[ExplanationLine]:
        """All lines of the answer."""
        told = self.told
        yield ExplanationLine("request", f"{told.method} {told.url} from {told.sender}")
        address, option = self._listener()
        where = f"{option} {_shown(address)}"
        yield ExplanationLine("listener", where, self.place((option,)))
        redirects = not self.secure and self.config.https and self.config.redirect
        try:
            head = self._head()
            if redirects:
                where = self._redirect(head)
                yield ExplanationLine("answer", f"301 to {where}", self.place(("no-redirect",)))
                return
            sites = self.service.route_targets.for_listener(address)
            default = self.service.route_targets.first()
            target = default if sites is None else self._target(sites, head)
        except ProxyError as error:
            yield ExplanationLine("answer", f"{error.status}: {error.detail}")
            return
        yield from self._route(head, target)

    # ── the request ─────────────────────────────────────────────────────────────────────────────

    def _listener(self) -> tuple[Address, str]:
        """The listener it would reach: that of its port, or the first one of its scheme."""
        option = "https" if self.secure else "http"
        found: tuple[Address, ...] = getattr(self.config, option)
        if not found:
            raise ConfigError(f"explain {self.told.url}: there is no --{option} listener")
        return next((one for one in found if one.port == self.port), found[0]), option

    def _redirect(self, head: RequestHead) -> str:
        """The URL that a plain listener sends a client to."""
        port = next((one.port for one in self.config.https if one.path is None), 443)
        return redirect_target(head.host, head.target, port).decode("latin-1")

    def _head(self) -> RequestHead:
        names = {line.partition(":")[0].strip().lower() for line in self.told.lines}
        lines = [] if "host" in names else [f"Host: {self.host}"]
        lines += self.told.lines
        if self.told.url.startswith("ws") and "upgrade" not in names:
            lines += _SOCKET
        start = f"{self.told.method} {self.target} HTTP/1.1"
        raw = "\r\n".join([start, *lines, "", ""]).encode("utf-8", "surrogateescape")
        head = self.service.parse(raw, 0)
        if head is None:
            raise ClientError("the head does not come to its end")
        return head

    def _slot(self, target: RouteTarget | None) -> ConnectionSlot:
        slot = ConnectionSlot(Admission(0, 0))
        slot.peer = None if self.told.sender == "unix:" else self.told.sender
        slot.port, slot.server_port = 50000, self.port
        slot.client_cert_policy = None if target is None else target.client_cert_policy
        slot.tls = "TLSv1.3" if self.secure else ""
        return slot

    def _target(self, sites: Sites[RouteTarget], head: RequestHead) -> RouteTarget:
        """What the request leads to."""
        slot = self._slot(None)
        context = self.service.context(slot, self.secure)
        return target_of(sites, head, context, slot.server_port, slot.port)

    # ── site and route ──────────────────────────────────────────────────────────────────────────

    def _route(self, head: RequestHead, target: RouteTarget) -> Iterator[ExplanationLine]:
        service, slot = self.service, self._slot(target)
        context = service.context(slot, self.secure)
        context = service.follow(context, target)
        asked = service.asked(head, context, slot, target)
        edits = target.edits
        if target.plan is not None and edits is not None:
            edits = target.plan.of(edits, asked)
        context = asked.context._replace(edits=edits)
        client = rewrite.client_of(head, context).decode()
        if client != self.told.sender:
            place = self.place(("trusted-proxy",))
            yield ExplanationLine("client", f"{client}, as a trusted proxy says", place)
        site, key, route = self._where(target)
        names = ", ".join(self.config.sites[site].names) or "every name that no other site has"
        yield ExplanationLine("site", names, self.place(("site", site, "server-name")))
        if target.client_cert_policy is not None:
            ca, mode = target.client_cert_policy
            text = f"a client certificate of {ca}: {mode}"
            yield ExplanationLine("", text, self.place(("site", site, "client-ca")))
        kind = "this path alone" if route.exact else "this path and what is below it"
        text = f"matches {route.path_regex}" if route.path_regex else f"{route.path}, {kind}"
        if route.when:
            text += ", where " + " and ".join(f"{value} is {test}" for value, test in route.when)
        named = (*key, "path") if self.settings.has((*key, "path")) else key
        yield ExplanationLine("route", text, self.place(named))
        yield from self._access(target, asked.within(context), site, key)
        if target.again is not None:
            where = target.again.target(asked).decode("latin-1")
            yield ExplanationLine("again", f"looks up {where}", self.place((*key, "rewrite")))
            return
        if target.answer is not None:
            status, lines, page = target.answer.of(asked, edits)
            yield ExplanationLine("answer", f"{status} of our own", self.place(key))
            yield from _block(lines)
            yield from (ExplanationLine("", f"  | {line}") for line in page.decode().splitlines())
            return
        head = settled(head, target.upgrades)
        yield from self._upstream(head, target, context, route, key)
        yield from self._response(target, context, key)

    def _where(self, target: RouteTarget) -> tuple[int, Key, Route]:
        """The site and the route of a target, and where the file has them."""
        target = target.inside or target  # to those outside an internal one is another
        at = next(n for n, one in enumerate(self.service.route_targets.all) if one is target)
        for number, site in enumerate(self.config.sites):
            if at < len(site.routes):
                key: Key = ("site", number, "route", at)
                if not self.settings.has(key):  # a guard has brought it, or nobody named one
                    key = ("site", number, "auth") if at else ("site", number)
                return number, key, site.routes[at]
            at -= len(site.routes)
        raise AssertionError("every target is of a route")

    def _access(
        self, target: RouteTarget, asked: Asked, site: int, key: Key
    ) -> Iterator[ExplanationLine]:
        told: list[tuple[str, Key]] = []
        for room in modules(CAPABILITIES, "telling"):
            told += room.tell(target, asked)
        if not told:
            yield ExplanationLine("may pass", "everybody")
        for number, (text, place) in enumerate(told):
            shown = self._nearest(key, site, place) if place else ""
            yield ExplanationLine("" if number else "may pass", text, shown)

    def _nearest(self, key: Key, site: int, place: Key) -> str:
        """The place of a rule: in the route, or else in its site.

        A key that is longer is complete.
        """
        if len(place) > 1:
            return self.place(place)
        own = (*key, *place)
        return self.place(own if self.settings.has(own) else ("site", site, *place))

    # ── the upstream ────────────────────────────────────────────────────────────────────────────

    def _upstream(
        self,
        head: RequestHead,
        target: RouteTarget,
        context: rewrite.ClientContext,
        route: Route,
        key: Key,
    ) -> Iterator[ExplanationLine]:
        group = self.service.groups[target.group]
        policy = f", {group.group.policy}" if len(group.endpoints) > 1 else ""
        yield ExplanationLine(
            "group", f"{group.name}{policy}", self.place(self._named(group.name, key))
        )
        candidates = self.service.candidates(target, head, context)
        for number, endpoint in enumerate(candidates):
            place = self.settings.keys.get((group.name, endpoint.upstream))
            text = f"{'then ' if number else ''}{endpoint.title}"
            yield ExplanationLine("", text, self.place(place) if place else "")
        opening = rewrite.request(head, context, candidates[0].authority)
        recorder = self.service.recorder
        try:
            forwards = last_hop.left(head, target.trace) if head.method in last_hop.ASKED else -1
        except ClientError as error:
            yield ExplanationLine("answer", f"{error.status}: {error.detail}")
            return
        if forwards == 0:
            yield ExplanationLine("answer", "200 of our own: Max-Forwards is 0")
            return
        if forwards > 0:
            opening = last_hop.counted(opening, forwards - 1)
        if recorder.marks:
            opening = recorder.marked(recorder.begin(head, context), opening)
        yield ExplanationLine("it gets", "")
        yield from _block(opening[:-2])
        if recorder.marks:
            yield ExplanationLine("", "  (ids are made for each request)")

    def _named(self, group: str, key: Key) -> Key:
        """The place that names a route's group: the route, its table, or the table of a guard."""
        kind, _, name = group.partition(".")
        named: tuple[Key, ...] = ((*key, "group"), ("group", group), (kind, name))
        return next((one for one in named if self.settings.has(one)), ("group", group))

    def _response(
        self, target: RouteTarget, context: rewrite.ClientContext, key: Key
    ) -> Iterator[ExplanationLine]:
        """What is changed in the response."""
        if context.hsts:
            text = context.hsts.decode().strip()
            site = key[:2] if len(key) >= 2 else ()
            yield ExplanationLine("response", f"+ {text}", self.place((*site, "hsts")))
        edits = context.edits
        if edits is None:
            return
        place = self.place((*key, "response-headers"))
        lines = edits.response_lines.split(b"\r\n")
        for name in sorted(edits.response_cut - {one.partition(b":")[0].lower() for one in lines}):
            yield ExplanationLine("response", f"- {name.decode()}", place)
        for line in edits.response_lines.decode("latin-1").splitlines():
            yield ExplanationLine("response", f"+ {line}", place)

    # ── places ──────────────────────────────────────────────────────────────────────────────────

    def place(self, key: Key) -> str:
        """The place that decided something: FILE:LINE and key, an option, or a default."""
        settings, name = self.settings, str(key[-1])
        if settings.has(key):
            return settings.place(key)[1]
        rank = settings.ranks.get(name)
        if rank is None and len(key) > 1 and settings.has(key[:-1]):
            return settings.place(key[:-1])[1]
        if rank == Rank.FILE:
            return settings.place((name,))[1]
        if rank == Rank.COMMANDLINE:
            return f"--{name}"
        if rank == Rank.ENVIRONMENT:
            return f"RAWPROXY_{name.replace('-', '_').upper()}"
        return "default"


def _shown(address: Address) -> str:
    if address.path is not None:
        return f"unix:{address.path}"
    host = address.host or ""
    return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"


def _block(lines: bytes) -> Iterator[ExplanationLine]:
    for line in lines.split(b"\r\n"):
        if line:
            yield ExplanationLine("", f"  | {line.decode('utf-8', 'backslashreplace')}")


def render(facts: list[ExplanationLine]) -> Iterator[str]:
    """The facts as lines, with the places in a column of their own where there is room."""
    for label, text, place in facts:
        line = f"{label:<10}{text}"
        yield f"{line:<70}  {place}".rstrip() if place else line.rstrip()


def explained(settings: Settings, config: Config, told: TypedRequest) -> list[Any]:
    """All facts about one request."""
    return list(Explanation(settings, config, told).facts())
