"""Rewrites header blocks, of requests and of responses.

The order is the one of RFC 9110 7.6.1. First go the fields that Connection names, then the
hop-by-hop fields and whatever an untrusted peer said about forwarding. Only then our own fields are
appended. So nothing that a client sends can remove them or stand before them (CVE-2024-45410).

This module never looks at a body and never decides where a request goes. Invariants: the bytes of
every field that stays are unchanged and in order (RFC 9110 5.3). To rewrite a rewritten head
changes only the forwarded chain. Nothing raises.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rawproxy.config.field_names import plain
from rawproxy.protocol import regex
from rawproxy.protocol.http import forwarding
from rawproxy.protocol.http.client_context import UNIX as UNIX
from rawproxy.protocol.http.client_context import ClientContext as ClientContext
from rawproxy.protocol.http.client_context import Finder as Finder
from rawproxy.protocol.http.client_context import HeadEdits as HeadEdits
from rawproxy.protocol.http.client_context import context as context
from rawproxy.protocol.http.client_context import with_forwarded as with_forwarded
from rawproxy.protocol.http.client_context import with_real_ip as with_real_ip
from rawproxy.protocol.http.forwarding import address_of, is_trusted
from rawproxy.protocol.http.head import (
    CHUNKED,
    CONNECTION,
    EXPECT,
    FORWARDED_FOR,
    FORWARDED_REST,
    HSTS,
    IDENTITY,
    TWIN,
    UNDERSCORED,
    Note,
    RequestHead,
    ResponseHead,
)

CRLF: Final = b"\r\n"
_NOTHING: Final[Note] = (CONNECTION, 0, 0)  # to cut
_CHUNKED_LINE: Final = b"Transfer-Encoding: chunked\r\n"
_UPGRADE_LINES: Final = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
# RFC 9110 7.6.3: the version as received; by `RequestHead.minor`.
_VIA: Final[tuple[bytes, ...]] = tuple(
    b"Via: %b rawproxy\r\n" % version for version in (b"1.0", b"1.1", b"2.0")
)


# What the names begin with that `request` writes by itself (plain).
_OURS: Final = (
    b"host", b"x-forwarded-", b"x-real-ip", b"forwarded", b"via", b"ssl-client-", b"connection",
    b"upgrade", b"transfer-encoding",
)  # fmt: skip


def request(
    head: RequestHead,
    context: ClientContext,
    authority: bytes,
    more: bytes = b"",
    clean: bool = False,
) -> bytes:
    """The whole request head for the upstream; it is always HTTP/1.1.

    `authority` becomes the Host of an HTTP/1.0 request that has none. `more` are lines that go
    behind all others. `clean`: what the route cuts is not in the head, as somebody has looked.
    """
    if not more:
        start, stop = _usual(head, context, clean)
        if start >= 0:
            block = head.block
            return b"".join(
                (
                    head.method, b" ", head.target, b" HTTP/1.1\r\n",
                    block[:start], block[stop:], context.lines, head.host, b"\r\n\r\n",
                )
            )  # fmt: skip
    return _any_request(head, context, authority, more, clean)


def lines_of(head: RequestHead, context: ClientContext, clean: bool) -> bytes:
    """What that has between its start line and its end. The head has a Host."""
    start, stop = _usual(head, context, clean)
    if start >= 0:
        block = head.block
        return b"".join((block[:start], block[stop:], context.lines, head.host, CRLF))
    whole = _any_request(head, context, b"", b"", clean)
    return whole[whole.index(CRLF) + 2 : -2]


def _usual(head: RequestHead, context: ClientContext, clean: bool) -> tuple[int, int]:
    """Where that begins and ends what goes of a usual head: Connection, or nothing; else -1, -1."""
    notes, edits = head.notes, context.edits
    if (
        len(notes) > 1
        or head.framing < 0
        or not head.host
        or not (edits is None or edits.bare)
        or context.identity is not None
        or head.nominated or head.upgrade or context.via or context.forwarded
    ):  # fmt: skip
        return -1, -1
    kind, start, stop = notes[0] if notes else _NOTHING
    if kind != CONNECTION:
        return -1, -1
    if edits is None or clean:
        return start, stop
    finds = edits.finds
    nothing = finds is not None and finds(head.block) is None
    return (start, stop) if nothing else (-1, -1)


def _any_request(
    head: RequestHead, context: ClientContext, authority: bytes, more: bytes, clean: bool
) -> bytes:
    """The same for every request."""
    edits = context.edits
    target = head.target if edits is None else edits.target or head.target
    kept = [head.method, b" ", target, b" HTTP/1.1\r\n"]
    told = _keep(kept, head, context)
    host = head.host
    if not host:
        host = authority
        kept.append(b"Host: " + authority + CRLF)
    if told and (context.trusted or context.append):
        kept.append(_chain(head, context, authority))
    else:
        kept += (context.lines, host, CRLF)
        if context.forwarded:
            kept += (context.forwarded, host, b'"\r\n')
    if head.framing == CHUNKED:
        kept.append(_CHUNKED_LINE)
    if head.upgrade:
        kept.append(upgrade_to(head.upgrade))
    if context.via:
        kept.append(_VIA[head.minor])
    if context.identity is not None:
        kept.append(context.identity)
    if edits is not None:
        kept = _edited(kept, edits, clean)
    if more:
        kept.append(more)
    kept.append(CRLF)
    return b"".join(kept)


def _keep(kept: list[bytes], head: RequestHead, context: ClientContext) -> bool:
    """Add what stays of the peer's own fields. True: it said something about forwarding."""
    block = head.block
    at = 0
    told = False
    for kind, start, stop in head.notes:
        if kind >= FORWARDED_FOR:
            told |= kind < TWIN
            if kind != FORWARDED_FOR and _stays(kind, context, block, start):
                continue
        elif kind == EXPECT and head.expect:
            continue
        if at < start:
            kept.append(block[at:start])
        at = stop
    kept.append(block[at:] if at else block)
    if head.nominated:
        kept[4:] = [without(b"".join(kept[4:]), head.nominated)]
    return told


