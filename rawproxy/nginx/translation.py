"""A whole nginx configuration as a TOML file of ours, and a remark about each of its directives.

    read → report every directive → servers → locations → groups → text

It never serves anything, and it never reads what it has written: `config` does. Invariant: a file
with a refusal is not served; where there is none, what is written means what nginx would do, less
the differences that the remarks name. Raises `ConfigError` with every refusal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rawproxy.errors import ConfigError
from rawproxy.nginx import toml_text
from rawproxy.nginx.cases import case
from rawproxy.nginx.conditions import conditional_sites
from rawproxy.nginx.locations import Location, answer, slash_redirect
from rawproxy.nginx.reading import Directive, read
from rawproxy.nginx.report import Remark, Report
from rawproxy.nginx.scope import Blocks
from rawproxy.nginx.servers import ServerBlock, defaults, server_of, tls_facts
from rawproxy.nginx.upstreams import Groups
from rawproxy.nginx.values import Refusal, fixed, seconds, value

TomlKeys = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Translation:
    """What came of a file."""

    text: str  # TOML
    remarks: tuple[Remark, ...]

    @property
    def refused(self) -> tuple[Remark, ...]:
        """What stands in the way of serving it."""
        return tuple(one for one in self.remarks if one.word == "refused")


def translated(path: str) -> Translation:
    """The file, whether or not something is refused. Raises `ConfigError` if nginx takes it not."""
    tree = read(path)
    return _Translator(path, tree).translation()


def toml_of(path: str) -> tuple[str, tuple[Remark, ...]]:
    """The TOML text. Raises `ConfigError` with every refusal."""
    made = translated(path)
    if made.refused:
        raise ConfigError(*(one.line() for one in made.refused))
    return made.text, made.remarks


class _Translator:
    def __init__(self, path: str, tree: tuple[Directive, ...]) -> None:
        self.path = path
        self.report = Report()
        self.tree = _whole(tree)
        self.top = Blocks(self.tree)
        self.groups = Groups({one.args[0]: one for one in tree if one.name == "upstream"})
        self.known = dict.fromkeys(_connection_maps(tree), "")
        self.sites: list[tuple[TomlKeys, list[tuple[TomlKeys, str]], str]] = []

    def translation(self) -> Translation:
        for block, one in _walk(self.tree):
            self.report.say(one, case(one, block))
        servers = self._servers()
        try:
            unnamed = defaults(servers)
        except Refusal as error:
            self.report.refuse(servers[0].block, str(error))
            unnamed = {}
        for server in servers:
            self._site(server, [one for one, its in unnamed.items() if its is server])
        return Translation(self._text(servers), tuple(self.report.remarks()))

    def _servers(self) -> list[ServerBlock]:
        found = []
        for one in self.top.own("server"):
            try:
                found.append(server_of(one, self.top))
            except Refusal as error:
                self.report.refuse(one, str(error))
        return found

    def _site(self, server: ServerBlock, unnamed: list[str]) -> None:
        try:
            facts = tls_facts(server)
            routes = self._routes(server)
            for names, listen, own in conditional_sites(server, self._value(server)):
                self._add(names, listen, facts, own, server)
        except Refusal as error:
            self.report.refuse(server.block, str(error))
            return
        if server.names:
            self._add(server.names, server.listens(), facts, routes, server)
        if unnamed:
            self._add([], unnamed, facts, routes, server)

    def _add(
        self, names: list[str], listen: list[str], facts: TomlKeys, routes: Any, server: ServerBlock
    ) -> None:
        site = {"server-name": names} if names else {}
        self.sites.append((site | {"listen": listen} | facts, routes, server.block.place))

    def _known(self, server: ServerBlock) -> dict[str, str]:
        """The variables that say the same for all requests to a server."""
        known = self.known | {"server_name": (server.names or [""])[0]}
        for one in server.blocks.own("set"):
            try:
                known[one.args[0].removeprefix("$")] = fixed(one.args[1], known)
            except Refusal as error:
                self.report.refuse(one, str(error))
        return known

    def _value(self, server: ServerBlock) -> Any:
        known = self._known(server)
        return lambda text: value(text, known)

    def _routes(self, server: ServerBlock) -> list[tuple[TomlKeys, str]]:
        returned = next(server.blocks.own("return"), None)
        if returned is not None:
            kind = server.blocks.first_of("default_type", "")
            try:
                return [
                    ({"path": "/"} | answer(returned, self._value(server), kind), returned.place)
                ]
            except Refusal as error:
                self.report.refuse(returned, str(error))
                return []
        found: list[tuple[TomlKeys, str]] = []
        for one in server.blocks.own("location"):
            route = self._route(one, server)
            if route is not None:
                found.append((route, one.place))
        if not any(route.get("path") == "/" and "exact" not in route for route, _ in found):
            found.append((self._nothing(server), server.block.place))
        paths = {route.get("path") for route, _ in found}
        for route, place in tuple(found):
            moved = slash_redirect(route)
            if moved is not None and moved["path"] not in paths:
                found.append((moved, place))
        return found

    def _nothing(self, server: ServerBlock) -> TomlKeys:
        """What no location is for: nginx would look for a file, and none are served here."""
        rest = Location(Blocks((), *server.blocks.chain), self.report, self.groups, self.known)
        rest.route["path"] = "/"
        try:
            rest.fill()
        except Refusal as error:
            self.report.refuse(server.block, str(error))
        return rest.route

    def _route(self, one: Directive, server: ServerBlock) -> TomlKeys | None:
        location = Location(
            server.blocks.within(one.block or ()), self.report, self.groups, self._known(server)
        )
        try:
            location.match(one)
            location.fill()
        except Refusal as error:
            self.report.refuse(one, str(error))
            return None
        return location.route

    def _text(self, servers: list[ServerBlock]) -> str:
        parts = [toml_text.table("", self._top_facts(servers), f"From {self.path}.")]
        for name, facts in self.groups.tables.items():
            parts.append(toml_text.table(f"[group.{name}]", facts, self.groups.places[name]))
        for site, routes, place in self.sites:
            parts.append(toml_text.table("[[site]]", site, place))
            for route, where in routes:
                parts.append(toml_text.table("[[site.route]]", route, where))
        return "\n".join(parts)

    def _top_facts(self, servers: list[ServerBlock]) -> TomlKeys:
        """What holds for the whole process."""
        facts: TomlKeys = {}
        for name, addresses in (
            ("http", [one for server in servers for one in server.plain]),
            ("https", [one for server in servers for one in server.secure]),
        ):
            facts[name] = list(dict.fromkeys(addresses))
        facts["no-redirect"] = True  # nginx sends nobody to https by itself
        protocols = [one.args for server in servers for one in server.blocks.all("ssl_protocols")]
        modern = protocols and all(args == ("TLSv1.3",) for args in protocols)
        facts["tls"] = "modern" if modern else "intermediate"
        facts |= self._peers(servers)
        if self.top.is_on("underscores_in_headers"):
            facts["underscores"] = "pass"
        facts |= self._resolver()
        log = self.top.last("access_log")
        if log is not None:
            facts["access-log"] = log.args[0]
        idle = self.top.last("keepalive_timeout")
        if idle is not None and seconds(idle.args[0]) > 0:
            facts["timeouts"] = {"client-idle": seconds(idle.args[0])}
        return facts

    def _resolver(self) -> TomlKeys:
        """The DNS server: the process has one, wherever the file names it."""
        facts: TomlKeys = {}
        for _, one in _walk(self.tree):
            if one.name != "resolver":
                continue
            address = one.args[0]
            address = address if ":" in address.rpartition("]")[2] else f"{address}:53"
            if facts.setdefault("resolver", address) != address:
                self.report.refuse(one, f"one resolver for the whole file; type {address} alone")
        return facts

    def _peers(self, servers: list[ServerBlock]) -> TomlKeys:
        """Whom to believe, and what is said of clients."""
        facts: TomlKeys = {}
        trusted = [
            one.args[0]
            for block in (self.top, *(server.blocks for server in servers))
            for one in block.own("set_real_ip_from")
        ]
        if trusted:
            facts["trusted-proxy"] = list(dict.fromkeys(trusted))
        if any(server.proxy_protocol for server in servers):
            facts["accept-proxy"] = True
        said = [one for _, one in _walk(self.tree) if one.name == "proxy_set_header"]
        chains = [one for one in said if one.args[0].lower() == "x-forwarded-for"]
        if any("proxy_add_x_forwarded_for" in one.args[1] for one in chains):
            facts["forwarded"] = "append"
        return facts


def _walk(tree: tuple[Directive, ...], within: str = "") -> Iterator[tuple[str, Directive]]:
    """Every directive that has a word of its own, with the name of its block.

    The pairs of a map have none.
    """
    for one in tree:
        yield within, one
        if one.block is not None and one.name not in ("map", "types", "events", "geo"):
            yield from _walk(one.block, one.name)


def _whole(tree: tuple[Directive, ...]) -> tuple[Directive, ...]:
    """A file of bare locations, in a server of its own."""
    if any(one.name == "location" for one in tree):
        first = tree[0]
        return (Directive("server", (), first.file, first.line, tree),)
    return tree


def _connection_maps(tree: tuple[Directive, ...]) -> list[str]:
    """The variables that say `upgrade` or `close` for Connection, which is written here anyway."""
    return [
        one.args[1].removeprefix("$")
        for one in tree
        if one.name == "map" and one.args[0] == "$http_upgrade"
    ]
