"""What a `rewrite` changes for the location that is looked up next.

nginx keeps the variables of a request when it looks for another location, with the values that they
had; here a location says what its own requests are like. So what would differ is refused.

It never makes a route. Invariant: a way that `staying` gives is that of every request which reaches
a location, whichever path it came by. Raises `Refusal`.
"""

from __future__ import annotations

from collections.abc import Iterator

from rawproxy.nginx.reading import Directive
from rawproxy.nginx.rewriting import CHANGED, Way
from rawproxy.nginx.scope import Blocks
from rawproxy.nginx.values import Refusal, Varying


def staying(ways: list[Way]) -> list[Way]:
    """The ways of a server on which requests look for a location."""
    stay = [way for way in ways if way.end is None and not way.again]
    moved = [way for way in ways if way.end is None and way.again]
    if not moved:
        return stay
    if len(stay) > 1 or any(way.when for way in stay):
        raise Refusal("a rewrite of the server beside an if or a map: type it in a location")
    start = stay[0] if stay else Way(moved[0].known)
    for way in moved:
        for name, text in start.known.items():
            if way.known.get(name, text) != text:
                raise Refusal(f"${name} is another one where the server rewrites: type it twice")
    _check(start)
    return [start]


def check_kept(before: Way, way: Way) -> None:
    """What a location has set is not known where its rewrite leads to."""
    if not way.again:
        return
    for name, text in before.known.items():
        if way.known.get(name, text) != text:
            raise Refusal(f"${name} is set again before a rewrite: type another name for it")
    if any(CHANGED(test.value) for test in before.when):
        raise Refusal("a rewrite behind tests of the path in the server: type them in a location")
    _check(before)


def _check(way: Way) -> None:
    for name, text in way.known.items():
        if isinstance(text, Varying) and CHANGED(text):
            raise Refusal(f"${name} is made of a path that a rewrite changes later")


def leads_elsewhere(server: Blocks, location: Directive) -> bool:
    """Whether something but a guard may lead to a location that is internal."""
    asked = [one.args[0].partition("?")[0] for one in _within(server.block, "auth_request")]
    if location.args[-1] in asked:
        return False
    if any(one.args[-1].startswith("/") for one in _within(server.block, "error_page")):
        return True
    rewrites = _within(server.block, "rewrite")
    return any(not {"redirect", "permanent"} & set(one.args[2:]) for one in rewrites)


def _within(block: tuple[Directive, ...], name: str) -> Iterator[Directive]:
    for one in block:
        if one.name == name and one.args:
            yield one
        if one.block is not None:
            yield from _within(one.block, name)
