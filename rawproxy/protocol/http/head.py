r"""Message heads: what was read, and the policy that decides whether it may go on.

A head is kept as bytes. The *block* is the run of `Name: value\r\n` lines; each has one space after
its colon and no blank at its end. To look a field up, or to cut one out, takes a few fast searches,
and nothing is built for fields that nobody asks for. The facts that matter to a proxy are found
once, by `request_facts` and `response_facts`, whoever read the head: one of the lanes (`parser`),
or HTTP/2 (`fields`). Their policy is stricter than that of h11.

This module never sees a body, a socket or a clock. Invariant: the facts depend only on the block
and the start line. Raises `ClientError` for requests and `UpstreamError` for responses, nothing
else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from rawproxy.config.field_names import IDENTITY as _IDENTITY_NAMES
from rawproxy.config.field_names import identifies, plain, speaks
from rawproxy.errors import ClientError, ProxyError, UpstreamError
from rawproxy.protocol.http.message import Note as Note
from rawproxy.protocol.http.message import RequestHead as RequestHead
from rawproxy.protocol.http.message import ResponseHead as ResponseHead
from rawproxy.protocol.http.target import is_host

# Framing of a body: a Content-Length, or one of these (RFC 9112 6.3).
CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2

USUAL: Final = 200  # the status of most responses: nothing more need be asked of it

HTTP2: Final = 2  # in the place of the minor version of HTTP/1

made: Final[Any] = tuple.__new__  # that of a named tuple is a slower Python function

# What a noted field means to us. The first three stay as they are, so their place is not noted.
HOST: Final = 1
CONTENT_LENGTH: Final = 2
DATE: Final = 3
CONNECTION: Final = 4
TRANSFER_ENCODING: Final = 5
UPGRADE: Final = 6
EXPECT: Final = 7
HOP_BY_HOP: Final = 8
FORWARDED_FOR: Final = 9
FORWARDED_KEPT: Final = 10
FORWARDED_REST: Final = 11
TWIN: Final = 12  # a name with `_` for `-`, whose other spelling means something
HSTS: Final = 13  # responses only
IDENTITY: Final = 14
UNDERSCORED: Final = 15  # any other name with an underscore
AUTHORIZATION: Final = -1  # of a connection, not of a request: NTLM, Negotiate (RFC 4559 6)

LENGTH_DIGITS: Final = 18  # of a Content-Length: below 2**63; longer ones cost no time

_Noted = Callable[[bytes], Iterator[re.Match[bytes]]]

# One group, so that the engine rejects most names by their first letters.
_NOTED_IN_REQUEST: Final = re.compile(
    rb"\n(host|connection|content-length|transfer-encoding|upgrade|expect|keep-alive|te"
    rb"|proxy(?:-[^:_\r\n]*)?|forwarded|x-forwarded-[^:_\r\n]*|x-real-ip"
    rb"|authorization(?=: (?:ntlm|negotiate)[ \r])|" + _IDENTITY_NAMES + rb"):"
).finditer
_UNDERSCORED: Final = re.compile(rb"\n([^:_\n]*+_[^:\n]*+):").finditer
_NOTED_IN_RESPONSE: Final = re.compile(
    rb"\n(connection|content-length|transfer-encoding|upgrade|keep-alive|te|proxy-[^:\r\n]*"
    rb"|strict-transport-security|date):"
).finditer
_KIND: Final[dict[bytes, int]] = {
    b"host": HOST, b"connection": CONNECTION, b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING, b"upgrade": UPGRADE, b"expect": EXPECT,
    b"keep-alive": HOP_BY_HOP, b"te": HOP_BY_HOP, b"x-forwarded-for": FORWARDED_FOR,
    b"x-forwarded-proto": FORWARDED_KEPT, b"x-forwarded-host": FORWARDED_KEPT,
    b"forwarded": FORWARDED_KEPT, b"x-real-ip": FORWARDED_REST,
    b"strict-transport-security": HSTS, b"date": DATE, b"authorization": AUTHORIZATION,
}  # fmt: skip

# Connection options that name no field, or whose fields are always cut anyway.
_PLAIN_OPTIONS: Final = frozenset(
    (b"keep-alive", b"close", b"upgrade", b"te", b"transfer-encoding", b"")
)
# If Connection names one of these, it stays: we write these fields ourselves (RFC 9110 7.6.1).
_NOT_NOMINABLE: Final = frozenset((b"host", b"content-length", b"connection", b"expect"))


def response_framing(head: ResponseHead, method: bytes) -> int:
    """How the body of a response to `method` is framed (RFC 9112 6.3)."""
    status = head.status
    if method == b"HEAD" or (status != USUAL and has_no_body(status)):
        return 0
    return head.framing


def has_no_body(status: int) -> bool:
    """Whether a response with this status ends with its head (RFC 9112 6.3, rule 1)."""
    return status < 200 or status == 204 or status == 304


def unframed(lines: bytes) -> tuple[bytes, bool]:
    """The lines without the fields that frame a body; and whether such a field says that one comes.

    Some servers say so and send no body. Their response is passed on without those fields. But a
    connection that may bring a body which nobody expects is not used again.
    """
    kept: list[bytes] = []
    says_body = False
    for line in lines.split(b"\r\n"):
        name, _, value = line.partition(b":")
        name = name.lower()
        if name == b"transfer-encoding":
            says_body = True
        elif name == b"content-length":
            says_body = says_body or value.strip(b" \t").strip(b"0") != b"" or b"0" not in value
        else:
            kept.append(line)
    return b"\r\n".join(kept), says_body


def _note(block: bytes, noted: _Noted) -> tuple[list[Note], dict[int, bytes]] | None:
    """The noted fields of a block: where each stands, and the values of those that frame it.

    None if a field stands twice that must not: only the reference lane may judge that.
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


