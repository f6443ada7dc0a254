r"""Message heads: bytes in, a validated canonical head out.

    raw head ──► fast lane ── accepts a strict subset ──────────┐
        │           └─ anything else, unjudged ─┐               ├─► facts: our policy ──► Head
        └─ --parser h11 ──────────► reference lane (h11, the law) ┘

A head is kept as bytes: the *block* is the run of `Name: value\r\n` lines, each with one space
after its colon and none before its end. Looking a field up or cutting one out is then a few
C-speed searches, and nothing is built for fields nobody asked about. What both lanes have in
common, the policy that is stricter than h11, stands in `request_facts` and `_response_facts`.

It never sees a body, a socket or a clock. Invariant: for every input either lane that accepts
gives the same `RequestHead`/`ResponseHead`; the fast lane never judges, it only declines.
Raises `ClientError` for requests and `UpstreamError` for responses, nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import h11

from . import engine, recognise
from .bounds import find_request, find_response
from .config import Limits
from .errors import ClientError, ProxyError, UpstreamError
from .target import is_host, origin_form

# Framing of a body: a Content-Length, or one of these (RFC 9112 6.3).
CHUNKED = -1
UNTIL_CLOSE = -2

HTTP2 = 2  # stands where the minor version of HTTP/1 does

# What a noted field is to us. The first three stay as they are: nobody need know where they stand.
HOST, CONTENT_LENGTH, DATE = 1, 2, 3
CONNECTION, TRANSFER_ENCODING, UPGRADE, EXPECT, HOP_BY_HOP = 4, 5, 6, 7, 8
FORWARDED_FOR, FORWARDED_KEPT, FORWARDED_REST, TWIN = 9, 10, 11, 12
HSTS = 13  # responses only

LENGTH_DIGITS = 18  # of a Content-Length: under 2**63, and no time is lost on longer ones

H = TypeVar("H")
_Noted = Callable[[bytes], Iterator[re.Match[bytes]]]
Note = tuple[int, int, int]  # kind, and where the field's line starts and stops in the block

_AFTER_TARGET = len(b" HTTP/1.1\r\n")
# One group, so that the engine tells most names apart by their first letters.
_NOTED_IN_REQUEST = re.compile(
    rb"\n(host|connection|content-length|transfer-encoding|upgrade|expect|keep-alive|te"
    rb"|proxy(?:-[^:\r\n]*)?|forwarded|x[-_]forwarded[-_][^:\r\n]*|x[-_]real[-_]ip):"
).finditer
_NOTED_IN_RESPONSE = re.compile(
    rb"\n(connection|content-length|transfer-encoding|upgrade|keep-alive|te|proxy-[^:\r\n]*"
    rb"|strict-transport-security|date):"
).finditer
_KIND: dict[bytes, int] = {
    b"host": HOST, b"connection": CONNECTION, b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING, b"upgrade": UPGRADE, b"expect": EXPECT,
    b"keep-alive": HOP_BY_HOP, b"te": HOP_BY_HOP, b"x-forwarded-for": FORWARDED_FOR,
    b"x-forwarded-proto": FORWARDED_KEPT, b"x-forwarded-host": FORWARDED_KEPT,
    b"forwarded": FORWARDED_REST, b"x-real-ip": FORWARDED_REST,
    b"strict-transport-security": HSTS, b"date": DATE,
}  # fmt: skip

# No line end that is not CRLF, no control character, no folded line: RFC 9112 2.2, 5.2, 9110 5.5.
# To match what is good takes a hundredth of the time of a search for what is not.
_CLEAN = re.compile(rb"(?:[\t -~\x80-\xff]++|\r\n(?![\t ]))*").fullmatch
_START_LINE = re.compile(rb"(" + recognise.TOKEN + rb"+) ([!-~]+) HTTP/([0-9])\.([0-9])\r\n").match
_ANY_VERSION = re.compile(rb"[^\r\n]* HTTP/[0-9.]+\r\n").match

# Connection options that say nothing about other fields, or whose fields are always cut anyway.
_PLAIN_OPTIONS = frozenset((b"keep-alive", b"close", b"upgrade", b"te", b"transfer-encoding", b""))
# Naming one of these in Connection must not remove it: it is ours to write (RFC 9110 7.6.1).
_NOT_NOMINABLE = frozenset((b"host", b"content-length", b"connection", b"expect"))


_made: Any = tuple.__new__  # a named tuple's own is a function of Python
_CLOSE = len(b"connection: close")
_NO_TRANSFER_CODING = (*range(100, 200), 204)


def _position(note: Note) -> int:
    return note[1]


class RequestHead(NamedTuple):
    """A request head that may be forwarded. `target` is in origin form (or `*`)."""

    method: bytes
    target: bytes
    minor: int  # of HTTP/1.x; HTTP2
    block: bytes
    notes: list[Note]
    framing: int
    close: bool  # the client does not want this connection kept
    upgrade: bytes  # b"websocket" where the client asks for it by every rule, else empty
    expect: bool  # 100-continue
    host: bytes  # as it came; empty only in HTTP/1.0
    nominated: tuple[bytes, ...]  # lower-case names that Connection lists
    size: int  # bytes of the head as it came; 0 in HTTP/2

    def value(self, name: bytes) -> bytes:
        """The first value of the field `name` (lower case), or empty."""
        return _value(self.block, name)


class ResponseHead(NamedTuple):
    """A response head that may be forwarded."""

    status: int
    line: bytes  # the status line to send on
    minor: int
    block: bytes
    notes: list[Note]
    framing: int  # as declared; `response_framing` knows the request's side of it
    close: bool
    upgrade: bytes  # lower-case token of a 101
    dated: bool
    nominated: tuple[bytes, ...]
    size: int  # bytes of the head as it came

    def value(self, name: bytes) -> bytes:
        """The first value of the field `name` (lower case), or empty."""
        return _value(self.block, name)


def _value(block: bytes, name: bytes) -> bytes:
    low = b"\n" + block.lower()
    at = low.find(b"\n" + name + b":")
    if at < 0:
        return b""
    at += len(name) + 2  # in the block: the "\n" in front of `low` is not there
    return block[at : block.find(b"\r\n", at)].strip()


Parser = Callable[[bytes], H | None]  # the head at the beginning; None while it is not whole


def request_parser(name: str, limits: Limits) -> Parser[RequestHead]:
    """How requests are read with `--parser` `name`. The parser raises `ClientError`."""
    fast = name != "h11"
    most, longest = limits.head, limits.start_line
    # Bytes of a head that cannot have too many fields.
    few = min(limits.fields * len(b"a: \r\n"), most)

    def parse(data: bytes) -> RequestHead | None:
        if fast:
            match = recognise.REQUEST(data)
            if match is not None and match.end(2) < longest:
                size = match.end()
                if size < few or (size <= most and data.count(b"\n", 0, size) - 2 <= limits.fields):
                    head = recognised_request(data, match)
                    if head is not None:
                        return head
        stop = find_request(data, limits)
        return reference_request(data[:stop]) if stop else None

    return parse


def response_parser(name: str, limits: Limits) -> Parser[ResponseHead]:
    """How responses are read with `--parser` `name`. The parser raises `UpstreamError`."""
    fast = name != "h11"

    def parse(data: bytes) -> ResponseHead | None:
        if fast:
            match = recognise.RESPONSE(data)
            if match is not None and match.end() <= limits.response_head:
                head = recognised_response(data, match)
                if head is not None:
                    return head
        stop = find_response(data, limits)
        return reference_response(data[:stop]) if stop else None

    return parse


def parse_request(raw: bytes) -> RequestHead:
    """A whole head by either lane, whatever its size. Raises `ClientError`."""
    match = recognise.REQUEST(raw)
    head = recognised_request(raw, match) if match is not None else None
    return reference_request(raw) if head is None else head


def parse_response(raw: bytes) -> ResponseHead:
    """A whole head by either lane, whatever its size. Raises `UpstreamError`."""
    match = recognise.RESPONSE(raw)
    head = recognised_response(raw, match) if match is not None else None
    return reference_response(raw) if head is None else head


def recognised_request(data: bytes, match: engine.Found) -> RequestHead | None:
    """The head that the recogniser found. None where only the reference lane may judge."""
    method, target, host, keep, length, chunked, other = match.groups()
    begin = match.end(2) + _AFTER_TARGET
    size = match.end()
    block = data[begin : size - 2]
    if other is not None or host is None or (chunked is not None and length is not None):
        return request_facts(method, target, 1, block, size)
    notes = []
    if keep is not None:
        start, stop = match.span(4)
        notes.append((CONNECTION, start - begin, stop - begin + 2))
    framing = 0 if length is None else int(length)
    if chunked is not None:
        framing = CHUNKED
        start, stop = match.span(6)
        notes.append((TRANSFER_ENCODING, start - begin, stop - begin + 2))
        notes.sort(key=_position)
    head: RequestHead = _made(
        RequestHead,
        (method, target, 1, block, notes, framing, False, b"", False, host, (), size),
    )
    return head


def recognised_response(data: bytes, match: engine.Found) -> ResponseHead | None:
    """The head that the recogniser found. None where only the reference lane may judge."""
    code, _reason, length, connection, chunked, date, other = match.groups()
    begin = match.end(2) + 2
    size = match.end()
    block = data[begin : size - 2]
    line = data[:begin]
    status = int(code)
    if other is not None or (
        chunked is not None and (length is not None or status in _NO_TRANSFER_CODING)
    ):
        return _response_facts(status, line, 1, block, size)
    notes = []
    close = False
    if connection is not None:
        start, stop = match.span(4)
        notes.append((CONNECTION, start - begin, stop - begin + 2))
        close = len(connection) == _CLOSE
    framing = UNTIL_CLOSE if length is None else int(length)
    if chunked is not None:
        framing = CHUNKED
        start, stop = match.span(5)
        notes.append((TRANSFER_ENCODING, start - begin, stop - begin + 2))
        notes.sort(key=_position)
    head: ResponseHead = _made(
        ResponseHead,
        (status, line, 1, block, notes, framing, close, b"", date is not None, (), size),
    )
    return head


def reference_request(raw: bytes) -> RequestHead:
    """h11's reading of a request head, as `--parser h11` uses it alone. Raises `ClientError`."""
    if not _CLEAN(raw):
        raise ClientError("a control character, a bare line end or a folded line in the head")
    line = _START_LINE(raw)
    if line is not None and line[3] + line[4] not in (b"10", b"11"):
        raise ClientError("only HTTP/1.0 and HTTP/1.1 are spoken here", 505)
    if line is None:
        status = 505 if _ANY_VERSION(raw) and b" HTTP/1." not in raw.split(b"\r\n", 1)[0] else 400
        raise ClientError("not an HTTP request line", status)
    law = h11.Connection(h11.SERVER, max_incomplete_event_size=len(raw) + 1)
    try:
        law.receive_data(raw)
        event = law.next_event()
    except h11.RemoteProtocolError as error:
        raise ClientError(str(error), error.error_status_hint) from None
    assert isinstance(event, h11.Request), event
    target, host = origin_form(event.method, event.target)
    block = b"".join([b"%b: %b\r\n" % pair for pair in event.headers.raw_items()])
    head = request_facts(event.method, target, int(event.http_version[2:]), block, len(raw))
    if head is None:
        raise ClientError("a field that frames the message is not in its plain form")
    return head if host is None else _with_host(head, host)


