"""What `rewrite` has to know beside a head: of the client's connection, and of the route under way.

Both are made once, for many requests. This module never sees a head. Invariant: what a context says
of a client holds for each of its requests; only `edits`, `id` and `moved` belong
to one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from rawproxy.config.model import Network
from rawproxy.protocol.http import forwarding
from rawproxy.protocol.proxy_header import AnnouncedAddresses

UNIX: Final = b"unix:"  # in the place of the address of a peer that has none
Finder = Callable[[bytes], object]  # None: there is nothing


class HeadEdits(NamedTuple):
    """What a route changes: names (in lower case) to cut, then lines to append; and paths."""

    request_cut: frozenset[bytes]  # plain: a twin of what is set or removed goes too
    request_lines: bytes
    response_cut: frozenset[bytes]
    response_lines: bytes
    cookies: frozenset[bytes] = frozenset()  # of our own, which are no upstream's business
    families: tuple[bytes, ...] = ()  # plain: what names begin with that are cut of requests too
    target: bytes = b""  # what the upstream sees in the place of the client's; empty: the same
    map: Callable[[bytes, bytes, int], bytes] | None = None  # of responses: `ResponseMap.of`
    host: bytes = b""  # that was asked for, which `map` needs
    finds: Finder | None = None  # what `finder` makes of all that is cut; None: look at each name
    # Of requests nothing is changed but by `finds`, and that finds no line of ours: `cuts_only`.
    bare: bool = False
    quiet: bool = False  # of responses nothing is changed: `cuts_only` knows that too


class ClientContext(NamedTuple):
    """What one client connection means for the fields of its messages. Made once for each."""

    peer: bytes  # the address as it goes into X-Forwarded-For
    scheme: bytes
    trusted: bool  # the peer's own forwarding fields are believed
    append: bool  # --forwarded append
    hsts: bytes | None  # the whole line to set; empty: cut the upstream's; None: leave it
    lines: bytes  # X-Forwarded-For, -Proto and the beginning of -Host: ready for most requests
    forwarded: bytes = b""  # the beginning of Forwarded (RFC 7239), up to the host; empty: none
    real_ip: bool = False  # X-Real-IP is ours
    networks: tuple[Network, ...] = ()  # of trusted proxies
    route: AnnouncedAddresses | None = None  # for a PROXY protocol header towards the upstream
    tls: bytes = b""  # the version towards the client; empty: plain
    edits: HeadEdits | None = None  # of the route under way
    id: bytes = b""  # of the request under way, where the route's values name it
    identity: bytes | None = None  # SSL-Client-* of the client; None: no site asks for them
    underscores: bool = False  # names with an underscore pass, if they mean nothing
    via: bool = False  # --send-via
    client_field: bytes = b""  # by which trusted peers name the client; empty: X-Forwarded-For
    moved: bytes = b""  # the target that a route with `again` has made of the request under way


def context(
    peer: bytes, scheme: bytes, trusted: bool, append: bool, hsts: bytes | None
) -> ClientContext:
    """The context of a connection from `peer`."""
    lines = (
        b"X-Forwarded-For: "
        + peer
        + b"\r\nX-Forwarded-Proto: "
        + scheme
        + b"\r\nX-Forwarded-Host: "
    )
    return ClientContext(peer, scheme, trusted, append, hsts, lines)


def with_forwarded(context: ClientContext) -> ClientContext:
    """The same context, with Forwarded (RFC 7239)."""
    node = forwarding.UNKNOWN if context.peer == UNIX else forwarding.node(context.peer)
    return context._replace(forwarded=b'Forwarded: for=%b;proto=%b;host="' % (node, context.scheme))


def with_real_ip(context: ClientContext) -> ClientContext:
    """The same context, with X-Real-IP, which is the peer for most requests."""
    return context._replace(
        real_ip=True, lines=b"X-Real-IP: %b\r\n%b" % (context.peer, context.lines)
    )
