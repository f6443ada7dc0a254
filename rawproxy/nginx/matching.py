"""Which requests a `location` is for, and which location a path leads to.

    location = /x       exact               location ~ RE    path-regex
    location ^~ /x      before-regex        location ~* RE   path-regex, (?i)
    location /x         partial: /x, /x/y and /xy, as nginx compares

It never looks into a location. Invariant: a route is found for exactly the paths that nginx would
find the location for. Raises `Refusal`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from rawproxy.nginx.maps import WhenTest
from rawproxy.nginx.reading import Directive
from rawproxy.nginx.rewriting import Way
from rawproxy.nginx.values import Refusal, Varying, named_groups

RouteKeys = dict[str, Any]


class LocationMatch(NamedTuple):
    """The keys by which requests find a route, and what its expression keeps."""

    keys: RouteKeys
    groups: int = 0
    names: Mapping[str, int] = {}


def match_of(one: Directive) -> LocationMatch:
    """What a `location` is for. Raises `Refusal`."""
    kind, pattern = one.args if len(one.args) == 2 else ("", one.args[0])
    if kind in ("~", "~*"):
        pattern, names = named_groups(pattern)
        keys: RouteKeys = {"path-regex": ("(?i)" if kind == "~*" else "") + pattern}
        return LocationMatch(keys, _groups(pattern), names)
    if pattern.startswith("@"):
        return LocationMatch({"named": pattern})
    if kind == "=":
        return LocationMatch({"path": pattern, "exact": True})
    keys = {"path": pattern}
    if not pattern.endswith("/"):
        keys["partial"] = True
    if kind == "^~":
        keys["before-regex"] = True
    return LocationMatch(keys)


def found_by(locations: tuple[Directive, ...], uri: str) -> Directive | None:
    """The location that a path leads to, by nginx's rules."""
    longest: Directive | None = None
    for one in locations:
        kind, path = one.args if len(one.args) == 2 else ("", one.args[0])
        if kind == "=" and path == uri:
            return one
        if kind in ("", "^~") and uri.startswith(path):
            longest = one if longest is None or len(path) > len(longest.args[-1]) else longest
    if longest is not None and longest.args[0] == "^~":
        return longest
    for one in locations:
        if len(one.args) == 2 and one.args[0] in ("~", "~*"):
            try:
                found = re.search(one.args[1], uri, re.I if one.args[0] == "~*" else 0)
            except re.error:
                raise Refusal(f"{one.place}: {one.args[1]}: not looked through here") from None
            if found:
                return one
    return longest


def way_into(match: LocationMatch, way: Way) -> Way:
    """The way of the requests that a location is for, where its directives begin."""
    if not match.groups:
        return way
    if way.groups:
        raise Refusal("expressions of the server and of the location keep something: type one")
    names = {name: Varying(f"${{{number}}}") for name, number in match.names.items()}
    return way._replace(known={**way.known, **names}, groups=match.groups, overwritten=False)


def grouped(when: tuple[WhenTest, ...]) -> dict[str, Any]:
    """Tests as the table `when`."""
    found: dict[str, list[str]] = {}
    for value_of, text in when:
        if text not in found.setdefault(value_of, []):
            found[value_of].append(text)
    return {name: texts[0] if len(texts) == 1 else texts for name, texts in found.items()}


def _groups(pattern: str) -> int:
    try:
        return min(9, re.compile(pattern).groups)
    except re.error:
        return 9  # the loader of ours will say what is wrong with it
