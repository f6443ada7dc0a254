"""A whole nginx configuration as a TOML file of ours, and a remark about each of its directives.

    read → report every directive → servers → locations → groups → text

It never serves anything, and it never reads what it has written: `config` does. Invariant: a file
with a refusal is not served; where there is none, what is written means what nginx would do, less
the differences that the remarks name. Raises `ConfigError` with every refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rawproxy.errors import ConfigError
from rawproxy.nginx import toml_text
from rawproxy.nginx.answers import slash_redirect
from rawproxy.nginx.cases import case
from rawproxy.nginx.error_pages import check_server
from rawproxy.nginx.guards import Guards, Zones
from rawproxy.nginx.locations import OF_NO_REQUEST, Around, Location, routes_of
from rawproxy.nginx.looked_up import (
    check_kept,
    check_pages,
    check_told_apart,
    leads_elsewhere,
    staying,
)
from rawproxy.nginx.maps import Map, maps_of
from rawproxy.nginx.matching import LocationMatch, match_of, way_into
from rawproxy.nginx.reading import Directive, read
from rawproxy.nginx.report import Remark, Report
from rawproxy.nginx.rewriting import CHANGED, Rewriting, Way, named_by, uses
from rawproxy.nginx.scope import Blocks
from rawproxy.nginx.servers import ServerBlock, defaults, server_of, settle, tls_facts
from rawproxy.nginx.upstreams import Groups
from rawproxy.nginx.values import Refusal, seconds

TomlKeys = dict[str, Any]
_PATH = ("path", "exact", "partial", "path-regex", "before-regex")


@dataclass(frozen=True, slots=True)
class Translation:
    """What came of a file."""

    tables: TomlKeys  # what `text` says, as `tomllib` would read it
    remarks: tuple[Remark, ...]
    write: Callable[[], str]

    @property
    def text(self) -> str:
        """TOML."""
        return self.write()

    @property
    def refused(self) -> tuple[Remark, ...]:
        """What stands in the way of serving it."""
        return tuple(one for one in self.remarks if one.word == "refused")


def translated(path: str) -> Translation:
    """The file, whether or not something is refused. Raises `ConfigError` if nginx takes it not."""
    tree = read(path)
    return _Translator(path, tree).translation()


def served(path: str) -> Translation:
    """The file, if all of it can be served. Raises `ConfigError` with every refusal."""
    made = translated(path)
    if made.refused:
        raise ConfigError(*(one.line() for one in made.refused))
    return made


class _Translator:
    def __init__(self, path: str, tree: tuple[Directive, ...]) -> None:
        self.path = path
        self.report = Report()
        self.tree = _whole(tree)
        self.top = Blocks(self.tree)
        self.groups = Groups({one.args[0]: one for one in tree if one.name == "upstream"})
        self.known = dict.fromkeys(_connection_maps(tree), "")
        self.maps: dict[str, Map] = {}
        self.zones = Zones(self.top)
        self.guards = Guards()
        self.sites: list[tuple[TomlKeys, list[tuple[TomlKeys, str]], str]] = []

    def translation(self) -> Translation:
        for block, one in _walk(self.tree):
            self.report.say(one, case(one, block))
        servers = self._servers()
        self.maps = maps_of(self.tree)
        try:
            settle(servers)
            unnamed = defaults(servers)
        except Refusal as error:
            self.report.refuse(servers[0].block, str(error))
            unnamed = {}
        for server in servers:
            self._site(server, [one for one, its in unnamed.items() if its is server])
        top = self._top_facts(servers)
        named = {"group": self.groups.tables, "auth": self.guards.tables, "site": self._sites()}
        tables = toml_text.plain(top | {name: some for name, some in named.items() if some})
        return Translation(tables, tuple(self.report.remarks()), lambda: self._text(top))

    def _sites(self) -> list[TomlKeys]:
        return [site | {"route": [route for route, _ in routes]} for site, routes, _ in self.sites]

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
            start = Way(self.known | {"server_name": server.said_name})
            routes = self._routes(server, self._start(server, start))
            others = routes
            if unnamed and server.kept:  # by another name: the groups have found nothing
                known = {**start.known, **dict.fromkeys(server.kept, "")}
                others = self._routes(server, Way(known))
        except Refusal as error:
            self.report.refuse(server.block, str(error))
            return
        called = {"server-name": server.names, "server-name-regex": server.patterns}
        called = {key: names for key, names in called.items() if names}
        place = server.block.place
        if called:
            self.sites.append((called | {"listen": server.listens()} | facts, routes, place))
        if unnamed:
            self.sites.append(({"listen": unnamed} | facts, others, place))

    def _start(self, server: ServerBlock, start: Way) -> Way:
        """The way on which requests come to a server, with what its name keeps of theirs."""
        if not uses(server.blocks.block, server.kept):
            return start
        if server.names or len(server.patterns) > 1:
            raise Refusal("a name by expression whose groups are used has to be the only one")
        return named_by(start, server.patterns[0], server.kept)

    def _routes(self, server: ServerBlock, start: Way) -> list[tuple[TomlKeys, str]]:
        """The routes of a server, for each way through its rewrites."""
        block = server.blocks.block
        ways = Rewriting(self.maps, of_server=True).ways(block, start)
        if any(way.end is None and way.when and not way.again for way in ways):
            ways = Rewriting(self.maps, complete=True, of_server=True).ways(block, start)
        found: list[tuple[TomlKeys, str]] = []
        for way in ways:
            if way.end is not None or way.again:
                first = {"first": True} if way.when or way.again else {}
                place = way.end.place if way.end else server.block.place
                match = LocationMatch({"path": "/"} | first)
                found += [(route, place) for route in self._of_server(server, way, match)]
        stay = staying(ways)
        for way in stay:
            self._locations(server, way._replace(block=None), found)
        self._named(server, ways, stay, found)
        return found

    def _locations(self, server: ServerBlock, way: Way, found: list[tuple[TomlKeys, str]]) -> None:
        """The routes of the requests that go this way through the server."""
        around = self._around(server, way)
        rooted = False
        for one in around.locations:
            if one.args[-1].startswith("@"):
                continue  # where an error page or a guard leads to
            rooted = rooted or one.args in (("/",), ("^~", "/"))
            try:
                found += [(route, one.place) for route in self._route(one, server, around, way)]
            except Refusal as error:
                self.report.refuse(one, str(error))
        if not rooted:
            # What no location is for: nginx would look for a file, and none are served here.
            rest = self._of_server(server, way, LocationMatch({"path": "/"}))
            found += [(route, server.block.place) for route in rest]

    def _of_server(self, server: ServerBlock, way: Way, match: LocationMatch) -> Iterator[TomlKeys]:
        """The routes of requests that the server itself answers, or sends elsewhere."""
        blocks, around = server.blocks.within(()), self._around(server, way)
        for each in around.rewriting.ways((), way, _of_answers(blocks)):
            yield from routes_of(blocks, around, match, each)

    def _named(
        self,
        server: ServerBlock,
        ways: list[Way],
        stay: list[Way],
        found: list[tuple[TomlKeys, str]],
    ) -> None:
        """The locations that error pages name: by whichever way a request has come to its error."""
        places = [text for route, _ in found for text in route.get("error-page", {}).values()]
        if any(text.rpartition(" ")[2][:1] == "/" for text in places):
            check_server(server.blocks, CHANGED)
            check_pages(ways)
        names = {text.rpartition(" ")[2] for text in places}
        came = [way for way in ways if way.end is not None] + stay
        came = [way._replace(end=None, block=None, again=False) for way in came]
        for one in server.blocks.own("location"):
            if one.args[-1] in names and one.args[-1].startswith("@"):
                found += [(route, one.place) for route in self._of_name(one, server, came)]

    def _of_name(self, one: Directive, server: ServerBlock, ways: list[Way]) -> list[TomlKeys]:
        """The routes of a named location.

        An error leads there, not a request: what the server's ifs were has a say only where they
        have set what the location says.
        """
        bare, tested = [], []
        for way in ways:
            around = self._around(server, way)
            tested.append(list(self._route(one, server, around, way)))
            bare.append(list(self._route(one, server, around, way._replace(when=()))))
        if all(each == bare[0] for each in bare) and not any(way.groups for way in ways):
            return bare[0]
        check_told_apart(server.blocks, one, ways)
        return [route for each in tested for route in each]

    def _around(self, server: ServerBlock, way: Way) -> Around:
        inner = tuple(server.blocks.own("location"))
        rewriting = Rewriting(self.maps)
        return Around(
            self.report, self.groups, self.zones, self.guards, inner, rewriting, way.known
        )

    def _route(
        self, one: Directive, server: ServerBlock, around: Around, way: Way
    ) -> Iterator[TomlKeys]:
        block = one.block or ()
        match = match_of(one)
        blocks = server.blocks.within(block)
        internal = {}
        if any(it.name == "internal" for it in block):
            if not leads_elsewhere(server.blocks, one):
                for keys in (match.keys, *self._slash(one, blocks, around, way)):
                    path = {key: keys[key] for key in keys if key in _PATH}
                    yield {**path, "respond": {"status": 404}}  # nobody gets there
                return
            internal = {"internal": True}
        texts = blocks.texts(OF_NO_REQUEST)
        for each in around.rewriting.ways(block, way_into(match, way), texts):
            found = list(routes_of(blocks, around, match, each))
            check_kept(way, each)
            yield from (route | internal for route in found)
        for route in self._slash(one, blocks, around, way):
            yield route | internal

    def _slash(
        self, one: Directive, blocks: Blocks, around: Around, way: Way
    ) -> Iterator[TomlKeys]:
        """Where /app/ proxies, /app leads to it, unless another location is for that.

        Of two locations for /app/ the one with = says how, whichever of them proxies.
        """
        path = one.args[-1]
        if not _plain(one) or path == "/" or not path.endswith("/"):
            return
        same = [it for it in around.locations if it.args[-1] == path and _plain(it)]
        if one is not min(same, key=lambda it: it.args[0] != "="):
            return
        if any(it.args[-1] == path[:-1] and _plain(it) for it in around.locations):
            return
        if not any(inner.name == "proxy_pass" for it in same for inner in it.block or ()):
            return
        # What only the location sets is nothing yet.
        later = {it.args[0].removeprefix("$"): "" for it in blocks.own("set")}
        moved = slash_redirect(path)
        before = way._replace(known={**later, **way.known})
        for each in around.rewriting.ways((), before, _of_answers(blocks)):
            leads = Location(blocks, around, LocationMatch(moved), each)
            leads.lead_to_slash()
            yield leads.route

    def _text(self, top: TomlKeys) -> str:
        parts = [toml_text.table("", top, f"From {self.path}.")]
        for name, facts in self.groups.tables.items():
            parts.append(toml_text.table(f"[group.{name}]", facts, self.groups.places[name]))
        for name, facts in self.guards.tables.items():
            parts.append(toml_text.table(f"[auth.{name}]", facts, self.guards.places[name]))
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
            facts |= self._client_field()
        if any(server.proxy_protocol for server in servers):
            facts["accept-proxy"] = True
        said = [one for _, one in _walk(self.tree) if one.name == "proxy_set_header"]
        chains = [one for one in said if one.args[0].lower() == "x-forwarded-for"]
        if any("proxy_add_x_forwarded_for" in one.args[1] for one in chains):
            facts["forwarded"] = "append"
        return facts

    def _client_field(self) -> TomlKeys:
        """How trusted peers name the client: all servers have it in common."""
        said = [one for _, one in _walk(self.tree) if one.name == "real_ip_header"]
        name = said[0].args[0] if said else "X-Real-IP"
        for one in said[1:]:
            if one.args[0].lower() != name.lower():
                self.report.refuse(one, f"one real_ip_header for the whole file; type {name} alone")
        return (
            {} if name.lower() in ("x-forwarded-for", "proxy_protocol") else {"client-field": name}
        )


def _walk(tree: tuple[Directive, ...], within: str = "") -> Iterator[tuple[str, Directive]]:
    """Every directive that has a word of its own, with the name of its block.

    The pairs of a map have none.
    """
    for one in tree:
        yield within, one
        if one.block is not None and one.name not in ("map", "types", "events", "geo"):
            yield from _walk(one.block, one.name)


def _of_answers(blocks: Blocks) -> list[str]:
    """The texts of answers that the proxy makes itself, beside what they say."""
    lines = [*blocks.all("add_header"), *blocks.all("error_page")]
    return [text for one in lines for text in one.args]


def _plain(location: Directive) -> bool:
    """Whether it is for a path, and for no expression or error."""
    return location.args[0] not in ("~", "~*") and location.args[-1].startswith("/")


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