def reference_response(raw: bytes) -> ResponseHead:
    """h11's reading of a response head. Raises `UpstreamError`."""
    if not _CLEAN(raw):
        raise UpstreamError("a control character, bare line end or folded line in the response")
    law = h11.Connection(h11.CLIENT, max_incomplete_event_size=len(raw) + 1)
    # h11 reads a response only to a request; this one makes every status legal, 101 included.
    offer = [("host", "h"), ("connection", "upgrade"), ("upgrade", "websocket")]
    law.send(h11.Request(method="GET", target="/", headers=offer))
    law.send(h11.EndOfMessage())
    try:
        law.receive_data(raw)
        event = law.next_event()
    except h11.RemoteProtocolError as error:
        raise UpstreamError(f"the response head is malformed: {error}") from None
    assert isinstance(event, h11.Response | h11.InformationalResponse), event
    if event.http_version not in (b"1.0", b"1.1"):
        raise UpstreamError(f"the response is HTTP/{event.http_version.decode()}")
    block = b"".join([b"%b: %b\r\n" % pair for pair in event.headers.raw_items()])
    minor = int(event.http_version[2:])
    line = b"HTTP/1.1 %d %b\r\n" % (event.status_code, event.reason)
    head = _response_facts(event.status_code, line, minor, block, len(raw))
    if head is None:
        raise UpstreamError("a field that frames the response is not in its plain form")
    return head


