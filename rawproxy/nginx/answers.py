"""Answers that need no upstream: `return`, a `rewrite` that redirects, and nginx's own redirects.

It never looks at a location's path but to send somebody to it. Invariant: status and target are
those of the file. Raises `Refusal`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from rawproxy.nginx.matching import RouteKeys
from rawproxy.nginx.reading import Directive
from rawproxy.nginx.rewriting import Way, redirect_of
from rawproxy.nginx.values import Refusal, seconds

_REDIRECTS: Final = (301, 302, 303, 307, 308)
HANG_UP: Final = 444  # nginx's word for a connection that ends without an answer


def ended(way: Way, kind: str) -> RouteKeys:
    """The keys of a route for requests whose way has ended in an answer."""
    one = way.end
    assert one is not None
    if one.name == "rewrite":
        status, target = redirect_of(one)
        return {"redirect": way.value(target), "status": int(status)}
    return answer(one, way.value, kind)


def answer(one: Directive, value_of: Callable[[str], str], kind: str) -> RouteKeys:
    """A `return` as the keys of a route."""
    status, text = (int(one.args[0]), one.args[1:]) if one.args[0].isdigit() else (302, one.args)
    if status == HANG_UP:
        return {"respond": {"status": HANG_UP}}
    if not 200 <= status <= 599:
        raise Refusal(f"{one.place}: return {status}: no status of an answer")
    if status in _REDIRECTS and text:
        # A blank cannot stand in a URL; nginx sends it nevertheless.
        return {"redirect": value_of(text[0]).replace(" ", "%20"), "status": status}
    facts: dict[str, Any] = {"status": status}
    if text and status != 204:  # what is said to a 204 is never sent
        facts |= {"body": value_of(text[0]), "type": kind or "text/plain"}
    return {"respond": facts}


def cache_control(one: Directive) -> str:
    """What an `expires` says in Cache-Control."""
    text = one.args[0]
    if len(one.args) > 1 or text.startswith(("@", "$")) or text == "modified":
        raise Refusal(f"{one.place}: {one.text()}: type a time from now on, max, epoch or off")
    if text == "max":
        return "max-age=315360000"
    if text == "epoch" or text.startswith("-"):
        return "no-cache"
    return f"max-age={int(seconds(text.removeprefix('+')))}"


def slash_redirect(path: str) -> RouteKeys:
    """Nginx sends /app to /app/ where only the latter is a location that proxies."""
    return {
        "path": path.removesuffix("/"),
        "exact": True,
        "redirect": f"$scheme://$http_host{path}$is_args$args",
        "status": 301,
    }