def measured(opening: bytes, size: int) -> bytes:
    """The opening of a request whose chunked body was gathered. `size` is that of the body.

    An Expect has been answered by then (RFC 9110 10.1.1).
    """
    kept = without(opening, (b"transfer-encoding", b"expect"))
    return b"%bContent-Length: %d\r\n\r\n" % (kept[:-2], size)


def _stays(kind: int, context: ClientContext, block: bytes, start: int) -> bool:
    """Whether a field that is noted for its meaning stays as it is."""
    if kind == FORWARDED_REST:  # a trusted peer's, unless we set it ourselves
        ours = context.real_ip and block[start : start + 10].lower() == b"x-real-ip:"
        return context.trusted and not ours
    if kind == IDENTITY:  # a trusted peer's, where it has seen the client's certificate and not we
        return context.trusted and context.identity is None
    return kind == UNDERSCORED and context.underscores


def _edited(kept: list[bytes], edits: HeadEdits, clean: bool) -> list[bytes]:
    """Make the route's changes of a head. The twins of a field that is cut are cut too."""
    lines = edits.request_lines
    finds = edits.finds
    if clean and not edits.cookies:
        kept.append(lines)
        return kept
    if finds is not None and not edits.cookies:
        whole = b"".join(kept)
        if finds(whole) is None:  # as in most: nothing goes
            return [whole, lines]
    block = b"".join(kept[4:])
    stays = []
    for line in block.split(CRLF):
        name, _, value = line.partition(b":")
        name = name.lower()
        if _is_cut(plain(name), edits):
            continue
        if edits.cookies and name == b"cookie":
            line = _without_cookies(line[: -len(value)], value, edits.cookies)
            if not line:
                continue
        stays.append(line)
    kept[4:] = [CRLF.join(stays), lines]
    return kept


def finder(cut: frozenset[bytes], families: tuple[bytes, ...] = ()) -> Finder:
    """What finds names that are cut, and their twins, in lines.

    In one search, which most requests pass: to look at each of their names costs as much as all
    the rest of a head. `cut` and `families` are plain.
    """
    names = [name + b":" for name in cut] + list(families)
    # `-` has been escaped, and nothing else is written so.
    twins = regex.beginnings(names).replace(rb"\-", b"[-_]")
    return regex.in_lines(twins) if names else _nothing


def cuts_ours(cut: Iterable[bytes]) -> bool:
    """Whether of these names, or beginnings of names (plain), one may be of a line of ours."""
    return any(one.startswith(ours) or ours.startswith(one) for one in cut for ours in _OURS)


def cuts_only(edits: HeadEdits) -> HeadEdits:
    """The same edits, which know whether they only cut of a request what a client has sent."""
    bare = not (edits.request_lines or edits.target or edits.cookies or edits.finds is None)
    bare = bare and not cuts_ours((*edits.request_cut, *edits.families))
    quiet = edits.map is None and not (edits.response_cut or edits.response_lines)
    return edits._replace(bare=bare, quiet=quiet)


def _nothing(_: bytes) -> object:
    return None


def _is_cut(name: bytes, edits: HeadEdits) -> bool:
    """Whether a route cuts the field `name` (plain) from requests."""
    return name in edits.request_cut or name.startswith(edits.families)


def _without_cookies(name: bytes, value: bytes, ours: frozenset[bytes]) -> bytes:
    """A Cookie line without the cookies `ours` (RFC 6265 4.2.1); empty if none is left."""
    pairs = value.split(b";")
    theirs = [pair for pair in pairs if pair.partition(b"=")[0].strip() not in ours]
    if len(theirs) == len(pairs):
        return name + value
    return name + b" " + b";".join(theirs).strip() if any(map(bytes.strip, theirs)) else b""


