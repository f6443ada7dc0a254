"""`location` blocks as routes: where requests go, and what is changed of them on the way.

It never makes a site. Invariant: a route has everything that nginx would do with a
request that reaches the location, or the location is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from rawproxy.nginx.answers import cache_control, ended
from rawproxy.nginx.error_pages import Pages
from rawproxy.nginx.guards import Guards, Zones, keys, sign_in, told_by
from rawproxy.nginx.looked_up import check_by_get, check_named, taken_over
from rawproxy.nginx.maps import WhenTest
from rawproxy.nginx.matching import LocationMatch, RouteKeys, found_by, grouped, match_of, way_into
from rawproxy.nginx.reading import Directive
from rawproxy.nginx.report import Report
from rawproxy.nginx.rewriting import BY_NUMBER, CHANGED, Rewriting, Way
from rawproxy.nginx.scope import Blocks
from rawproxy.nginx.upstreams import Groups, Target
from rawproxy.nginx.values import Refusal, Varying, fixed, named_groups, seconds, size, value
from rawproxy.nginx.words import HARMLESS, Word

BODY: Final = "1m"  # client_max_body_size where nobody says it
# Directives whose texts name variables of no request that is on its way.
OF_NO_REQUEST: Final = ("log_format", "access_log", "limit_req_zone", "limit_conn_zone")
# What nginx's files are asked by; whatever else it answers by 405, be there a file or not.
_OF_FILES: Final = tuple(WhenTest("$method", f"!{name}") for name in ("GET", "HEAD", "POST"))
_MADE: Final = (
    "nginx asks here for the path that a rewrite has made before the error: "
    "type a proxy_pass with a URI in the place of that rewrite"
)
_OVERWRITTEN: Final = (
    "an expression of {} is run before, and nginx takes the number from that: "
    "type a name for the group, (?<name>…)"
)
_WRITTEN_HERE: Final = {"upgrade", "connection", "content-length", "transfer-encoding", "te"}
# What is said of clients anyway; with another value it is the file's.
_FORWARDED: Final = {
    ("x-forwarded-for", "$proxy_add_x_forwarded_for"),
    ("x-forwarded-proto", "$scheme"),
    ("x-forwarded-host", "$http_host"),
}


class Around(NamedTuple):
    """What stands around the locations of one server."""

    report: Report
    groups: Groups
    zones: Zones
    guards: Guards
    locations: tuple[Directive, ...]  # of the server, in the order of the file
    rewriting: Rewriting
    start: Mapping[str, str]  # variables that say the same for all requests to the server


class Location:
    """One location, for the requests that go one way through it: a route."""

    def __init__(self, blocks: Blocks, around: Around, match: LocationMatch, way: Way) -> None:
        self.inner = blocks  # of the location itself
        # An `if` that held has the first word, and what it does not say is the location's.
        self.blocks = blocks if way.block is None else blocks.within(way.block)
        self.around = around
        self.report = around.report
        self.groups = around.groups
        self.way = way
        self.copied: list[tuple[str, str]] = []  # fields, and those of a guard's answer
        self.known = dict(way.known)
        self.files = False  # nginx would look for one
        self.led_to = "named" in match.keys  # by an error, of which there is one
        self.route: RouteKeys = {**match.keys, "as-nginx": True}
        if way.when:
            self.route["when"] = grouped(way.when)

    def routes(self) -> Iterator[RouteKeys]:
        """What becomes of the requests; where nginx would look for a file, two routes."""
        self._fill()
        if self.files:
            tests = (*self.way.when, *_OF_FILES)
            yield self.route | {"when": grouped(tests), "respond": {"status": 405}}
        yield self.route

    def _fill(self) -> None:
        for one in self.inner.own("location"):
            raise Refusal(f"{one.place}: a location within a location: type it beside the other")
        if self.way.end is not None:
            self.route |= ended(self.way, self.blocks.first_of("default_type", ""))
            self._error_pages()
            self._response_headers()
            return
        if self.way.again:
            self._check_size()
            self.route |= {"rewrite": self.way.path, "again": True}
            return
        proxied = self._proxied()
        if proxied is not None:
            self._proxy(proxied)
        else:
            self.route["respond"] = {"status": 404}  # and none are served here
            self.files = True
        self._error_pages()
        self._guards()
        self._response_headers()

    def lead_to_slash(self) -> None:
        """Send /app to /app/: nginx does it before the location's own `set` and `if` are run."""
        self._error_pages()
        self._response_headers()

    def _check_size(self) -> None:
        """Nginx holds to the size that this location says, and then to that of the next one."""
        for one in self.inner.own("client_max_body_size"):
            if size(one.args[0]):
                text = "the location that the rewrite leads to says how much: type it in the server"
                raise Refusal(f"{one.place}: {one.text()}: {text}")

    def _proxied(self) -> Directive | None:
        own = next(self.blocks.own("proxy_pass"), None)
        return own or next(self.inner.own("proxy_pass"), None)

    def value(self, text: str) -> str:
        """A value with our variables."""
        if self.way.path is not None and CHANGED(text):
            raise Refusal(f"{text}: behind a rewrite that says what the rewrite has made")
        if self.way.overwritten and BY_NUMBER(text):
            raise Refusal(f"{text}: {_OVERWRITTEN.format('a map')}")
        return value(text, self.known, self.way.groups)

    def _proxy(self, one: Directive) -> None:
        target = Target(fixed(one.args[0], self.known))
        self.route["group"] = self.groups.name_of(target, self.blocks, one.place)
        if self.way.path is not None:
            self.route["rewrite"] = self.way.path
        elif target.path:
            self._path(target.path, "$" in one.args[0])
        self.known |= {"proxy_host": target.authority, "proxy_port": _port(target)}
        self._request_headers(target)
        self._limits()
        self._mapping(target, "$" in one.args[0])

    def _path(self, instead: str, variable: bool) -> None:
        """The URI of a `proxy_pass`: it stands in the place of what the location has matched."""
        path = self.route.get("path")
        if variable or path is None:
            raise Refusal("a URI behind variables or in a location by regex: type path-regex")
        if self.route.get("exact"):
            self.route["rewrite"] = self.value(instead)
        elif "?" in instead:
            raise Refusal(f"{instead}: the rest of the path would stand behind the query")
        else:
            self.route["replace-prefix"] = instead

    def _request_headers(self, target: Target) -> None:
        said = self.blocks.all("proxy_set_header")
        sets: dict[str, list[str]] = {}
        removed: list[str] = []
        names = {one.args[0].lower() for one in said}
        upgrade = "upgrade" in names and "connection" in names
        told = told_by(self.blocks)
        self.route["upgrades"] = ["websocket"] if upgrade else []
        for one in said:
            name, text = one.args[0], one.args[1] if len(one.args) > 1 else ""
            if text.strip("${}") in told and text.startswith("$"):
                self.copied.append((name, told[text.strip("${}")]))
            elif name.lower() in _WRITTEN_HERE or (name.lower(), text) in _FORWARDED:
                self.report.say(one, Word(HARMLESS, "written here anyway"))
            elif name.lower() == "host":
                if text not in ("$http_host",):
                    sets["Host"] = [self.value(text)]
            elif self.value(text):
                sets.setdefault(name, []).append(self.value(text))
            else:
                removed.append(name)
        if "host" not in names:
            unix = target.authority.startswith("unix:")
            sets["Host"] = ["localhost" if unix else target.authority]
        self.route["request-headers"] = _without_empty({"remove": removed, "set": _said(sets)})

    def _limits(self) -> None:
        self.route["limits"] = {"body": size(self.blocks.first_of("client_max_body_size", BODY))}
        read = self.blocks.last("proxy_read_timeout")
        if read is not None:
            wait = max(seconds(read.args[0]), 0.001)
            names = ("response-head", "response-body", "tunnel-idle")
            self.route["timeouts"] = dict.fromkeys(names, wait)
        else:
            self.route["timeouts"] = {"tunnel-idle": 60}

    def _mapping(self, target: Target, variable: bool) -> None:
        """What the upstream says of its own places."""
        self.route |= _without_empty({"map-location": self._redirects(target, variable)})
        if "replace-prefix" in self.route:
            self.route["map-back"] = False  # nginx maps what `proxy_redirect` and the like say
        for name, ours in (
            ("proxy_cookie_path", "map-cookie-path"),
            ("proxy_cookie_domain", "map-cookie-domain"),
        ):
            pairs: dict[str, str] = {}
            for one in self.blocks.all(name):
                if one.args != ("off",):
                    if ";" in one.args[1]:
                        raise Refusal(f"{one.place}: let the application set its cookies' flags")
                    origin, instead = self._pair(one.args)
                    if name == "proxy_cookie_domain" and origin.startswith("~"):
                        origin = f"~*{origin.lstrip('~*')}"  # names have no case
                    pairs.setdefault(origin, instead)
            self.route |= _without_empty({ours: pairs})

    def _redirects(self, target: Target, variable: bool) -> dict[str, str]:
        pairs: dict[str, str] = {}
        said = [one.args for one in self.blocks.all("proxy_redirect")]
        for args in said or [("default",)]:
            if args == ("off",):
                continue
            if args == ("default",):
                if not variable:
                    begins = f"{target.scheme}://{target.authority}{target.path or '/'}"
                    pairs.setdefault(begins, self.route["path"] if target.path else "/")
                continue
            pairs.setdefault(*self._pair(args))
        return pairs

    def _pair(self, args: tuple[str, ...]) -> tuple[str, str]:
        """What is replaced, and what stands instead: with variables, or with groups of its own."""
        origin, instead = args
        if not origin.startswith("~"):
            return self.value(origin), value(instead, self.known, 0)
        pattern, names = named_groups(origin)
        groups = {name: Varying(f"${{{number}}}") for name, number in names.items()}
        return pattern, value(instead, {**self.known, **groups}, 9)

    def _searched(self) -> bool:
        """Whether expressions are looked for in answers."""
        names = ("proxy_redirect", "proxy_cookie_path", "proxy_cookie_domain")
        said = [one for name in names for one in self.blocks.all(name)]
        return self.way.end is None and any(one.args[0].startswith("~") for one in said)

    def _expires(self) -> None:
        """How long answers may be kept."""
        one = self.blocks.last("expires")
        if one is not None and one.args != ("off",):
            self.route["cache-control"] = cache_control(one)

    def _response_headers(self) -> None:
        self._expires()
        said = self.blocks.all("add_header")
        told = told_by(self.blocks)
        added: dict[str, list[str]] = {}
        for one in said:
            name, text = one.args[0], one.args[1]
            if name.lower() == "strict-transport-security":
                continue  # the server's
            if text.strip("${}") in told and text.startswith("$"):
                if (name.lower(), told[text.strip("${}")]) != ("set-cookie", "set-cookie"):
                    raise Refusal(f"{one.place}: a guard's answer sets cookies here, nothing else")
                self.report.say(one, Word(HARMLESS, "a guard's cookies reach the client anyway"))
                continue
            if "always" in one.args[2:]:
                self.report.exact(one)
            if self.way.groups and BY_NUMBER(text) and self._searched():
                raise Refusal(f"{text}: {_OVERWRITTEN.format('proxy_redirect or proxy_cookie_*')}")
            text = self.value(text)
            if text:
                added.setdefault(name, []).append(text)
        hidden = [one.args[0] for one in self.blocks.all("proxy_hide_header")]
        self.route |= _without_empty(
            {"response-headers": _without_empty({"remove": hidden, "add": _said(added)})}
        )

    def _error_pages(self) -> None:
        """What is shown instead of errors."""
        of_server = self.way.end is not None and not self.inner.block
        pages = Pages(self.blocks, self.around.locations, self.report, of_server)
        self.route |= pages.keys(self.value)
        if of_server and any(test.value == "$method" for test in self.way.when):
            by_path = Pages(self.blocks, self.around.locations, self.report, of_server=False)
            check_by_get(self.way, by_path.keys(self.value))
        places = (to.rpartition(" ")[2] for to in self.route.get("error-page", {}).values())
        names = {to for to in places if to.startswith("@")}
        for one in self.around.locations if names else ():
            if one.args[-1] in names:
                page = self.inner.beside(one.block or ())
                before = self.way.path is not None and not of_server and not self.led_to
                if before and _asks_for_path(page):
                    raise Refusal(f"{one.place}: {_MADE}")
                check_named(page, self.around.start, self.way, one.place)

    # ── who may pass ────────────────────────────────────────────────────────────────────────────

    def _guards(self) -> None:
        self.route |= keys(self.blocks, self.around.zones, self.known)
        asked = self.blocks.last("auth_request")
        copied = self.copied
        if asked is None or asked.args[0] == "off":
            if copied:  # nobody says it, so what the client says of itself is cut
                edits = self.route.setdefault("request-headers", {})
                edits["remove"] = [*edits.get("remove", ()), *(name for name, _ in copied)]
            return
        facts = self._question(asked)
        same = [name for name, told in copied if name.lower().replace("_", "-") == told]
        others = {name: told for name, told in copied if name not in same}
        by_uri = {one.args[-1]: one for one in self.around.locations}
        facts |= _without_empty({"copy": same, "copy-as": others})
        facts |= sign_in(self.blocks, by_uri, self.value)
        self.route["auth"] = self.around.guards.name_of(facts, asked.args[0], asked.place)

    def _question(self, asked: Directive) -> RouteKeys:
        """The guard's table: what the location that it leads to would send."""
        uri, _, query = asked.args[0].partition("?")
        one = found_by(self.around.locations, uri)
        if one is None:
            raise Refusal(f"{asked.place}: auth_request {uri}: there is no location for it")
        match = match_of(one)
        start = way_into(match, Way(self.around.start))
        blocks = self.inner.beside(one.block or ())
        ways = self.around.rewriting.ways(one.block or (), start)
        proxied = next(blocks.own("proxy_pass"), None)
        if len(ways) != 1 or ways[0].end is not None or proxied is None:
            raise Refusal(
                f"{one.place}: a guard's location has to be a proxy_pass and nothing else"
            )
        guard = Location(blocks, self.around, match, ways[0])
        return guard.question(proxied, uri, f"?{query}" if query else "")

    def question(self, one: Directive, uri: str, query: str) -> RouteKeys:
        """The `[auth.NAME]` of a guard that is asked by this location."""
        target = Target(fixed(one.args[0], self.known))
        path = uri
        if self.way.path is not None:
            path = self.way.path
        elif target.path and "$" in one.args[0]:
            path = target.path
        elif target.path:
            path = target.path + uri[len(self.route.get("path", uri)) :]
        self.known |= {"proxy_host": target.authority, "proxy_port": _port(target)}
        self._request_headers(target)
        edits = self.route.get("request-headers", {})
        headers = dict.fromkeys(edits.get("remove", ()), "") | edits.get("set", {})
        if headers.get("Host") == "$host":
            del headers["Host"]
        wait = self.blocks.first_of("proxy_read_timeout", "60")
        group = self.groups.name_of(target, self.blocks, one.place)
        facts = {"kind": "request", "group": group, "path": path.replace("$", "$$") + query}
        return facts | {"timeout": max(seconds(wait), 0.001)} | _without_empty({"headers": headers})