def response_framing(head: ResponseHead, method: bytes) -> int:
    """How the body that answers `method` is framed: RFC 9112 6.3, rules 1 and 2 first."""
    if method == b"HEAD" or head.status == 304 or head.status == 204 or head.status < 200:
        return 0
    return head.framing


def _note(block: bytes, noted: _Noted) -> tuple[list[Note], dict[int, bytes]] | None:
    """The noted fields of a block: where each stands, and the values of those that frame it.

    None where a field stands twice that may not: only the reference lane may judge that.
    """
    low = b"\n" + block.lower()
    find = low.find
    notes: list[Note] = []
    values: dict[int, bytes] = {}
    for match in noted(low):
        name = match[1]
        kind = _KIND.get(name) or _kind(name)
        start, after = match.span()
        stop = find(b"\n", after)
        if kind > DATE:
            # A position of `low` is one more than that of the block, so the "\n" in front of a
            # field has the number of the field's first byte in the block.
            notes.append((kind, start, stop))
        if kind <= EXPECT:
            value = block[after : stop - 2]
            if kind in values:
                if kind in (HOST, CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT):
                    return None
                value = values[kind] + b"," + value
            values[kind] = value
    return notes, values


def _kind(name: bytes) -> int:
    """What a noted field is whose name only begins like one of those we know."""
    if name.startswith(b"proxy"):  # `Proxy` alone: CGI would call it HTTP_PROXY (CVE-2016-5385)
        return HOP_BY_HOP
    return TWIN if b"_" in name else FORWARDED_REST