def request_trailers(
    block: bytes, allowed: frozenset[bytes], head: RequestHead, context: ClientContext
) -> bytes:
    """The trailers of a request that go to the upstream: those that the route lists.

     The rules of heads hold for them too. `allowed` has no name with a meaning for us. A name with
    an underscore passes if such names pass in heads. A trailer cannot get round Connection or an
    edit.
    """
    edits = context.edits
    nominated = frozenset(head.nominated)  # there may be thousands
    kept = []
    for line in block.split(CRLF)[:-1]:
        name = line.partition(b":")[0].lower()
        if (
            name in allowed
            and name not in nominated
            and (context.underscores or b"_" not in name)
            and (edits is None or not _is_cut(plain(name), edits))
        ):
            kept.append(line + CRLF)
    return b"".join(kept)


def response_trailers(block: bytes, context: ClientContext) -> bytes:
    """The trailers of a response for the client, without the fields that the route cuts."""
    return block if context.edits is None else without(block, context.edits.response_cut)


def response(head: ResponseHead, context: ClientContext) -> bytes:
    """The block of a response for the client, without framing and Connection fields."""
    block = head.block
    hsts = context.hsts
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
    if hsts:
        block += hsts
    return block if context.edits is None else _answer_edited(block, context.edits, head.status)


def response_parts(head: ResponseHead, context: ClientContext) -> list[bytes]:
    """The status line and that block, in parts: whoever sends them joins them with what follows."""
    if head.repeated:
        if head.ready_for is not context:
            head.ready, head.ready_for = head.line + response(head, context), context
        return [head.ready]
    notes = head.notes
    still = context.edits is None or context.edits.quiet
    if not (still and len(notes) == 1 and not head.nominated) or notes[0][0] == HSTS:
        return [head.line, response(head, context)]
    _, start, stop = notes[0]
    hsts = context.hsts
    parts = [head.line, head.block[:start], head.block[stop:]]
    if hsts:
        parts.append(hsts)
    return parts


def _answer_edited(block: bytes, edits: HeadEdits, status: int) -> bytes:
    """Make the route's changes of a response: first its paths, then its fields."""
    if edits.map is not None:
        block = edits.map(block, edits.host, status)
    if edits.response_cut:
        block = without(block, edits.response_cut)
    return block + edits.response_lines


def upgrade_to(token: bytes) -> bytes:
    """The Connection and Upgrade fields of a request for a tunnel, or of its 101."""
    if token == b"websocket":
        return _UPGRADE_LINES
    return b"Connection: Upgrade\r\nUpgrade: %b\r\n" % token


def upgrade_lines(head: ResponseHead) -> bytes:
    """The Connection and Upgrade fields of a 426 that names WebSocket."""
    return _UPGRADE_LINES if head.upgrade == b"websocket" else b""


def without(block: bytes, names: Iterable[bytes]) -> bytes:
    """The block without the fields called `names` (in lower case).

     It takes one pass. A Connection field may name thousands, and a pass for each would take a
    second.
    """
    cut = frozenset(names)
    lines = block.split(CRLF)
    return CRLF.join([line for line in lines if line.partition(b":")[0].lower() not in cut])


def client_of(head: RequestHead, context: ClientContext) -> bytes:
    """The client's address: the rightmost hop that is not a trusted proxy."""
    if not context.trusted:
        return context.peer
    if context.client_field:
        said = address_of(head.value(context.client_field))
        return context.peer if said is None else str(said).encode()
    client = context.peer
    hops = forwarding.said(head, True, context.networks).hops
    for entry in reversed(hops.split(b",")):
        address = address_of(entry)
        if address is None:
            break
        client = str(address).encode()
        if not is_trusted(address, context.networks):
            break
    return client


def _chain(head: RequestHead, context: ClientContext, authority: bytes) -> bytes:
    """The forwarding fields if what the peer said counts: one line each, with the peer appended."""
    told = forwarding.said(head, context.trusted, context.networks)
    hops = told.hops
    if not hops:
        hops = context.peer
    elif not (
        context.trusted and context.peer == UNIX
    ):  # a socket file is no hop that anybody could name
        hops += b", " + context.peer
    proto, host = told.proto or context.scheme, told.host or head.host or authority
    return b"".join(
        (
            b"X-Real-IP: %b\r\n" % client_of(head, context) if context.real_ip else b"",
            b"X-Forwarded-For: %b\r\n" % hops,
            b"X-Forwarded-Proto: %b\r\n" % proto,
            b"X-Forwarded-Host: %b\r\n" % host,
            forwarding.line(hops, proto, host) if context.forwarded or told.forwarded else b"",
        )
    )
