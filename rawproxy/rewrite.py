"""Header rewriting: block in, block out, for requests and for responses.

Order, as RFC 9110 7.6.1 wants it: what Connection names goes first, then the hop-by-hop fields and
whatever a peer that is not trusted said about forwarding; only then are our own fields appended,
so that nothing a client sends can remove or precede them (CVE-2024-45410).

It never looks at a body and never decides where a request goes. Invariants: the bytes of every
field that stays are untouched and in order (RFC 9110 5.3); rewriting what was rewritten changes
only the forwarded chain; nothing raises.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from .config import Network
from .head import (
    CHUNKED,
    EXPECT,
    FORWARDED_FOR,
    FORWARDED_KEPT,
    FORWARDED_REST,
    HSTS,
    RequestHead,
    ResponseHead,
)
from .proxy_protocol import Route

CRLF: Final = b"\r\n"
# What says who a client is (as nginx's $ssl_client_*), by any spelling an application may take.
_IDENTITY: Final = re.compile(rb"(?i)(?<=\n)(?:x[-_])?ssl[-_]client[-_][^:\n]*:[^\n]*\n").sub
_CHUNKED_LINE: Final = b"Transfer-Encoding: chunked\r\n"
_UPGRADE_LINES: Final = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
# RFC 9110 7.6.3: the version as received; by `RequestHead.minor`.
_VIA: Final[tuple[bytes, ...]] = tuple(
    b"Via: %b rawproxy\r\n" % version for version in (b"1.0", b"1.1", b"2.0")
)


class HeadEdits(NamedTuple):
    """What a route changes: names (lower case) to cut, then lines to append."""

    request_cut: tuple[bytes, ...]
    request_lines: bytes
    response_cut: tuple[bytes, ...]
    response_lines: bytes


class Hop(NamedTuple):
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
    route: Route | None = None  # for a PROXY protocol header towards the upstream
    tls: bytes = b""  # the version towards the client; empty: plain
    edits: HeadEdits | None = None  # of the route under way
    identity: bytes | None = None  # SSL-Client-* of the client; None: they are nobody's business


def hop(peer: bytes, scheme: bytes, trusted: bool, append: bool, hsts: bytes | None) -> Hop:
    """The facts of a connection from `peer`."""
    lines = (
        b"X-Forwarded-For: "
        + peer
        + b"\r\nX-Forwarded-Proto: "
        + scheme
        + b"\r\nX-Forwarded-Host: "
    )
    return Hop(peer, scheme, trusted, append, hsts, lines)


def with_forwarded(hop: Hop) -> Hop:
    """The same, and RFC 7239 6: an IPv6 address is bracketed and quoted, a socket file unknown."""
    if hop.peer == b"unix:":
        node = b"unknown"
    else:
        node = b'"[%b]"' % hop.peer if b":" in hop.peer else hop.peer
    return hop._replace(forwarded=b'Forwarded: for=%b;proto=%b;host="' % (node, hop.scheme))


def with_real_ip(hop: Hop) -> Hop:
    """The same, and X-Real-IP, which for most requests is the peer."""
    return hop._replace(real_ip=True, lines=b"X-Real-IP: %b\r\n%b" % (hop.peer, hop.lines))


def request(head: RequestHead, hop: Hop, authority: bytes) -> bytes:
    """The whole request head for the upstream, always HTTP/1.1.

    `authority` becomes the Host of an HTTP/1.0 request that brought none.
    """
    block = head.block
    kept = [head.method, b" ", head.target, b" HTTP/1.1\r\n"]
    at = 0
    told = False  # did the peer say something about forwarding that may have to stay?
    for kind, start, stop in head.notes:
        if kind == EXPECT and head.expect:
            continue
        if kind >= FORWARDED_FOR:
            told = True
            if kind == FORWARDED_REST and hop.trusted and not _overwritten(block, start, hop):
                continue
        if at < start:
            kept.append(block[at:start])
        at = stop
    kept.append(block[at:] if at else block)
    if head.nominated:
        kept[4:] = [without(b"".join(kept[4:]), head.nominated)]
    if not head.host:
        kept.append(b"Host: " + authority + CRLF)
    if told and (hop.trusted or hop.append):
        kept.append(_chain(head, hop, authority))
    else:
        kept += (hop.lines, head.host or authority, CRLF)
    if hop.forwarded:
        kept += (hop.forwarded, head.host or authority, b'"\r\n')
    kept.append(_VIA[head.minor])
    if head.framing == CHUNKED:
        kept.append(_CHUNKED_LINE)
    elif head.upgrade:
        kept.append(_UPGRADE_LINES)
    if hop.identity is not None or hop.edits is not None:
        kept[4:] = [_amended(b"".join(kept[4:]), hop)]
    kept.append(CRLF)
    return b"".join(kept)


def _amended(block: bytes, hop: Hop) -> bytes:
    """Who the client is, where that is known here alone; then what the route changes."""
    if hop.identity is not None:
        block = _IDENTITY(b"", b"\n" + block)[1:] + hop.identity
    if hop.edits is not None:
        block = without(block, hop.edits.request_cut) + hop.edits.request_lines
    return block


def response(head: ResponseHead, hop: Hop) -> bytes:
    """The block of a response for the client, without framing or Connection fields of ours."""
    block = head.block
    hsts = hop.hsts
    if head.notes:
        kept: list[bytes] = []
        at = 0
        for kind, start, stop in head.notes:
            if kind == HSTS and hsts is None:
                continue
            if at < start:
                kept.append(block[at:start])
            at = stop
        kept.append(block[at:])
        block = b"".join(kept)
    if head.nominated:
        block = without(block, head.nominated)
    if head.status < 200 or head.status == 204:
        block = without(block, (b"content-length",))  # RFC 9110 8.6
    if hsts:
        block += hsts
    if hop.edits is not None:
        block = without(block, hop.edits.response_cut) + hop.edits.response_lines
    return block


def upgrade_lines(head: ResponseHead) -> bytes:
    """The Connection and Upgrade fields of a 101, or of a 426 that names WebSocket."""
    return _UPGRADE_LINES if head.upgrade == b"websocket" else b""


def without(block: bytes, names: Iterable[bytes]) -> bytes:
    """The block without the fields called `names` (lower case).

    In one pass: a Connection field may name thousands, and one pass for each would take a second.
    """
    cut = frozenset(names)
    lines = block.split(CRLF)
    return CRLF.join([line for line in lines if line.partition(b":")[0].lower() not in cut])


def client_of(head: RequestHead, hop: Hop) -> bytes:
    """The client's address: the rightmost hop of X-Forwarded-For that is not a trusted proxy."""
    if not hop.trusted:
        return hop.peer
    client = hop.peer
    for entry in reversed(_said(head)[0].split(b",")):
        address = address_of(entry)
        if address is None:
            break
        client = str(address).encode()
        if not is_trusted(address, hop.networks):
            break
    return client


