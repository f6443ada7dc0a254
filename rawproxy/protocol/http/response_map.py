"""Location, Refresh and Set-Cookie of a response, changed if the upstream has another path.

    back             the prefix that was cut from the request is put back: on paths, and on URLs
                     that name the upstream itself or the host that was asked for
    locations        beginnings of a Location or Refresh, as `proxy_redirect` of nginx
    cookie_paths     beginnings of Path, and
    cookie_domains   whole values of Domain in Set-Cookie, whether or not a dot stands before them

The first pair that fits counts, before `back`. If a path has the prefix already, it stays: the
application has read X-Forwarded-Prefix. This module never changes another field. Invariants: the
bytes of what does not fit stay as they are. A value names another host than before only by a pair
that the admin has typed. Nothing raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from rawproxy.protocol.http.path_change import PathChange

Pairs = Sequence[tuple[str, str]]
_ENDS: Final = frozenset((b"", b"/", b"?", b"#"))  # of a segment
_FIELDS: Final = re.compile(rb"(?:^|\r\n)(?:location|refresh|set-cookie):", re.I).search
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)(.*)", re.I | re.S).fullmatch
_REFRESH: Final = re.compile(rb"([0-9.]+[ \t]*[;,][ \t]*url[ \t]*=[ \t]*)(.*)", re.I).fullmatch


class ResponseMap:
    """What one route changes in the paths and names of its upstream."""

    __slots__ = ("_authorities", "_change", "_cookie_domains", "_cookie_paths", "_locations")

    def __init__(
        self,
        change: PathChange | None,
        authorities: Sequence[str],
        pairs: tuple[Pairs, Pairs, Pairs],
    ) -> None:
        self._change = change  # what is taken back; None: nothing is
        self._authorities = frozenset(one.lower().encode() for one in authorities)
        self._locations, self._cookie_paths, self._cookie_domains = map(_encoded, pairs)

    def of(self, block: bytes, host: bytes) -> bytes:
        """The block of a response to a request for `host`."""
        if not _FIELDS(block):
            return block
        lines = block.split(b"\r\n")
        for at, line in enumerate(lines):
            name, colon, value = line.partition(b":")
            change = self._change_of(name.lower())
            if change is None:
                continue
            said = value.strip()
            changed = change(said, host)
            if changed != said:
                lines[at] = name + colon + b" " + changed
        return b"\r\n".join(lines)

    def _change_of(self, name: bytes) -> Callable[[bytes, bytes], bytes] | None:
        if name == b"location":
            return self._location
        if name == b"refresh":
            return self._refresh
        return self._cookie if name == b"set-cookie" else None

    def _location(self, value: bytes, host: bytes) -> bytes:
        for origin, instead in self._locations:
            if value.startswith(origin):
                return instead + value[len(origin) :]
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

    def _refresh(self, value: bytes, host: bytes) -> bytes:
        match = _REFRESH(value)
        return match[1] + self._location(match[2], host) if match else value

    def _path(self, path: bytes) -> bytes:
        """The path as the client has to ask for it."""
        change = self._change
        if change is None or not _under(path, change.instead):
            return path
        if change.prefix and _under(path, change.prefix):
            return path
        return change.prefix + path[len(change.instead) :]

    def _cookie(self, value: bytes, _: bytes) -> bytes:
        parts = value.split(b";")
        for at, part in enumerate(parts[1:], 1):
            begin, _equals, what = part.partition(b"=")
            name, what = begin.strip().lower(), what.strip()
            if name == b"path":
                path = self._cookie_path(what)
                if path != what:
                    parts[at] = begin + b"=" + path
            elif name == b"domain":
                for origin, instead in self._cookie_domains:
                    dot = b"." if what.startswith(b".") else b""  # it stays, as in nginx
                    if what[len(dot) :].lower() == origin.removeprefix(b".").lower():
                        parts[at] = begin + b"=" + dot + instead.removeprefix(b".")
                        break
        return b";".join(parts)

    def _cookie_path(self, path: bytes) -> bytes:
        for origin, instead in self._cookie_paths:
            if path.startswith(origin):
                return instead + path[len(origin) :]
        return self._path(path) if path.startswith(b"/") else path


def _under(path: bytes, prefix: bytes) -> bool:
    """Whether `path` is `prefix`, or is below it by whole segments."""
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in _ENDS


def _encoded(pairs: Pairs) -> list[tuple[bytes, bytes]]:
    return [(origin.encode(), instead.encode()) for origin, instead in pairs]
