r"""Who forwarded a request: the proxies that the peer names, in either of the two notations.

    X-Forwarded-For: 203.0.113.7, 10.0.0.3      the client first, then the peer of each proxy
    X-Forwarded-Proto: https                    how the client spoke to the first proxy
    Forwarded: for=203.0.113.7;proto=https, for=10.0.0.3                  (RFC 7239)

A peer may use one notation or both. X-Forwarded-* is believed first, because nearly everybody reads
it. What it leaves out is taken from Forwarded. Both are then written from the same facts, so that
an application behind us learns the same from either. Other parts of Forwarded (`by`, names instead
of addresses) are not passed on.

This module never decides whom to believe. Invariants: what `said` returns can stand in a field
line. Nothing raises. The time is linear in the size of the fields.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

from rawproxy.config.model import Network
from rawproxy.protocol.http.head import FORWARDED_FOR, FORWARDED_KEPT, RequestHead
from rawproxy.protocol.http.target import is_host

LISTED: Final = 32  # proxies that are written to Forwarded (the last ones): nobody has more
UNKNOWN: Final = b"unknown"  # RFC 7239 6.2: a node without an address that we can read

_PAIR: Final = re.compile(
    rb"[ \t]*+([0-9A-Za-z!#$%&'*+.^_`|~-]++)"
    rb"=(\"(?:[^\"\\]++|\\.)*+\"|[^ \t\",;\\]*+)[ \t]*+([;,]|\Z)"
).match
_UNQUOTED: Final = re.compile(rb"\\(.)").sub
_QUOTABLE: Final = re.compile(rb"[\"\\]").sub
_SCHEME: Final = re.compile(rb"[A-Za-z][0-9A-Za-z+.-]{0,31}").fullmatch

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class ForwardedInfo(NamedTuple):
    """What a peer says about the hops before it; empty where it says nothing."""

    hops: bytes = b""  # the value of X-Forwarded-For
    proto: bytes = b""
    host: bytes = b""
    forwarded: bool = False  # some of it was said by Forwarded


def said(head: RequestHead, trusted: bool, networks: tuple[Network, ...]) -> ForwardedInfo:
    """What the peer says. Of an untrusted peer, only its X-Forwarded-For counts."""
    hops: list[bytes] = []
    lines: dict[bytes, bytes] = {}
    elements: list[bytes] = []
    nominated = frozenset(head.nominated)  # there may be thousands
    for kind, start, stop in head.notes:
        if kind in (FORWARDED_FOR, FORWARDED_KEPT):
            name, _, value = head.block[start:stop].partition(b":")
            name, value = name.lower(), value.strip()
            if name in nominated or not value:
                continue
            if kind == FORWARDED_FOR:
                hops.append(value)
            elif name == b"forwarded":
                elements.append(value)
            else:
                lines.setdefault(name, value)
    told = ForwardedInfo(b", ".join(hops))
    if not trusted:
        return told
    if elements:
        told = _with_elements(told, _elements(b", ".join(elements)), networks)
    return told._replace(
        proto=lines.get(b"x-forwarded-proto", told.proto),
        host=lines.get(b"x-forwarded-host", told.host),
    )


def _with_elements(
    told: ForwardedInfo, elements: list[dict[bytes, bytes]], networks: tuple[Network, ...]
) -> ForwardedInfo:
    """Add what Forwarded says. Its addresses count if there is no X-Forwarded-For."""
    if not elements:  # malformed: readers would understand it in different ways
        return told
    mine = elements[0]
    for element in reversed(elements):
        # As with X-Forwarded-For: the rightmost hop that is not a trusted proxy is the client. The
        # proxy to which it came tells how it came.
        address = address_of(element.get(b"for", b""))
        if address is None or not is_trusted(address, networks):
            mine = element
            break
    proto, host = mine.get(b"proto", b""), mine.get(b"host", b"")
    return ForwardedInfo(
        told.hops or b", ".join([_shown(one.get(b"for", b"")) for one in elements[-LISTED:]]),
        proto if _SCHEME(proto) else b"",
        host if is_host(host) else b"",
        True,
    )


def _elements(value: bytes) -> list[dict[bytes, bytes]]:
    """The elements of Forwarded (RFC 7239 4), names in lower case; none if it is malformed."""
    elements: list[dict[bytes, bytes]] = [{}]
    at, size = 0, len(value)
    while at < size:
        match = _PAIR(value, at)
        if match is None:
            return []
        name, text, end = match.groups()
        if text.startswith(b'"'):
            text = _UNQUOTED(rb"\1", text[1:-1])
        elements[-1].setdefault(name.lower(), text)
        if end == b",":
            elements.append({})
        at = match.end()
    return elements


def _shown(node: bytes) -> bytes:
    address = address_of(node)
    return UNKNOWN if address is None else str(address).encode()


def line(hops: bytes, proto: bytes, host: bytes) -> bytes:
    """A Forwarded field that says the same as X-Forwarded-*. `hops` is the whole X-Forwarded-For.

     Both the first and the last element tell how the client came: some readers use the first, some
    the last.
    """
    nodes = [b"for=" + _node(one) for one in hops.split(b",")[-LISTED:]]
    if not _SCHEME(proto):
        proto = _quoted(proto)
    how = b";proto=%b;host=%b" % (proto, _quoted(host))
    nodes[0] += how
    if len(nodes) > 1:
        nodes[-1] += how
    return b"Forwarded: %b\r\n" % b", ".join(nodes)


def _node(context: bytes) -> bytes:
    address = address_of(context)
    return UNKNOWN if address is None else node(str(address).encode())


def node(address: bytes) -> bytes:
    """An address as RFC 7239 6 writes it: IPv6 in brackets and quotes."""
    return b'"[%b]"' % address if b":" in address else address


def _quoted(text: bytes) -> bytes:
    return b'"%b"' % _QUOTABLE(rb"\\\g<0>", text)


def address_of(entry: bytes) -> IpAddress | None:
    """The address in one element of a chain: bare, `v4:port`, `[v6]` or `[v6]:port`."""
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


def is_trusted(address: IpAddress, networks: tuple[Network, ...]) -> bool:
    """Whether `address` is in one of the `--trusted-proxy` networks."""
    return any(address in network for network in networks)


def one_client(address: bytes) -> bytes:
    """What counts as one client: an IPv4 address, or an IPv6 network of 64 bits.

    Whoever has one IPv6 address has 2^64 of them (RFC 6177), and may use another for each request.
    """
    if address.find(b":") < 0:
        return address
    try:
        whole = ipaddress.IPv6Address(address.partition(b"%")[0].decode("latin-1"))
    except ValueError:  # a socket file
        return address
    if whole.ipv4_mapped is not None:
        return str(whole.ipv4_mapped).encode()
    return str(ipaddress.IPv6Network((int(whole) >> 64 << 64, 64))).encode()
