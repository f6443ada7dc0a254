r"""Finds the site by Host, and then the route by path.

Sites: the exact name comes first, then the wildcard that stands for its first label (letters,
digits and hyphens), then `**.name`, which stands for any number of them, the longest name first,
then the first regular expression that matches (`~RE`), then the site without names.

Routes: those with `first = true` come before all others, in their order (`early`). Then an exact
path comes. Then the `path-regex` routes are tried in their order, as in nginx. Then the longest
path wins that the request's path begins with, by whole segments: `/app` serves `/app` and `/app/x`,
never `/apple`; `/app/` serves only `/app/` and what is below it. If that longest path says so, it
comes before the regular expressions. Routes of one path that differ in their `when` are one here:
`conditions` chooses among them.

Paths are compared as they came, byte by byte (so case matters), without the query. Servers
differ in what else they take for the same path (RFC 3986 6.2.2): `%61` for `a`, `//` for `/`, `%2F`
or `\` for `/`, `a;x` for `a`. Some cut off `a%00x`, `a%23x` or `a%3Fx`, where a string, a path or
its fragment ends. Some file systems take `a%20` or `a.` for `a`. If such a reading would lead to
another route, the request is refused (400), so that nobody gets past a route by spelling its path
in another way. If all readings lead to the same route, the path goes on as it came. A path with a
dot segment is refused: clients have to remove these (RFC 3986 5.2.4). If a site serves all paths
alike, no path is looked at, but for what nginx cannot read: that is refused where a route says so.

This module never changes a path. Invariant: any server that reads a path in one of these ways would
give the request the same route. Raises `ClientError` 400, 404 or 421.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, Generic, NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes

from rawproxy.config.path_regex import PathRegex, PathRegexes, path_regex
from rawproxy.errors import ClientError
from rawproxy.protocol import regex
from rawproxy.protocol.http.target import split_host

T = TypeVar("T")

_SLASHES: Final = re.compile(rb"//+").sub
_PARAMETER: Final = re.compile(rb";[^/]*").sub
_BLANKS: Final = bytes(range(33))  # what servers trim, and the NUL that ends a C string
_END: Final = re.compile(rb"[\0#?].*", re.DOTALL).sub
_LABEL: Final = re.compile(rb"[a-z0-9-]+").fullmatch
_LABELS: Final = re.compile(rb"[a-z0-9-]+(?:\.[a-z0-9-]+)*").fullmatch
# Verdicts on odd paths that are remembered: HTTP/2 can repeat one at the cost of a byte.
_KNOWN: Final = 64
# Where a query begins, or a sign that servers read in several ways; the first one in a target.
_SIGN: Final = regex.first_of(rb"\?|[%;\\]|/(?=[/.])|\.(?=[/?]|(?![\s\S]))")
_QUERY: Final = 63  # ?
_DOT: Final = 46
_PERCENT: Final = 37
_BACKSLASH: Final = 92
_DOT_SEGMENT: Final = "a dot segment in the path; leave it out (RFC 3986 5.2.4)"
_DOUBTFUL: Final = "the path can be read in several ways, for several routes"
_DOTS: Final = re.compile(rb"[/\\]\.\.?(?:[/\\;]|\Z)").search
_NO_ESCAPE: Final = re.compile(rb"%(?:00|(?![0-9A-Fa-f]{2}))").search
_UNREADABLE: Final = "%00, a % that escapes nothing, or a way above the root in the path"
_UNRESERVED: Final = re.compile(
    rb"%(2[DdEe]|3[0-9]|4[1-9A-Fa-f]|5[0-9AaFf]|6[1-9A-Fa-f]|7[0-9AaEe])"
).sub


class RouteEntry(NamedTuple, Generic[T]):
    """One route of a site, and what it leads to."""

    path: bytes
    exact: bool
    value: T
    regex: PathRegex | None = None  # instead of `path`
    before_regex: bool = False
    partial: bool = False  # it serves all paths that begin so, as in nginx
    first: bool = False  # asked before all that are not
    as_nginx: bool = False  # what nginx cannot read is refused
    whole: bool = True  # the upstream sees the path as it came, so dot segments do not matter here


class _Regexes(Generic[T]):
    """The `path-regex` routes of a site, in their order."""

    __slots__ = ("_first", "_values")

    def __init__(self, entries: Sequence[RouteEntry[T]]) -> None:
        found = [(one.regex, one.value) for one in entries if one.regex is not None]
        self._first = PathRegexes([regex for regex, _ in found]).first
        self._values = [value for _, value in found]

    def find(self, path: bytes) -> T | None:
        number = self._first(path)
        return None if number < 0 else self._values[number]


class Routes(Generic[T]):
    """The routes of one site."""

    __slots__ = (
        "_begins", "_early", "_exact", "_first", "_heads", "_known", "_only", "_prefixes",
        "_regexes", "_rest", "_second", "_strict", "conditional",
    )  # fmt: skip

    def __init__(self, entries: Sequence[RouteEntry[T]], *, conditional: bool = False) -> None:
        # Whether more than the path decides: then `early` comes before `find`.
        self.conditional = conditional
        self._strict = any(one.as_nginx for one in entries)
        self._early = [one for one in entries if one.first]
        entries = [one for one in entries if not one.first]
        plain = [one for one in entries if one.regex is None]
        self._exact = {one.path: one.value for one in plain if one.exact}
        self._prefixes = {one.path: one.value for one in plain if not one.exact}
        self._first = {one.path for one in plain if one.before_regex}
        self._regexes = _Regexes(entries) if len(plain) < len(entries) else None
        longest = sorted(self._prefixes, key=len, reverse=True)
        # One alternation, the longest path first. A whole segment ends where the next one begins.
        loose = {one.path for one in plain if one.partial}
        ends = [b"" if path.endswith(b"/") or path in loose else rb"(?=/|\Z)" for path in longest]
        pattern = b"|".join(re.escape(path) + end for path, end in zip(longest, ends, strict=True))
        self._begins = re.compile(pattern or rb"(?!)", re.DOTALL).match
        # With what the paths of all routes but `/` begin, up to their second slash, where they are
        # whole segments. A path that begins with none of these needs no search. None: it may.
        self._heads: frozenset[bytes] | None = None
        self._rest = self._prefixes.get(b"/")
        self._second = b""  # of each sign whether one of them has it behind its first slash
        others = [one for one in plain if one.exact or one.path != b"/"]
        if self._regexes is None and all(
            one.path.startswith(b"/") and (one.path not in loose or b"/" in one.path[1:])
            for one in others
        ):
            self._heads = frozenset(_head(one.path) for one in others)
            signs = {head[1:2] or b"/" for head in self._heads}
            self._second = bytes(bytes((sign,)) in signs for sign in range(256))
        self._known: dict[bytes, str] = {}  # what is wrong with odd paths, or nothing
        # If all paths lead to the same place, none is looked at.
        single = len(entries) == 1 and b"/" in self._prefixes and entries[0].whole
        self._only: T | None = entries[0].value if single else None

    def find(self, target: bytes) -> T:
        """What the route for `target` leads to. `target` is in origin form, or `*`."""
        if self._only is not None:
            if self._strict and unreadable(path_of(target)):
                raise ClientError(_UNREADABLE)
            return self._only
        plain = _plain_path(target)
        path = path_of(target) if plain is None else plain
        value = self._match(path)
        if plain is None:
            wrong = self._known.get(path)
            if wrong is None:
                if len(self._known) >= _KNOWN:
                    self._known.clear()
                wrong = self._known[path] = self._doubt(path, value)
            if wrong:
                raise ClientError(wrong)
        if value is None:
            raise ClientError("no route for this path", 404)
        return value

    def early(self, target: bytes) -> list[T]:
        """What the routes with `first` lead to whose paths fit, in their order."""
        path = path_of(target)
        if self._strict and unreadable(path):
            raise ClientError(_UNREADABLE)
        found = self._early_of(path)
        if _odd(path) and not all(_fits_all(one) for one in self._early):
            for reading in readings(path):
                if _DOTS(reading):
                    raise ClientError(_DOT_SEGMENT)
                if self._early_of(reading) != found:
                    raise ClientError(_DOUBTFUL)
        return found

    def _early_of(self, path: bytes) -> list[T]:
        return [one.value for one in self._early if _fits(one, path)]

    def _match(self, path: bytes) -> T | None:
        heads = self._heads
        if heads is not None:
            # Most differ in their second sign, which takes a fiftieth of the instructions.
            if len(path) > 1 and not self._second[path[1]]:
                return self._rest
            if _head(path) not in heads:
                return self._rest
        value = self._exact.get(path)
        if value is not None:
            return value
        match = self._begins(path)
        if self._regexes is not None and (match is None or match[0] not in self._first):
            value = self._regexes.find(path)
            if value is not None:
                return value
        return None if match is None else self._prefixes[match[0]]

    def _doubt(self, path: bytes, value: T | None) -> str:
        """What is wrong with an odd path; empty if all of its readings lead to the same route."""
        if self._strict and unreadable(path):
            return _UNREADABLE
        for reading in readings(path):
            if _DOTS(reading):
                return _DOT_SEGMENT
            if self._match(reading) is not value:
                return _DOUBTFUL
        return ""


def _head(path: bytes) -> bytes:
    """A path up to its second slash, if it has one."""
    at = path.find(b"/", 1)
    return path if at < 0 else path[:at]


def _fits(entry: RouteEntry[T], path: bytes) -> bool:
    """Whether the path of one route serves `path`."""
    if entry.regex is not None:
        return entry.regex.captures(path) is not None
    own = entry.path
    if entry.exact or path == own:
        return path == own
    return path.startswith(own if entry.partial or own.endswith(b"/") else own + b"/")


def _fits_all(entry: RouteEntry[T]) -> bool:
    return entry.path == b"/" and entry.regex is None and not entry.exact


def path_of(target: bytes) -> bytes:
    """The part of `target` that decides the route."""
    at = target.find(b"?")
    path = target if at < 0 else target[:at]
    return b"/" if path == b"*" else path  # OPTIONS * asks about the server (RFC 9110 9.3.7)


def has_dots(target: bytes) -> bool:
    """Whether anybody could read a dot segment in the path, and take it for another one."""
    # Where nothing is escaped, a dot segment is a dot behind a slash of either kind. (Not `in`: it
    # raises and drops an error before it looks for more than one sign.)
    slashed = _DOT in target and (target.find(b"/.") >= 0 or _BACKSLASH in target)
    if not slashed and _PERCENT not in target:
        return False
    return _plain_path(target) is None and any(map(_DOTS, readings(path_of(target))))


def _odd(path: bytes) -> bool:
    """Whether there may be several readings of `path`. Most have one, and are asked no more."""
    return _SIGN(path, 0) is not None


def _plain_path(target: bytes) -> bytes | None:
    """The path of a target, found by one search; None: there may be several readings of it."""
    found = _SIGN(target, 0)
    if found is None:
        return b"/" if target == b"*" else target
    at: int = found[0] - 1
    return target[:at] if target[at] == _QUERY else None


def unreadable(path: bytes) -> bool:
    """Whether nginx refuses `path`: for an escape that is none, %00, or a way above the root."""
    if b"%" in path and _NO_ESCAPE(path):
        return True
    if b".." not in path and b"%" not in path:
        return False
    depth = 0
    for segment in _SLASHES(b"/", unquote_to_bytes(path)).split(b"/")[1:]:
        depth += -1 if segment == b".." else segment not in (b"", b".")
        if depth < 0:
            return True
    return False


def readings(path: bytes) -> Iterator[bytes]:
    """What servers may take `path` for, as the module's docstring lists it. Some come twice."""
    once = unquote_to_bytes(path)
    decoded = dict.fromkeys((path, _UNRESERVED(_character, path), once, unquote_to_bytes(once)))
    for plain in dict.fromkeys((*decoded, *(_END(b"", one) for one in decoded))):
        for same in dict.fromkeys((plain, plain.replace(b"\\", b"/"))):
            for bare in dict.fromkeys((same, _PARAMETER(b"", same))):
                for trimmed in dict.fromkeys((bare, _trimmed(bare))):
                    yield trimmed
                    yield _SLASHES(b"/", trimmed)


