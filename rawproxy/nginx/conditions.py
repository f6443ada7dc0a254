"""The `if`s of a server that only choose where a request is sent: certbot's, and to https.

    if ($host = NAME) { return … }             a site of that name
    if ($scheme = http) { return … }           the same on the plain listeners
    if ($scheme != https), if ($https != on)   likewise

It never evaluates a condition for a request. Invariant: an `if` that is known here holds for whole
names or whole listeners; every other one is refused. Raises `Refusal`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rawproxy.nginx.locations import answer
from rawproxy.nginx.reading import Directive
from rawproxy.nginx.servers import ServerBlock
from rawproxy.nginx.values import Refusal

NestedRoutes = list[tuple[dict[str, Any], str]]
_PLAIN = (
    ("$scheme", "=", "http"), ("$scheme", "!=", "https"), ("$https", "!=", "on"),
    ("$https", "=", ""), ("$scheme", "=", '"http"'),
)  # fmt: skip


def is_known(one: Directive) -> bool:
    """Whether an `if` is one of those above, with a `return` and nothing else in it."""
    block = one.block or ()
    only_returns = len(block) == 1 and block[0].name == "return"
    return only_returns and (one.args in _PLAIN or _name(one) != "")


def _name(one: Directive) -> str:
    """The name that an `if ($host = NAME)` is for."""
    return one.args[2] if len(one.args) == 3 and one.args[:2] == ("$host", "=") else ""


def conditional_sites(
    server: ServerBlock, value: Callable[[str], str]
) -> Iterator[tuple[list[str], list[str], NestedRoutes]]:
    """Names, addresses and routes of the sites that stand before the server's own."""
    for one in server.blocks.own("if"):
        if not is_known(one):
            continue  # its word is `refused`
        assert one.block is not None
        returned = one.block[0]
        routes = [({"path": "/"} | answer(returned, value, ""), returned.place)]
        name = _name(one)
        if name:
            if name not in server.names:
                continue  # no request of that name gets to this server but as its default
            server.names.remove(name)
            yield [name], server.listens(), routes
            continue
        if not server.plain or not server.secure:
            if server.plain:
                raise Refusal("the `if` holds for every request: type its return in its place")
            continue
        plain, server.plain = server.plain, []
        yield list(server.names), plain, routes
