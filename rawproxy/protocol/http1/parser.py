r"""The two lanes that read a message head.

    raw head ──► fast lane ── accepts a strict subset ──────────┐
        │           └─ anything else, unjudged ─┐               ├─► facts: our policy ──► Head
        └─ --parser h11 ──────────► reference lane (h11, the law) ┘

The fast lane is a compiled recogniser (`recogniser`). One match, and no DEL, say that nothing about
a head is unusual, and where its few facts stand. What it declines is cut off at its limits
(`head_limits`), read by h11, and judged by the policy (`head`).

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
from rawproxy.protocol.http import log_fields
from rawproxy.protocol.http.head import (
    CHUNKED,
    CONNECTION,
    TRANSFER_ENCODING,
    UNTIL_CLOSE,
    USUAL,
    Note,
    RequestHead,
    ResponseHead,
    has_no_body,
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

# Lines of usual fields, and where in the first of them its value begins.
_CLOSE: Final = len(b"connection: close\r\n")
_KEEP_ALIVE: Final = len(b"connection: keep-alive\r\n")
_CHUNKED: Final = len(b"transfer-encoding: chunked\r\n")
_OPTION: Final = len(b"connection: ")
_C: Final = 99  # in lower case; the other option begins with K


def _notes(connection: int, close: bool, chunked: int) -> list[Note]:
    """The notes of a head in which these lines begin at these places of its block, if at all."""
    notes = []
    if connection >= 0:
        stop = connection + (_CLOSE if close else _KEEP_ALIVE)
        notes.append((CONNECTION, connection, stop))
    if chunked >= 0:
        note = (TRANSFER_ENCODING, chunked, chunked + _CHUNKED)
        if chunked < connection:
            notes.insert(0, note)
        else:
            notes.append(note)
    return notes


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
            found = recognised(data, at)
            if found is not None:
                stop: int = found[0]
                size, line = stop - at, len(found[1]) + len(found[2])
                # To look for both signs of a line end is quicker than to look for one.
                if (line + 1 < longest and size <= most) and (
                    size - line < few or data.count(b"\r\n", at, stop) - 2 <= fields
                ):
                    head = recognised_request(data, found, at)
                    if head is not None:
                        return _told(head) if logged and head.told is None else head
        stop = find_request(data, limits, at)
        if not stop:
            return None
        head = reference_request(data[at:stop])
        return _told(head) if logged else head

    return parse


def _told(head: RequestHead) -> RequestHead:
    head.told = log_fields.told(head.block)  # it was just made, so nobody else has it
    return head


def response_parser(name: str, limits: Limits) -> Parser[ResponseHead]:
    """The function that reads responses with `--parser` `name`. It raises `UpstreamError`."""
    fast = name != "h11"
    recognised, most = recogniser.RESPONSE, limits.response_head

    def parse(data: bytes, at: int = 0) -> ResponseHead | None:
        if fast:
            found = recognised(data, at)
            if found is not None and found[0] - at <= most:
                head = recognised_response(data, found, at)
                if head is not None:
                    return head
        stop = find_response(data, limits, at)
        return reference_response(data[at:stop]) if stop else None

    return parse


def parse_request(raw: bytes) -> RequestHead:
    """A whole head, by either lane and whatever its size. Raises `ClientError`."""
    found = recogniser.REQUEST(raw, 0)
    head = recognised_request(raw, found, 0) if found is not None else None
    return reference_request(raw) if head is None else head


def parse_response(raw: bytes) -> ResponseHead:
    """A whole head, by either lane and whatever its size. Raises `UpstreamError`."""
    found = recogniser.RESPONSE(raw, 0)
    head = recognised_response(raw, found, 0) if found is not None else None
    return reference_response(raw) if head is None else head


def recognised_request(data: bytes, found: tuple[Any, ...], at: int) -> RequestHead | None:
    """The head that the recogniser found. None: only the reference lane may judge it."""
    stop: int = found[0]
    method: bytes = found[1]
    target: bytes = found[2]
    host: bytes | None = found[3]
    connection: int = found[4]
    length: int = found[5]
    chunked: int = found[6]
    other: int = found[-1]
    begin = at + len(method) + len(target) + _REST_OF_LINE
    block = data[begin : stop - 2]
    if recogniser.DELETE in block:
        return None
    size = stop - at
    if other >= 0 or host is None or (chunked >= 0 and length >= 0):
        return request_facts(method, target, 1, block, size)
    close = connection >= 0 and data[connection + _OPTION] | 32 == _C
    notes = _notes(connection - begin, close, chunked - begin)
    framing = CHUNKED if chunked >= 0 else max(length, 0)
    told = found[7:-1] or None
    return RequestHead(
        method, target, 1, block, notes, framing, close, b"", False, host, (), size, told
    )


def recognised_response(data: bytes, found: tuple[Any, ...], at: int) -> ResponseHead | None:
    """The head that the recogniser found. None: only the reference lane may judge it."""
    stop: int = found[0]
    status: int = found[1]
    reason: int = found[2]
    length: int = found[3]
    connection: int = found[4]
    chunked: int = found[5]
    date: int = found[6]
    other: int = found[7]
    begin = reason + 2
    block = data[begin : stop - 2]
    if recogniser.DELETE in block:
        return None
    line = data[at:begin]
    size = stop - at
    framed = length >= 0 or chunked >= 0
    bare = status != USUAL and has_no_body(status)
    if other >= 0 or (framed and (bare or (length >= 0 and chunked >= 0))):
        return response_facts(status, line, 1, block, size)
    close = connection >= 0 and data[connection + _OPTION] | 32 == _C
    notes = _notes(connection - begin, close, chunked - begin)
    framing = CHUNKED if chunked >= 0 else UNTIL_CLOSE if length < 0 else length
    head = ResponseHead(status, line, 1, block, notes, framing, close, b"", date >= 0, (), size)
    # Nothing is to be cut or added: a keep-alive is then as true of the client's connection.
    head.unchanged = not close and chunked < 0 and date >= 0
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
