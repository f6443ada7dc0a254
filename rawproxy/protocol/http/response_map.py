"""Location, Refresh and Set-Cookie of a response, changed if the upstream has another path.

    back             the prefix that was cut from the request is put back: on paths, and on URLs
                     that name the upstream itself or the host that was asked for
    locations        beginnings of a Location or Refresh, as `proxy_redirect` of nginx
    cookie_paths     beginnings of Path, and
    cookie_domains   whole values of Domain in Set-Cookie, whether or not a dot stands before them
    cache            what Cache-Control is where a request succeeds, as `expires` of nginx

In pairs, what stands instead may have variables; what is replaced may be a regular expression
(`~RE`, `~*RE` for any case), which replaces the whole value. The first pair that fits counts,
before `back`. If a path has the prefix already, it stays: the application has read
X-Forwarded-Prefix. This module never changes another field. Invariants: the bytes of what does not
fit stay as they are. A value names another host than before only by a pair that the admin has
typed. Nothing raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from rawproxy.config.path_regex import PathRegex, path_regex
from rawproxy.protocol.http.path_change import PathChange
from rawproxy.protocol.http.rewrite import without
from rawproxy.protocol.http.variable_values import Asked, Value

Pairs = Sequence[tuple[str, str]]
_ENDS: Final = frozenset((b"", b"/", b"?", b"#"))  # of a segment
_FIELDS: Final = re.compile(rb"(?:^|\r\n)(?:location|refresh|set-cookie):", re.I).search
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)(.*)", re.I | re.S).fullmatch
_REFRESH: Final = re.compile(rb"([0-9.]+[ \t]*[;,][ \t]*url[ \t]*=[ \t]*)(.*)", re.I).fullmatch
# Where nginx says how long an answer may be kept.
CACHED: Final = frozenset((200, 201, 204, 206, 301, 302, 303, 304, 307, 308))
_OF_CACHES: Final = (b"cache-control", b"expires")


class MappedPair:
    """One pair: what is replaced, and what stands instead."""

    __slots__ = ("fixed", "instead", "origin", "regex")

    def __init__(self, origin: str, instead: str) -> None:
        self.regex: PathRegex | None = None
        if origin.startswith("~"):
            any_case = origin.startswith("~*")
            self.regex = path_regex(f"(?i){origin[2:]}" if any_case else origin[1:])
        made = Value(origin) if self.regex is None else None
        self.origin = made
        self.instead = Value(instead)
        # Whether it is the same for all requests.
        self.fixed = made is not None and made.fixed is not None and self.instead.fixed is not None

    def begin(self, asked: Asked | None) -> bytes:
        """What is replaced, if it is no expression."""
        assert self.origin is not None
        return _text(self.origin, asked)

    def whole(self, value: bytes, asked: Asked | None) -> bytes | None:
        """What stands in the place of a value that the expression finds something in."""
        if self.regex is None or asked is None:
            return None
        groups = self.regex.captures(value)
        return None if groups is None else _text(self.instead, asked.matched(groups))


def _text(value: Value, asked: Asked | None) -> bytes:
    if value.fixed is not None:
        return value.fixed
    assert asked is not None
    return value.url_of(asked)


class AskedMap:
    """The map of a route whose pairs have variables, for one request."""

    __slots__ = ("_asked", "_map")

    def __init__(self, response_map: ResponseMap, asked: Asked) -> None:
        self._map = response_map
        self._asked = asked

    def of(self, block: bytes, host: bytes, status: int) -> bytes:
        """As `ResponseMap.of`."""
        return self._map.changed(block, host, status, self._asked)


class ResponseMap:
    """What one route changes in the paths and names of its upstream."""

    __slots__ = (
        "_authorities", "_cache", "_change", "_cookie_domains", "_cookie_paths", "_locations",
        "fixed",
    )  # fmt: skip

    def __init__(
        self,
        change: PathChange | None,
        authorities: Sequence[str],
        pairs: tuple[Pairs, Pairs, Pairs],
        cache: str | None = None,
    ) -> None:
        self._change = change  # what is taken back; None: nothing is
        self._authorities = frozenset(one.lower().encode() for one in authorities)
        made = [[MappedPair(*pair) for pair in several] for several in pairs]
        self._locations, self._cookie_paths, self._cookie_domains = made
        self._cache = b"" if cache is None else b"Cache-Control: %b\r\n" % cache.encode()
        # Whether it is the same for all requests; else `AskedMap` has the request.
        self.fixed = all(pair.fixed for several in made for pair in several)

    def of(self, block: bytes, host: bytes, status: int) -> bytes:
        """The block of a response to a request for `host`."""
        return self.changed(block, host, status, None)

    def changed(self, block: bytes, host: bytes, status: int, asked: Asked | None) -> bytes:
        """The same for one request."""
        if self._cache and status in CACHED:
            block = without(block, _OF_CACHES) + self._cache
        if not _FIELDS(block):
            return block
        lines = block.split(b"\r\n")
        for at, line in enumerate(lines):
            name, colon, value = line.partition(b":")
            change = self._change_of(name.lower())
            if change is None:
                continue
            said = value.strip()
            changed = change(said, host, asked)
            if changed != said:
                lines[at] = name + colon + b" " + changed
        return b"\r\n".join(lines)

    def _change_of(self, name: bytes) -> Callable[[bytes, bytes, Asked | None], bytes] | None:
        if name == b"location":
            return self._location
        if name == b"refresh":
            return self._refresh
        return self._cookie if name == b"set-cookie" else None

    def _location(self, value: bytes, host: bytes, asked: Asked | None) -> bytes:
        mapped = _mapped(self._locations, value, asked)
        if mapped is not None:
            return mapped
        match = _ABSOLUTE(value)
        if match is None:
            return self._path(value) if value.startswith(b"/") and value[1:2] != b"/" else value
        if self._change is None:
            return value
        authority, path = match[1].lower(), match[2] or b"/"
        ours = self._path(path)
        if authority == host.lower():
            return value if ours == path else value[: match.start(2)] + ours
        return ours if authority in self._authorities else value

    def _refresh(self, value: bytes, host: bytes, asked: Asked | None) -> bytes:
        match = _REFRESH(value)
        return match[1] + self._location(match[2], host, asked) if match else value

    def _path(self, path: bytes) -> bytes:
        """The path as the client has to ask for it."""
        change = self._change
        if change is None or not _under(path, change.instead):
            return path
        if change.prefix and _under(path, change.prefix):
            return path
        return change.prefix + path[len(change.instead) :]

    def _cookie(self, value: bytes, _: bytes, asked: Asked | None) -> bytes:
        parts = value.split(b";")
        for at, part in enumerate(parts[1:], 1):
            begin, _equals, what = part.partition(b"=")
            name, what = begin.strip().lower(), what.strip()
            if name == b"path":
                path = self._cookie_path(what, asked)
                if path != what:
                    parts[at] = begin + b"=" + path
            elif name == b"domain":
                domain = self._cookie_domain(what, asked)
                if domain is not None:
                    parts[at] = begin + b"=" + domain
        return b";".join(parts)

    def _cookie_path(self, path: bytes, asked: Asked | None) -> bytes:
        mapped = _mapped(self._cookie_paths, path, asked)
        if mapped is not None:
            return mapped.replace(b";", b"%3B")
        return self._path(path) if path.startswith(b"/") else path

    def _cookie_domain(self, domain: bytes, asked: Asked | None) -> bytes | None:
        for pair in self._cookie_domains:
            if pair.regex is not None:
                whole = pair.whole(domain, asked)
                if whole is not None:
                    return whole.replace(b";", b"%3B")
                continue
            dot = b"." if domain.startswith(b".") else b""  # it stays, as in nginx
            if domain[len(dot) :].lower() == pair.begin(asked).removeprefix(b".").lower():
                return dot + _text(pair.instead, asked).removeprefix(b".").replace(b";", b"%3B")
        return None


def _mapped(pairs: Sequence[MappedPair], value: bytes, asked: Asked | None) -> bytes | None:
    """The value by the first pair that fits; None: there is none."""
    for pair in pairs:
        if pair.regex is not None:
            whole = pair.whole(value, asked)
            if whole is not None:
                return whole
            continue
        begin = pair.begin(asked)
        if value.startswith(begin):
            return _text(pair.instead, asked) + value[len(begin) :]
    return None


def _under(path: bytes, prefix: bytes) -> bool:
    """Whether `path` is `prefix`, or is below it by whole segments."""
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in _ENDS
