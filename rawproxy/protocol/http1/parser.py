r"""The two lanes that read a message head.

    raw head ──► fast lane ── accepts a strict subset ──────────┐
        │           └─ anything else, unjudged ─┐               ├─► facts: our policy ──► Head
        └─ --parser h11 ──────────► reference lane (h11, the law) ┘

The fast lane is a compiled recogniser (`recogniser`). One match says that nothing about a head is
unusual, and where its few facts stand. What it declines is cut off at its limits (`head_limits`),
read by h11, and judged by the policy (`head`).

This module never sees a body, a socket or a clock. Invariants: for every input, each lane that
accepts it gives the same `RequestHead` or `ResponseHead`. The fast lane never judges, it only
declines. Raises `ClientError` for requests and `UpstreamError` for responses, nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import h11

from rawproxy.config.model import Limits
from rawproxy.errors import DETAIL, ClientError, UpstreamError
from rawproxy.protocol import regex
from rawproxy.protocol.http import log_fields
from rawproxy.protocol.http.head import (
    CHUNKED,
    CONNECTION,
    TRANSFER_ENCODING,
    UNTIL_CLOSE,
    Note,
    RequestHead,
    ResponseHead,
    has_no_body,
    made,
    request_facts,
    response_facts,
    unframed,
)
from rawproxy.protocol.http.target import origin_form
from rawproxy.protocol.http1 import recogniser
from rawproxy.protocol.http1.head_limits import find_request, find_response

H = TypeVar("H")
# Of a start line that the fast lane takes, beside what its groups have. To ask a match where they
# end costs more than to add up.
_REST_OF_LINE: Final = len(b"  HTTP/1.1\r\n")
_BEFORE_REASON: Final = len(b"HTTP/1.1 200 ")

# No line end that is not CRLF, no control character, no folded line: RFC 9112 2.2, 5.2, 9110 5.5.
# To match what is good takes a hundredth of the time of a search for what is not.
_CLEAN: Final = re.compile(rb"(?:[\t -~\x80-\xff]++|\r\n(?![\t ]))*").fullmatch
_START_LINE: Final = re.compile(
    rb"(" + recogniser.TOKEN + rb"+) ([!-~]+) HTTP/([0-9])\.([0-9])\r\n"
).match
# A version is two digits (RFC 9112 2.3): whoever types but one of them means what we do not speak,
# unless it is 1.
_OTHER_VERSION: Final = re.compile(rb"[^\r\n]* HTTP/[02-9](?:\.[0-9])?\r\n").match
_WITHOUT_BODY: Final = re.compile(rb"HTTP/1\.[01] (?:1[0-9][0-9]|[23]04)[ \r]").match
# b'...' and bytearray(b'...'), to their end or to where the text was cut.
_QUOTED: Final = re.compile(
    r"(?:bytearray\()?\bb(['\"])((?:[^\\'\"]|\\.|(?!\1)['\"])*)(?:\1\)?)?"
).sub

_CLOSE: Final = len(b"connection: close")


def _position(note: Note) -> int:
    return note[1]


def _at(kind: int, stop: int, line: bytes) -> Note:
    """The note of a field whose line ends at `stop` in the block; its line end belongs to it."""
    return kind, stop - len(line), stop + 2


def _number(digits: bytes) -> int:
    """The same as `int`, which takes five times as long. The recognisers limit the digits."""
    value = 0
    for digit in digits:
        value = value * 10 + digit - 48
    return value


Parser = Callable[[bytes, int], H | None]  # the head at this place; None while it is not whole


def request_parser(name: str, limits: Limits, logged: bool = False) -> Parser[RequestHead]:
    """The function that reads requests with `--parser` `name`. It raises `ClientError`.

    `logged`: it also finds what an access log shows of a head.
    """
    fast = name != "h11"
    recognised = recogniser.LOGGED_REQUEST if logged else recogniser.REQUEST
    most, longest, fields = limits.head, limits.start_line, limits.fields
    few = fields * len(b"a: \r\n")  # bytes in which there cannot be too many

    def parse(data: bytes, at: int = 0) -> RequestHead | None:
        if fast:
            match = recognised(data, at)
            if match is not None:
                groups, stop = match.groups(), match.end()
                size, line = stop - at, len(groups[0]) + len(groups[1])
                # To look for both signs of a line end is quicker than to look for one.
                if (line + 1 < longest and size <= most) and (
                    size - line < few or data.count(b"\r\n", at, stop) - 2 <= fields
                ):
                    head = recognised_request(data, match, groups, at, stop)
                    if head is not None:
                        return _told(head) if logged and head.told is None else head
        stop = find_request(data, limits, at)
        if not stop:
            return None
        head = reference_request(data[at:stop])
        return _told(head) if logged else head

    return parse


def _told(head: RequestHead) -> RequestHead:
    return head._replace(told=log_fields.told(head.block))


def response_parser(name: str, limits: Limits) -> Parser[ResponseHead]:
    """The function that reads responses with `--parser` `name`. It raises `UpstreamError`."""
    fast = name != "h11"
    recognised, most = recogniser.RESPONSE, limits.response_head

    def parse(data: bytes, at: int = 0) -> ResponseHead | None:
        if fast:
            match = recognised(data, at)
            if match is not None:
                stop = match.end()
                if stop - at <= most:
                    head = recognised_response(data, match, at, stop)
                    if head is not None:
                        return head
        stop = find_response(data, limits, at)
        return reference_response(data[at:stop]) if stop else None

    return parse


def parse_request(raw: bytes) -> RequestHead:
    """A whole head, by either lane and whatever its size. Raises `ClientError`."""
    match = recogniser.REQUEST(raw, 0)
    head = None
    if match is not None:
        head = recognised_request(raw, match, match.groups(), 0, match.end())
    return reference_request(raw) if head is None else head


def parse_response(raw: bytes) -> ResponseHead:
    """A whole head, by either lane and whatever its size. Raises `UpstreamError`."""
    match = recogniser.RESPONSE(raw, 0)
    head = recognised_response(raw, match, 0, match.end()) if match is not None else None
    return reference_response(raw) if head is None else head


def recognised_request(
    data: bytes, match: regex.Found, groups: tuple[Any, ...], at: int, stop: int
) -> RequestHead | None:
    """The head that the recogniser found. None: only the reference lane may judge it."""
    method: bytes = groups[0]
    target: bytes = groups[1]
    host, length, chunked = groups[2], groups[4], groups[5]
    connection: bytes | None = groups[3]
    told = groups[6:-1] or None
    begin = at + len(method) + len(target) + _REST_OF_LINE
    block = data[begin : stop - 2]
    size = stop - at
    if groups[-1] is not None or host is None or (chunked is not None and length is not None):
        return request_facts(method, target, 1, block, size)
    notes = []
    close = False
    if connection is not None:
        notes.append(_at(CONNECTION, match.end(4) - begin, connection))
        close = len(connection) == _CLOSE
    framing = 0 if length is None else _number(length)
    if chunked is not None:
        framing = CHUNKED
        notes.append(_at(TRANSFER_ENCODING, match.end(6) - begin, chunked))
        notes.sort(key=_position)
    head: RequestHead = made(
        RequestHead,
        (
            method,
            target,
            1,
            block,
            notes,
            framing,
            close,
            b"",
            False,
            host,
            (),
            size,
            told,
            b"",
            False,
        ),
    )
    return head


def recognised_response(data: bytes, match: regex.Found, at: int, stop: int) -> ResponseHead | None:
    """The head that the recogniser found. None: only the reference lane may judge it."""
    groups = match.groups()
    reason: bytes = groups[1]
    connection: bytes | None = groups[3]
    length, chunked, date, other = groups[2], groups[4], groups[5], groups[6]
    begin = at + len(reason) + _BEFORE_REASON + 2
    block = data[begin : stop - 2]
    line = data[at:begin]
    size = stop - at
    status = _number(groups[0])
    framed = length is not None or chunked is not None
    if other is not None or (
        framed and (has_no_body(status) or (length is not None and chunked is not None))
    ):
        return response_facts(status, line, 1, block, size)
    notes = []
    close = False
    if connection is not None:
        notes.append(_at(CONNECTION, match.end(4) - begin, connection))
        close = len(connection) == _CLOSE
    framing = UNTIL_CLOSE if length is None else _number(length)
    if chunked is not None:
        framing = CHUNKED
        notes.append(_at(TRANSFER_ENCODING, match.end(5) - begin, chunked))
        notes.sort(key=_position)
    head: ResponseHead = made(
        ResponseHead,
        (status, line, 1, block, notes, framing, close, b"", date is not None, (), size),
    )
    return head


def reference_request(raw: bytes) -> RequestHead:
    """A request head as h11 reads it; `--parser h11` uses this alone. Raises `ClientError`."""
    if not _CLEAN(raw):
        raise ClientError("a control character, a bare line end or a folded line in the head")
    line = _START_LINE(raw)
    if line is not None and line[3] + line[4] not in (b"10", b"11"):
        raise ClientError("only HTTP/1.0 and HTTP/1.1 are spoken here", 505)
    if line is None:
        raise ClientError("not an HTTP request line", 505 if _OTHER_VERSION(raw) else 400)
    law = h11.Connection(h11.SERVER, max_incomplete_event_size=len(raw) + 1)
    try:
        law.receive_data(raw)
        event = law.next_event()
    except h11.RemoteProtocolError as error:
        detail, status = _plain(error), error.error_status_hint
        raise (_coding(raw) or ClientError(detail, status)) from None
    assert isinstance(event, h11.Request), event
    target, host = origin_form(event.method, event.target)
    block = b"".join([b"%b: %b\r\n" % pair for pair in event.headers.raw_items()])
    head = request_facts(event.method, target, int(event.http_version[2:]), block, len(raw))
    if head is None:
        raise ClientError("a field that frames the message is not in its plain form")
    return head if host is None else _with_host(head, host)


def reference_response(raw: bytes) -> ResponseHead:
    """A response head as h11 reads it. Raises `UpstreamError`."""
    if not _CLEAN(raw):
        raise UpstreamError("a control character, bare line end or folded line in the response")
    size, says_body = len(raw), False
    if _WITHOUT_BODY(raw):  # h11 judges what frames nothing here
        raw, says_body = unframed(raw)
    law = h11.Connection(h11.CLIENT, max_incomplete_event_size=size + 1)
    # h11 reads a response only to a request; this one makes every status legal, 101 included.
    offer = [("host", "h"), ("connection", "upgrade"), ("upgrade", "websocket")]
    law.send(h11.Request(method="GET", target="/", headers=offer))
    law.send(h11.EndOfMessage())
    try:
        law.receive_data(raw)
        event = law.next_event()
    except h11.RemoteProtocolError as error:
        raise UpstreamError(f"the response head is malformed: {_plain(error)}") from None
    assert isinstance(event, h11.Response | h11.InformationalResponse), event
    if event.http_version not in (b"1.0", b"1.1"):
        raise UpstreamError(f"the response is HTTP/{event.http_version.decode()}")
    block = b"".join([b"%b: %b\r\n" % pair for pair in event.headers.raw_items()])
    minor = int(event.http_version[2:])
    line = b"HTTP/1.1 %d %b\r\n" % (event.status_code, event.reason)
    head = response_facts(event.status_code, line, minor, block, size)
    if head is None:
        raise UpstreamError("a field that frames the response is not in its plain form")
    return head._replace(close=True) if says_body else head


def _coding(raw: bytes) -> ClientError | None:
    """What is worse about a Transfer-Encoding than that it is unknown here; None if nothing is.

     Beside a Content-Length it is a way to smuggle requests. And if another coding stands behind
    `chunked`, nobody knows where the body ends (RFC 9112 6.1, 6.3).
    """
    fields = [line.partition(b":") for line in raw.lower().split(b"\r\n")[1:]]
    values = [value for name, _, value in fields if name == b"transfer-encoding"]
    codings = [coding.strip(b" \t") for coding in b",".join(values).split(b",")]
    if values and any(name == b"content-length" for name, _, _ in fields):
        return ClientError("Content-Length with Transfer-Encoding (RFC 9112 6.3)")
    codings = [coding for coding in codings if coding]
    if b"chunked" in codings and codings[-1] != b"chunked":
        return ClientError("chunked is not the last Transfer-Encoding (RFC 9112 6.3)")
    return None


def _plain(error: Exception) -> str:
    """The words of h11, with the peer's bytes as text: h11 quotes them as Python writes them."""
    return _QUOTED(r'"\2"', str(error)[:DETAIL])


def _with_host(head: RequestHead, host: bytes) -> RequestHead:
    """The head with the authority of its target as its Host (RFC 9112 3.2.2)."""
    low = b"\n" + head.block.lower()
    start = max(low.find(b"\nhost:"), 0)
    stop = low.find(b"\n", start + 1) if head.host else start
    block = head.block[:start] + b"Host: " + host + b"\r\n" + head.block[stop:]
    moved = request_facts(head.method, head.target, head.minor, block, head.size)
    assert moved is not None
    return moved