def _trimmed(path: bytes) -> bytes:
    """The path without blanks around its segments and dots behind them.

    Dot segments have been refused before.
    """
    segments = path.split(b"/")
    return b"/".join([one.strip(_BLANKS).rstrip(_BLANKS + b".") for one in segments])


def _character(match: re.Match[bytes]) -> bytes:
    return bytes((int(match[1], 16),))


class Sites(Generic[T]):
    """All sites that one listener serves."""

    __slots__ = ("_deep", "_default", "_exact", "_first", "_lone", "_patterns", "_wildcards")

    def __init__(self, sites: Sequence[tuple[Sequence[str], Routes[T]]] = ()) -> None:
        self._exact: dict[bytes, Routes[T]] = {}
        self._wildcards: dict[bytes, Routes[T]] = {}  # by what stands behind the label
        self._deep: dict[bytes, Routes[T]] = {}  # likewise, behind any number of labels
        self._patterns: list[tuple[PathRegex, Routes[T]]] = []  # in the order of the sites
        self._default: Routes[T] | None = None
        # A listener without sites serves nobody: 421, whatever the name is.
        self._first: Routes[T] | None = None
        self._lone: Routes[T] | None = None  # of the site without names, while there is no other
        for names, routes in sites:
            self.add(names, routes)

    def add(self, names: Sequence[str], routes: Routes[T]) -> None:
        """One more site. Called before the first request comes."""
        if self._first is None:
            self._first = routes
        for name in names:
            if name.startswith("**."):
                self._deep[name[3:].encode()] = routes
            elif name.startswith("*."):
                self._wildcards[name[2:].encode()] = routes
            elif name.startswith("~"):
                self._patterns.append((path_regex(name[1:]), routes))
            else:
                self._exact[name.encode()] = routes
        if not names:
            self._default = routes
        named = self._exact or self._wildcards or self._deep or self._patterns
        self._lone = None if named else self._default

    def find(self, host: bytes, target: bytes) -> T:
        """What a request leads to, if nothing but name and path decides."""
        return self.routes(host).find(target)

    def routes(self, host: bytes) -> Routes[T]:
        """The routes of the site for `host`. Raises `ClientError` 421 if there is none.

        Without a `host` (only in HTTP/1.0) the first site serves.
        """
        if self._lone is not None:
            return self._lone
        return self._exact.get(host) or self._search(host)

    def _matched(self, name: bytes) -> Routes[T] | None:
        """The first site with an expression that matches."""
        for expression, routes in self._patterns:
            if expression.captures(name) is not None:
                return routes
        return None

    def _search(self, host: bytes) -> Routes[T]:
        name = split_host(host)[0].lower().removesuffix(b".")
        routes = self._exact.get(name)
        if routes is None:
            label, _, rest = name.partition(b".")
            routes = self._wildcards.get(rest) if _LABEL(label) else None
            if routes is None and self._deep:
                routes = self._below(name)
            routes = routes or self._matched(name) or self._default
            if routes is None and not host:
                routes = self._first
        if routes is None:
            raise ClientError(f"no site is called {host.decode('latin-1')}", 421)
        return routes

    def _below(self, name: bytes) -> Routes[T] | None:
        """The routes of the longest `**.` that `name` is below."""
        at = name.find(b".")
        while at >= 0:
            routes = self._deep.get(name[at + 1 :])
            if routes is not None:
                return routes if _LABELS(name[:at]) else None
            at = name.find(b".", at + 1)
        return None