def _framing(values: dict[int, bytes], minor: int, failure: type[ProxyError]) -> int | None:
    """Content-Length, CHUNKED, or UNTIL_CLOSE where neither field stands (RFC 9112 6.3).

    None where only the reference lane may judge. Raises `failure`.
    """
    length = values.get(CONTENT_LENGTH)
    coding = values.get(TRANSFER_ENCODING)
    if coding is not None:
        if coding != b"chunked":
            return None
        if length is not None:
            raise failure("Content-Length with Transfer-Encoding (RFC 9112 6.3)")
        if minor == 0:
            raise failure("Transfer-Encoding in HTTP/1.0 (RFC 9112 6.1)")
        return CHUNKED
    if length is None:
        return UNTIL_CLOSE
    return int(length) if length.isdigit() and len(length) <= LENGTH_DIGITS else None


def request_facts(
    method: bytes, target: bytes, minor: int, block: bytes, size: int = 0
) -> RequestHead | None:
    """The policy: what is stricter than h11. None where only the reference lane may judge."""
    noted = _note(block, _NOTED_IN_REQUEST)
    if noted is None:
        return None
    notes, values = noted
    framing = 0
    if CONTENT_LENGTH in values or TRANSFER_ENCODING in values:
        judged = _framing(values, minor, ClientError)
        if judged is None:
            return None
        framing = judged
    host = values.get(HOST)
    if host is None:
        if minor:
            return None
        host = b""
    elif not is_host(host):
        raise ClientError("Host is not a valid host and port (RFC 9112 3.2)")
    expect = values.get(EXPECT)
    if expect is not None and expect.lower() != b"100-continue":
        raise ClientError("Expect: only 100-continue is known (RFC 9110 10.1.1)", 417)
    close, upgrade = minor == 0, b""
    nominated: tuple[bytes, ...] = ()
    options = values.get(CONNECTION)
    if options is not None and options != b"keep-alive":
        close, nominated, listed = _options(options, minor)
        if UPGRADE in values and b"upgrade" in listed:
            upgrade = _upgrade(method, minor, framing, values[UPGRADE])
    elif options is not None:
        close = False
    return RequestHead(
        method,
        target,
        minor,
        block,
        notes,
        framing,
        close,
        upgrade,
        expect is not None and minor > 0,
        host,
        nominated,
        size,
    )


def _response_facts(
    status: int, line: bytes, minor: int, block: bytes, size: int
) -> ResponseHead | None:
    """The policy for responses. None where only the reference lane may judge."""
    noted = _note(block, _NOTED_IN_RESPONSE)
    if noted is None:
        return None
    notes, values = noted
    framing = _framing(values, minor, UpstreamError)
    if framing is None:
        return None
    if framing == CHUNKED and (status < 200 or status == 204):
        raise UpstreamError(f"Transfer-Encoding in a {status} (RFC 9112 6.1)")
    close = minor == 0
    nominated: tuple[bytes, ...] = ()
    options = values.get(CONNECTION)
    if options is not None:
        close, nominated, _ = _options(options, minor)
    upgrade = values.get(UPGRADE, b"").lower()
    dated = DATE in values
    return ResponseHead(
        status, line, minor, block, notes, framing, close, upgrade, dated, nominated, size
    )


def _options(options: bytes, minor: int) -> tuple[bool, tuple[bytes, ...], set[bytes]]:
    """What a Connection field says: close it, which fields are for this hop only, and all of it."""
    listed = {option.strip() for option in options.lower().split(b",")}
    close = b"close" in listed or (minor == 0 and b"keep-alive" not in listed)
    return close, tuple(sorted(listed - _PLAIN_OPTIONS - _NOT_NOMINABLE)), listed


def _upgrade(method: bytes, minor: int, framing: int, upgrades: bytes) -> bytes:
    """The token that may be upgraded to, or empty: then the request goes on as a plain one."""
    tokens = {token.strip() for token in upgrades.lower().split(b",")}
    fit = b"websocket" in tokens and minor == 1 and method == b"GET" and framing == 0
    return b"websocket" if fit else b""


def _with_host(head: RequestHead, host: bytes) -> RequestHead:
    """The head with its Host replaced by the authority of its target (RFC 9112 3.2.2)."""
    low = b"\n" + head.block.lower()
    start = max(low.find(b"\nhost:"), 0)
    stop = low.find(b"\n", start + 1) if head.host else start
    block = head.block[:start] + b"Host: " + host + b"\r\n" + head.block[stop:]
    moved = request_facts(head.method, head.target, head.minor, block, head.size)
    assert moved is not None
    return moved
