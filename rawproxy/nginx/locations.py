"""`location` blocks as routes.

    location = /x       exact               location ~ RE    path-regex
    location ^~ /x      before-regex        location ~* RE   path-regex, (?i)
    location /x         partial: /x, /x/y and /xy, as nginx compares

It never makes a group or a site. Invariant: a route has everything that nginx would do with a
request that reaches the location, or the location is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from rawproxy.nginx.reading import Directive
from rawproxy.nginx.report import Report
from rawproxy.nginx.scope import Blocks
from rawproxy.nginx.upstreams import Groups, Target
from rawproxy.nginx.values import Refusal, fixed, named_groups, seconds, size, value
from rawproxy.nginx.words import HARMLESS, Word

RouteKeys = dict[str, Any]
BODY: Final = "1m"  # client_max_body_size where nobody says it
_REDIRECTS: Final = (301, 302, 307, 308)
_WRITTEN_HERE: Final = {"upgrade", "connection", "content-length", "transfer-encoding", "te"}
# What is said of clients anyway; with another value it is the file's.
_FORWARDED: Final = {
    ("x-forwarded-for", "$proxy_add_x_forwarded_for"),
    ("x-forwarded-proto", "$scheme"),
    ("x-forwarded-host", "$http_host"),
}
_OFF_REWRITE: Final = re.compile(r"\^(/.*?)(\(/?\.\*\)|/\(\.\*\))\$?").fullmatch


class Location:
    """One location, on its way to be a route."""

    def __init__(self, blocks: Blocks, report: Report, groups: Groups, known: Mapping[str, str]):
        self.blocks = blocks
        self.report = report
        self.groups = groups
        self.known = dict(known)
        self.captures = 0
        self.route: RouteKeys = {}

    def match(self, one: Directive) -> None:
        """The keys by which requests find the route."""
        kind, pattern = one.args if len(one.args) == 2 else ("", one.args[0])
        if kind in ("~", "~*"):
            pattern, names = named_groups(pattern)
            self.captures = _groups(pattern)
            self.known |= {name: f"\0{number}" for name, number in names.items()}
            self.route["path-regex"] = ("(?i)" if kind == "~*" else "") + pattern
            return
        if pattern.startswith("@"):
            raise Refusal("named locations are for internal redirects, and there are none here")
        self.route["path"] = pattern
        if kind == "=":
            self.route["exact"] = True
            return
        if not pattern.endswith("/"):
            self.route["partial"] = True
        if kind == "^~":
            self.route["before-regex"] = True

    def fill(self) -> None:
        """What becomes of the requests."""
        for one in self.blocks.own("if", "location"):
            raise Refusal(f"{one.place}: {one.name} within a location: type a location of its own")
        proxied = next(self.blocks.own("proxy_pass"), None)
        returned = next(self.blocks.own("return"), None)
        if returned is not None:
            self.route |= answer(returned, self.value, self.blocks.first_of("default_type", ""))
        elif proxied is not None:
            self._proxy(proxied)
        else:
            self.route["respond"] = {"status": 404}
        self._response_headers()

    def value(self, text: str) -> str:
        """A value with our variables."""
        made = value(text, self.known, self.captures)
        return re.sub("\0([1-9])", r"${\1}", made)  # of a named group

    def _proxy(self, one: Directive) -> None:
        for said in self.blocks.own("set"):
            self._set(said)
        target = Target(fixed(one.args[0], self.known))
        self.route["group"] = self.groups.name_of(target, self.blocks, one.place)
        if target.path:
            self._path(target.path, "$" in one.args[0])
        rewrite = next(self.blocks.own("rewrite"), None)
        if rewrite is not None:
            self._rewrite(rewrite)
        self.known |= {"proxy_host": target.authority, "proxy_port": _port(target)}
        self._request_headers(target)
        self._limits()
        self._mapping(target)

    def _set(self, one: Directive) -> None:
        try:
            self.known[one.args[0].removeprefix("$")] = fixed(one.args[1], self.known)
        except Refusal as error:
            self.report.refuse(one, str(error))

    def _path(self, instead: str, variable: bool) -> None:
        """The URI of a `proxy_pass`: it stands in the place of what the location has matched."""
        path = self.route.get("path")
        if variable or path is None:
            raise Refusal("a URI behind variables or in a location by regex: type path-regex")
        if self.route.get("exact"):
            self.route["rewrite"] = self.value(instead)
        elif path.endswith("/") == instead.endswith("/"):
            self.route["replace-prefix"] = instead
        else:
            raise Refusal(
                f"{path} would become {instead} without the slash between: end both with a slash,"
                " or neither"
            )

    def _rewrite(self, one: Directive) -> None:
        """The idiom that takes a prefix off: `rewrite ^/app/(.*)$ /$1 break`."""
        path = str(self.route.get("path", ""))
        match = _OFF_REWRITE(one.args[0]) if len(one.args) == 3 and one.args[2] == "break" else None
        if match is None or not path.endswith("/") or "replace-prefix" in self.route:
            return
        prefix = match[1] + ("/" if match[2].startswith("/(") else "")
        slash = "" if match[2] != "(/.*)" else "/"
        into, _, rest = one.args[1].rpartition("$1")
        if prefix + slash == path and rest == "" and (into + slash).endswith("/"):
            self.route["replace-prefix"] = into + slash
            self.report.exact(one)

    def _request_headers(self, target: Target) -> None:
        said = self.blocks.all("proxy_set_header")
        sets: dict[str, str] = {}
        removed: list[str] = []
        names = {one.args[0].lower() for one in said}
        upgrade = "upgrade" in names and "connection" in names
        self.route["upgrades"] = ["websocket"] if upgrade else []
        for one in said:
            name, text = one.args[0], one.args[1] if len(one.args) > 1 else ""
            if name.lower() in _WRITTEN_HERE or (name.lower(), text) in _FORWARDED:
                self.report.say(one, Word(HARMLESS, "written here anyway"))
            elif name.lower() == "host":
                if text not in ("$http_host",):
                    sets["Host"] = self.value(text)
            elif text:
                sets[name] = self.value(text)
            else:
                removed.append(name)
        if "host" not in names:
            sets["Host"] = (
                target.authority if not target.authority.startswith("unix:") else "localhost"
            )
        self.route["request-headers"] = _without_empty({"remove": removed, "set": sets})

    def _limits(self) -> None:
        self.route["limits"] = {"body": size(self.blocks.first_of("client_max_body_size", BODY))}
        read = self.blocks.last("proxy_read_timeout")
        if read is not None:
            wait = max(seconds(read.args[0]), 0.001)
            names = ("response-head", "response-body", "tunnel-idle")
            self.route["timeouts"] = dict.fromkeys(names, wait)
        else:
            self.route["timeouts"] = {"tunnel-idle": 60}

    def _mapping(self, target: Target) -> None:
        """What the upstream says of its own places."""
        self.route |= _without_empty({"map-location": self._redirects(target)})
        if "replace-prefix" in self.route:
            self.route["map-back"] = False  # nginx maps what `proxy_redirect` and the like say
        for name, ours in (
            ("proxy_cookie_path", "map-cookie-path"),
            ("proxy_cookie_domain", "map-cookie-domain"),
        ):
            pairs = {}
            for one in self.blocks.all(name):
                if one.args != ("off",):
                    pairs[_plain(one.args[0])] = _plain(one.args[1])
            self.route |= _without_empty({ours: pairs})

    def _redirects(self, target: Target) -> dict[str, str]:
        pairs = {}
        said = [one.args for one in self.blocks.all("proxy_redirect")]
        for args in said or [("default",)]:
            if args == ("off",):
                continue
            if args == ("default",):
                path = self.route.get("path")
                if path is not None and not self.route.get("exact") and "$" not in target.authority:
                    begins = f"{target.scheme}://{target.authority}{target.path or path}"
                    pairs[begins] = path
                continue
            pairs[_plain(args[0])] = _plain(args[1])
        return pairs

    def _response_headers(self) -> None:
        said = self.blocks.all("add_header")
        added: dict[str, Any] = {}
        for one in said:
            name, text = one.args[0], self.value(one.args[1])
            if name.lower() == "strict-transport-security":
                continue  # the server's
            if "always" in one.args[2:]:
                self.report.exact(one)
            added[name] = text if name not in added else [added[name], text]
        hidden = [one.args[0] for one in self.blocks.all("proxy_hide_header")]
        self.route |= _without_empty(
            {"response-headers": _without_empty({"remove": hidden, "add": added})}
        )


def answer(one: Directive, value_of: Any, kind: str) -> RouteKeys:
    """A `return` as the keys of a route."""
    status, text = (int(one.args[0]), one.args[1:]) if one.args[0].isdigit() else (302, one.args)
    if status == 444:
        raise Refusal("a connection is not cut without an answer here; type return 403")
    if status in (303,):
        raise Refusal("303 is not sent here; type 302")
    if status in _REDIRECTS and text:
        return {"redirect": value_of(text[0]), "status": status}
    facts: dict[str, Any] = {"status": status}
    if text:
        facts |= {"body": value_of(text[0]), "type": kind or "text/plain"}
    return {"respond": facts}


def slash_redirect(route: RouteKeys) -> RouteKeys | None:
    """Nginx sends /app to /app/ where only the latter is a location that proxies."""
    path = route.get("path", "/")
    if "group" not in route or path == "/" or not path.endswith("/") or route.get("exact"):
        return None
    moved = {
        "path": path[:-1],
        "exact": True,
        "redirect": f"$scheme://$http_host{path}$is_args$args",
        "status": 301,
    }
    added = route.get("response-headers", {}).get("add")
    return moved | ({"response-headers": {"add": added}} if added else {})


def _groups(pattern: str) -> int:
    try:
        return min(9, re.compile(pattern).groups)
    except re.error:
        return 9  # the loader of ours will say what is wrong with it


def _plain(text: str) -> str:
    if text.startswith("~") or "$" in text:
        raise Refusal(f"{text}: only plain beginnings are mapped here")
    return text


def _port(target: Target) -> str:
    port = target.authority.rpartition("]")[2].rpartition(":")[2]
    return port if port.isdigit() else {"http": "80", "https": "443"}[target.scheme]


def _without_empty(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in facts.items() if one}