def address_of(entry: bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address in one element of X-Forwarded-For: bare, `v4:port`, `[v6]` or `[v6]:port`."""
    text = entry.strip().strip(b'"').decode("latin-1")
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


def is_trusted(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: tuple[Network, ...]
) -> bool:
    """Whether `address` lies in one of the `--trusted-proxy` networks."""
    return any(address in network for network in networks)


def redirect_target(host: bytes, target: bytes, https_port: int) -> bytes:
    """Where the plain listener sends a client: the requested host, over https.

    A Host without a port came in on port 80, perhaps through a port mapping, so it goes to 443. A
    Host that names our own port is answered with our own https port.
    """
    name, port = split_host(host)
    suffix = b":%d" % https_port if port and https_port != 443 else b""
    return b"https://" + name + suffix + (b"/" if target == b"*" else target)


def split_host(host: bytes) -> tuple[bytes, bytes]:
    """Name (brackets kept) and port of a Host value; the port may be empty."""
    if host.endswith(b"]"):
        return host, b""
    name, colon, port = host.rpartition(b":")
    return (name, port) if colon else (host, b"")


def _overwritten(block: bytes, start: int, hop: Hop) -> bool:
    """Whether a trusted peer's field is one that we set ourselves."""
    return hop.real_ip and block[start : start + 10].lower() == b"x-real-ip:"


def _said(head: RequestHead) -> tuple[bytes, dict[bytes, bytes]]:
    """What the peer's own fields say: the X-Forwarded-For chain, and -Proto and -Host."""
    chain: list[bytes] = []
    lines: dict[bytes, bytes] = {}
    nominated = frozenset(head.nominated)  # there may be thousands
    for kind, start, stop in head.notes:
        if kind in (FORWARDED_FOR, FORWARDED_KEPT):
            name, _, value = head.block[start:stop].partition(b":")
            name, value = name.lower(), value.strip()
            if name in nominated or not value:
                continue
            if kind == FORWARDED_FOR:
                chain.append(value)
            else:
                lines.setdefault(name, value)
    return b", ".join(chain), lines


def _chain(head: RequestHead, hop: Hop, authority: bytes) -> bytes:
    """X-Forwarded-* where what the peer said counts: one line each, the peer appended."""
    chain, lines = _said(head)
    if not hop.trusted:
        lines = {}
    return b"".join(
        (
            b"X-Real-IP: %b\r\n" % client_of(head, hop) if hop.real_ip else b"",
            b"X-Forwarded-For: ",
            chain + b", " + hop.peer if chain else hop.peer,
            b"\r\nX-Forwarded-Proto: ",
            lines.get(b"x-forwarded-proto", hop.scheme),
            b"\r\nX-Forwarded-Host: ",
            lines.get(b"x-forwarded-host", head.host or authority),
            CRLF,
        )
    )