def _start(note: Note) -> int:
    return note[1]


def _kind(name: bytes) -> int:
    """The kind of a noted field whose name only begins like one that we know."""
    if name.startswith(b"proxy"):  # `Proxy` alone: CGI would call it HTTP_PROXY (CVE-2016-5385)
        return HOP_BY_HOP
    return IDENTITY if identifies(name) else FORWARDED_REST


def _twins(low: bytes) -> list[Note]:
    """The fields with an underscore in their name. `low` is as in `_note`."""
    notes: list[Note] = []
    for match in _UNDERSCORED(low):
        start, after = match.span()
        kind = TWIN if speaks(plain(match[1])) else UNDERSCORED
        notes.append((kind, start, low.find(b"\n", after)))
    return notes


def _framing(values: dict[int, bytes], minor: int, failure: type[ProxyError]) -> int | None:
    """Content-Length, CHUNKED, or UNTIL_CLOSE if there is neither field (RFC 9112 6.3).

    None if only the reference lane may judge. Raises `failure`.
    """
    length = values.get(CONTENT_LENGTH)
    coding = values.get(TRANSFER_ENCODING)
    if coding is not None:
        if length is not None:
            raise failure("Content-Length with Transfer-Encoding (RFC 9112 6.3)")
        if coding != b"chunked":
            return None
        if minor == 0:
            raise failure("Transfer-Encoding in HTTP/1.0 (RFC 9112 6.1)")
        return CHUNKED
    if length is None:
        return UNTIL_CLOSE
    return int(length) if length.isdigit() and len(length) <= LENGTH_DIGITS else None


def request_facts(
    method: bytes,
    target: bytes,
    minor: int,
    block: bytes,
    size: int = 0,
    *,
    underscored: bool = True,
) -> RequestHead | None:
    """The policy for requests: it is stricter than h11. None: only the reference lane may judge.

    `underscored`: whether names may have an underscore in this head.
    """
    noted = _note(block, _NOTED_IN_REQUEST)
    if noted is None:
        return None
    notes, values = noted
    if underscored and (twins := _twins(b"\n" + block.lower())):
        notes = sorted(notes + twins, key=_start)
    framing = 0
    if CONTENT_LENGTH in values or TRANSFER_ENCODING in values:
        judged = _framing(values, minor, ClientError)
        if judged is None:
            return None
        framing = judged
    host = values.get(HOST)
    if host is None and minor:
        return None
    if host is not None and not is_host(host):
        raise ClientError("Host is not a valid host and port (RFC 9112 3.2)")
    expect = values.get(EXPECT)
    if expect is not None and expect.lower() != b"100-continue":
        raise ClientError("Expect: only 100-continue is known (RFC 9110 10.1.1)", 417)
    close, nominated, upgrade, offered = _wishes(method, minor, framing, values)
    expects = expect is not None and minor > 0
    return RequestHead(
        method, target, minor, block, notes, framing, close, upgrade, expects, host or b"",
        nominated, size, None, offered, AUTHORIZATION in values,
    )  # fmt: skip


def response_facts(
    status: int, line: bytes, minor: int, block: bytes, size: int
) -> ResponseHead | None:
    """The policy for responses. None: only the reference lane may judge."""
    says_body = False
    if has_no_body(status):
        block, says_body = unframed(block)
    noted = _note(block, _NOTED_IN_RESPONSE)
    if noted is None:
        return None
    notes, values = noted
    framing = _framing(values, minor, UpstreamError)
    if framing is None:
        return None
    close = minor == 0
    nominated: tuple[bytes, ...] = ()
    options = values.get(CONNECTION)
    if options is not None:
        close, nominated, _ = _options(options, minor)
    close = close or says_body
    upgrade = values.get(UPGRADE, b"").lower()
    dated = DATE in values
    return ResponseHead(
        status, line, minor, block, notes, framing, close, upgrade, dated, nominated, size
    )


def _wishes(
    method: bytes, minor: int, framing: int, values: dict[int, bytes]
) -> tuple[bool, tuple[bytes, ...], bytes, bytes]:
    """What Connection and Upgrade say: `close`, `nominated`, `upgrade` and `offered` of a head."""
    options = values.get(CONNECTION)
    if options is None or options == b"keep-alive":
        return minor == 0 and options is None, (), b"", b""
    close, nominated, listed = _options(options, minor)
    if UPGRADE not in values or b"upgrade" not in listed:
        return close, nominated, b"", b""
    upgrade = _upgrade(method, minor, framing, values[UPGRADE])
    offered = values[UPGRADE].lower() if minor == 1 and not upgrade else b""
    return close, nominated, upgrade, offered


def _options(options: bytes, minor: int) -> tuple[bool, tuple[bytes, ...], set[bytes]]:
    """What a Connection field says: whether to close, which fields it names, and all options."""
    listed = {option.strip() for option in options.lower().split(b",")}
    close = b"close" in listed or (minor == 0 and b"keep-alive" not in listed)
    return close, tuple(sorted(listed - _PLAIN_OPTIONS - _NOT_NOMINABLE)), listed


def _upgrade(method: bytes, minor: int, framing: int, upgrades: bytes) -> bytes:
    """The token to which the request may be upgraded; empty: it goes on as a plain one."""
    tokens = {token.strip() for token in upgrades.lower().split(b",")}
    fit = b"websocket" in tokens and minor == 1 and method == b"GET" and framing == 0
    return b"websocket" if fit else b""