def routes_of(
    blocks: Blocks, around: Around, match: LocationMatch, way: Way
) -> Iterator[RouteKeys]:
    """The routes of the requests that go this way; a named location may take them over."""
    named = taken_over(blocks, way, around.locations)
    if named is not None:
        page = blocks.beside(named.block or ())
        start = way._replace(end=None, block=None)
        ways = around.rewriting.ways(page.block, start, page.texts(OF_NO_REQUEST))
        if not any(each.again for each in ways):
            for each in ways:
                location = Location(page, around, match, each)
                location.led_to = True
                yield from _taken_over(location, blocks)
            return
    yield from Location(blocks, around, match, way).routes()


def _taken_over(location: Location, first: Blocks) -> Iterator[RouteKeys]:
    """Routes of a named location. Its errors lead nowhere: this was the error that led there."""
    for route in location.routes():
        if "limits" in route:  # nginx has looked at the length of the body before
            route["limits"] = {"body": size(first.first_of("client_max_body_size", BODY))}
        yield {key: one for key, one in route.items() if key not in ("error-page", "intercept")}


def _asks_for_path(page: Blocks) -> bool:
    """Whether it matters to a named location what the path is."""
    proxies = any(one.name == "proxy_pass" for one in page.block)
    return proxies or any(CHANGED(text) for text in page.texts(OF_NO_REQUEST))


def _said(fields: dict[str, list[str]]) -> dict[str, str | list[str]]:
    """Fields with their values; most have one."""
    return {name: texts[0] if len(texts) == 1 else texts for name, texts in fields.items()}


def _port(target: Target) -> str:
    port = target.authority.rpartition("]")[2].rpartition(":")[2]
    return port if port.isdigit() else {"http": "80", "https": "443"}[target.scheme]


def _without_empty(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in facts.items() if one}
