"""What a `rewrite` changes for the location that is looked up next.

nginx keeps the variables of a request when it looks for another location, with the values that they
had; here a location says what its own requests are like. So what would differ is refused.

It never makes a route. Invariant: a way that `staying` gives is that of every request which reaches
a location, whichever path it came by. Raises `Refusal`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from rawproxy.nginx.reading import Directive
from rawproxy.nginx.rewriting import CHANGED, Way, uses
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


def check_told_apart(server: Blocks, named: Directive, ways: list[Way]) -> None:
    """Whether an error can still tell by which of these ways its request came to the server."""
    for one in server.block:
        if one.name == "location" and not any(
            CHANGED(test.value) for way in ways for test in way.when
        ):
            continue  # what it changes, nobody asks about
        for it in _within((one,), "rewrite"):
            if not {"redirect", "permanent"} & set(it.args[2:]):
                text = f"{it.text()} changes what an if of the server has looked at before"
                raise Refusal(f"{named.place}: {text}; set nothing in that if, or rewrite nothing")


def check_pages(ways: list[Way]) -> None:
    """Nginx runs the server's rewrites again for a page by its path, and asks for it by GET.

    What sends requests away there may send the page away too.
    """
    for way in ways:
        if way.end is None:
            continue
        methods = [_for_get(test.text) for test in way.when if test.value == "$method"]
        if (methods and all(methods)) or any(CHANGED(test.value) for test in way.when):
            text = "it looks at the path and the method, GET, of an error page too"
            raise Refusal(f"{way.end.place}: {text}: lead to an @name")


def check_by_get(way: Way, pages: Mapping[str, Mapping[str, str]]) -> None:
    """What the server refuses for its method leads to a page by GET, which it may let pass."""
    assert way.end is not None
    to = pages.get("error-page", {}).get(way.end.args[0], "")
    if to.rpartition(" ")[2].startswith("/"):
        raise Refusal(f"{way.end.place}: nginx asks for its error page by GET: lead to an @name")


def taken_over(blocks: Blocks, way: Way, locations: tuple[Directive, ...]) -> Directive | None:
    """The named location that gets the requests which a `return` ends.

    `error_page 418 = @app` with `return 418` is no page for an error: nobody has looked at the
    request yet, so it goes to the location as it came, with its method and its body.
    """
    end = way.end
    if end is None or end.name != "return" or len(end.args) != 1:
        return None
    inner = blocks if way.block is None else blocks.within(way.block)
    for page in inner.all("error_page"):
        if end.args[0] not in page.args[:-1]:
            continue
        if page.args[-2] != "=" or inner.is_on("proxy_intercept_errors"):
            return None
        return next((one for one in locations if one.args == page.args[-1:]), None)
    return None


def _for_get(text: str) -> bool:
    """Whether a test of the method holds for GET."""
    plain = text.removeprefix("!")
    if plain.startswith("~"):
        found = re.search(plain[1:].removeprefix("*"), "GET", re.I if plain[1:2] == "*" else 0)
        return (found is not None) != text.startswith("!")
    return (plain.removeprefix("=") == "GET") != text.startswith("!")


def check_named(page: Blocks, before: Mapping[str, str], way: Way, place: str) -> None:
    """What a location has set stays set in the named one that its errors lead to; here it does not.

    `before`: what the server knows of all requests, whichever location they reach.
    """
    for name, text in before.items():
        if way.known.get(name, text) != text and uses(page.visible(), (name,)):
            text = f"${name} is set again before an error that leads here"
            raise Refusal(f"{place}: {text}: type another name for it")


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
