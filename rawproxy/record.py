"""The facts of one exchange: counters, and the line of the access log.

    combined   as nginx and Apache have it
    extended   combined, then the id, the upstream, the timings, retries, TLS version, bytes in
    json       all of that, an object in each line

Formatting happens in the event loop, at 1 to 2 µs a line: a thread that formats batches would hold
the interpreter's lock for milliseconds while requests wait. It never writes, and never looks at a
clock: `stamp` is an argument. Invariant: whatever bytes a client sends, a line of the log is one
line, and its quotes are ours (log injection is impossible).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from .head import RequestHead
from .rewrite import Hop, client_of

_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
# As nginx escapes: control characters, what is not ASCII, the quote and the backslash.
_UNSAFE = re.compile(rb'[\x00-\x1f"\\\x7f-\xff]')
# All other bytes. What is left of a line without them should be the format's own quotes: one pass
# in C over the whole line, where a search in each field would cost more than formatting.
_SAFE = bytes(byte for byte in range(256) if not _UNSAFE.match(bytes((byte,))))
VERSIONS = (b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0")  # by `RequestHead.minor`

_COMBINED = b'%b - %b [%b] "%b %b %b" %d %d "%b" "%b"\n'
_COMBINED_QUOTES = b'"' * 6 + b"\n"
_EXTENDED = (
    _COMBINED[:-1] + b" id=%b upstream=%b connect_us=%d first_us=%d total_us=%d retries=%d"
    b" tls=%b in=%d\n"
)
_JSON = (
    b'{"time":"%b","id":"%b","client":"%b","user":"%b","method":"%b","scheme":"%b","host":"%b",'
    b'"target":"%b","protocol":"%b","tls":"%b","status":%d,"bytes_in":%d,"bytes_out":%d,'
    b'"referer":"%b","agent":"%b","upstream":"%b","connect_us":%d,"first_us":%d,"total_us":%d,'
    b'"retries":%d}\n'
)
_JSON_QUOTES = b'"' * _JSON.count(b'"') + b"\n"


class Counters:
    """Plain integers; one set for each worker."""

    __slots__ = (
        "accepted", "begun", "h2_faults", "handshakes", "handshakes_failed", "protocols", "refused",
        "requests", "resumed", "retries", "tunnel_in", "tunnel_out", "tunnels", "tunnels_begun",
    )  # fmt: skip

    def __init__(self) -> None:
        self.accepted = 0  # connections of clients that a listener let in
        self.refused = 0  # and those beyond --limit connections or per-client
        self.begun = 0  # exchanges; counted only where somebody watches
        self.requests = 0  # exchanges that have ended, however
        self.protocols = [0, 0, 0]  # the same by HTTP version, as `VERSIONS`
        self.retries = 0  # requests sent again over a fresh connection
        self.tunnels = 0  # open now
        self.tunnels_begun = 0
        self.tunnel_in = 0  # bytes from clients, in tunnels
        self.tunnel_out = 0
        self.handshakes = 0  # TLS handshakes of clients that came to their end
        self.resumed = 0  # and resumed a session
        self.handshakes_failed = 0
        self.h2_faults = 0  # HTTP/2 connections that were closed because of what they sent


_FACTS = (
    "attempts", "began", "dialled", "ended", "endpoint", "first", "id", "received", "retried",
    "sent", "status",
)  # fmt: skip


class Facts:
    """What the log and the meter want to know of one exchange; the exchange itself is one.

    Nothing is set here: where nobody watches, nothing is paid for.
    """

    __slots__ = _FACTS

    id: bytes  # empty: none was needed
    endpoint: Any  # with a `tally` and a `label`
    began: float  # on the monotonic clock, as all these; 0: nobody wants timings
    dialled: float  # seconds that a new connection took; 0: there was an idle one
    first: float  # when the response's head came; 0: it did not
    ended: float
    received: int  # bytes of the request's body
    attempts: int  # upstreams that could not be reached
    retried: bool  # over a fresh connection, after an idle one had died
    status: int  # as the client was told
    sent: int  # bytes of the response's body


Line = Callable[[RequestHead, Hop, Facts, bytes], bytes]


def keep(facts: Facts) -> Facts:
    """The same for a tunnel, which may last for days and should not hold the exchange."""
    kept = Facts()
    for name in _FACTS:
        if hasattr(facts, name):
            setattr(kept, name, getattr(facts, name))
    return kept


def combined(head: RequestHead, hop: Hop, facts: Facts, stamp: bytes) -> bytes:
    """One line in nginx's and Apache's combined format."""
    line = _COMBINED % _combined(head, hop, facts, stamp)
    if line.translate(None, _SAFE) != _COMBINED_QUOTES:
        line = _COMBINED % _escaped(_combined(head, hop, facts, stamp), escape)
    return line


def extended(head: RequestHead, hop: Hop, facts: Facts, stamp: bytes) -> bytes:
    """The combined line, then what nginx users add to it by hand."""
    values = (
        *_combined(head, hop, facts, stamp),
        facts.id or b"-",
        facts.endpoint.label or b"-",
        *_times(facts),
        facts.attempts + facts.retried,
        hop.tls or b"-",
        facts.received,
    )
    line = _EXTENDED % values
    if line.translate(None, _SAFE) != _COMBINED_QUOTES:
        line = _EXTENDED % _escaped(values, escape)
    return line


def as_json(head: RequestHead, hop: Hop, facts: Facts, stamp: bytes) -> bytes:
    """One JSON object."""
    user, referer, agent = _said(head.block)
    values = (
        stamp, facts.id, client_of(head, hop) if hop.trusted else hop.peer, user, head.method,
        hop.scheme, head.host, head.target, VERSIONS[head.minor], hop.tls, facts.status,
        facts.received, facts.sent, referer, agent, facts.endpoint.label, *_times(facts),
        facts.attempts + facts.retried,
    )  # fmt: skip
    line = _JSON % values
    if line.translate(None, _SAFE) != _JSON_QUOTES:
        line = _JSON % _escaped(values, _json_escape)
    return line


def _combined(head: RequestHead, hop: Hop, facts: Facts, stamp: bytes) -> tuple[Any, ...]:
    user, referer, agent = _said(head.block)
    return (
        client_of(head, hop) if hop.trusted else hop.peer,
        user or b"-",
        stamp,
        head.method,
        head.target,
        VERSIONS[head.minor],
        facts.status,
        facts.sent,
        referer or b"-",
        agent or b"-",
    )


def _said(block: bytes) -> tuple[bytes, bytes, bytes]:
    """User, Referer and User-Agent: the block is made lower case once for all three."""
    low = b"\n" + block.lower()
    find = low.find
    user = referer = agent = b""
    # The "\n" in front of a field has, in `low`, the number of the field's first byte in the block.
    at = find(b"\nuser-agent: ")
    if at >= 0:
        agent = block[at + 12 : find(b"\r", at) - 1]
    at = find(b"\nreferer: ")
    if at >= 0:
        referer = block[at + 9 : find(b"\r", at) - 1]
    at = find(b"\nauthorization: ")
    if at >= 0:
        user = basic_user(block[at + 15 : find(b"\r", at) - 1])
    return user, referer, agent


def _times(facts: Facts) -> tuple[int, int, int]:
    """Microseconds for the connection, to the first byte, in total."""
    began, first = facts.began, facts.first
    return (
        int(facts.dialled * 1e6),
        int((first - began) * 1e6) if first else 0,
        int((facts.ended - began) * 1e6) if began else 0,
    )


def _escaped(values: tuple[Any, ...], by: Callable[[bytes], bytes]) -> tuple[Any, ...]:
    return tuple(by(value) if isinstance(value, bytes) else value for value in values)


def _json_escape(value: bytes) -> bytes:
    r"""What is no UTF-8 becomes \\xHH, within a JSON string."""
    return json.dumps(value.decode("utf-8", "backslashreplace"))[1:-1].encode()


def escape(value: bytes) -> bytes:
    r"""`value` with every byte that could end its field written as \\xHH."""
    if _UNSAFE.search(value) is None:
        return value
    return _UNSAFE.sub(lambda match: b"\\x%02X" % match[0][0], value)


def stamp(now: float, offset: int) -> bytes:
    """`now` (seconds since 1970) as $time_local, `offset` seconds east of UTC; any locale."""
    t = datetime.fromtimestamp(now + offset, UTC)
    sign = "-" if offset < 0 else "+"
    hours, minutes = divmod(abs(offset) // 60, 60)
    clock = f"{t.year}:{t.hour:02}:{t.minute:02}:{t.second:02}"
    return f"{t.day:02}/{_MONTHS[t.month - 1]}/{clock} {sign}{hours:02}{minutes:02}".encode()


def iso_stamp(now: float, offset: int) -> bytes:
    """`now` as RFC 3339 has it, for JSON."""
    return (
        datetime.fromtimestamp(int(now), timezone(timedelta(seconds=offset))).isoformat().encode()
    )


def basic_user(authorization: bytes) -> bytes:
    """The user of a Basic Authorization value (RFC 7617), or empty."""
    scheme, _, token = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return b""
    try:
        return base64.b64decode(token.strip(), validate=True).partition(b":")[0]
    except binascii.Error:
        return b""


# --log-format: how a line is made, and its time.
FORMATS: dict[str, tuple[Line, Callable[[float, int], bytes]]] = {
    "combined": (combined, stamp),
    "extended": (extended, stamp),
    "json": (as_json, iso_stamp),
}
