"""The facts of one exchange: counters, and the line of the access log.

    combined   as nginx and Apache have it
    extended   combined, then the id, the upstream, the timings, retries, TLS version, bytes in
    json       all of that, an object in each line

Formatting happens in the event loop, at 1 to 2 µs a line, for as many exchanges at once as have
ended: a thread that formats would hold the interpreter's lock while requests wait. It never writes,
and never looks at a clock: `stamp` is an argument. Invariant: whatever bytes a client sends, a line
of the log is one line, and its quotes are ours (log injection is impossible).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NamedTuple

from .head import RequestHead
from .rewrite import Hop, client_of

_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
# As nginx escapes: control characters, what is not ASCII, the quote and the backslash.
_UNSAFE = re.compile(rb'[\x00-\x1f"\\\x7f-\xff]')
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]").search
VERSIONS = (b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0")  # by `RequestHead.minor`

_COMBINED = b'%b - %b [%b] "%b %b %b" %d %d "%b" "%b"\n'
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
    ended: float  # 0: not yet
    received: int  # bytes of the request's body
    attempts: int  # upstreams that could not be reached
    retried: bool  # over a fresh connection, after an idle one had died
    status: int  # as the client was told
    sent: int  # bytes of the response's body


Ended = tuple[RequestHead, Hop, Facts]  # one exchange that has
Values = Callable[[RequestHead, Hop, Facts, bytes], tuple[Any, ...]]


class Format(NamedTuple):
    """A `--log-format`."""

    form: bytes  # of a line
    quotes: int  # in it
    values: Values
    escape: Callable[[bytes], bytes]
    stamp: Callable[[float, int], bytes]  # how it writes the time


def keep(facts: Facts) -> Facts:
    """The same for a tunnel, which may last for days and should not hold the exchange."""
    kept = Facts()
    for name in _FACTS:
        if hasattr(facts, name):
            setattr(kept, name, getattr(facts, name))
    return kept


def lines(form: Format, ended: list[Ended], stamp: bytes) -> bytes:
    """A line for each of these."""
    line, values = form.form, form.values
    text = b"".join([line % values(head, hop, facts, stamp) for head, hop, facts in ended])
    # Of what is to be escaped, a head has but the tab, these two and what is not ASCII. To look for
    # them in all lines at once takes a tenth of the time of formatting one.
    plain = text.isascii() and b"\\" not in text and b"\t" not in text
    count = len(ended)
    if plain and text.count(b'"') == count * form.quotes and text.count(b"\n") == count:
        return text
    return b"".join([_escaped(form, values(head, hop, facts, stamp)) for head, hop, facts in ended])


def _escaped(form: Format, values: tuple[Any, ...]) -> bytes:
    by = form.escape
    return form.form % tuple([by(one) if isinstance(one, bytes) else one for one in values])


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


def _extended(head: RequestHead, hop: Hop, facts: Facts, stamp: bytes) -> tuple[Any, ...]:
    return (
        *_combined(head, hop, facts, stamp),
        facts.id or b"-",
        facts.endpoint.label or b"-",
        *_times(facts),
        facts.attempts + facts.retried,
        hop.tls or b"-",
        facts.received,
    )


def _as_json(head: RequestHead, hop: Hop, facts: Facts, stamp: bytes) -> tuple[Any, ...]:
    user, referer, agent = _said(head.block)
    return (
        stamp, facts.id, client_of(head, hop) if hop.trusted else hop.peer, user, head.method,
        hop.scheme, head.host, head.target, VERSIONS[head.minor], hop.tls, facts.status,
        facts.received, facts.sent, referer, agent, facts.endpoint.label, *_times(facts),
        facts.attempts + facts.retried,
    )  # fmt: skip


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
    """The user of a Basic Authorization value, or empty where there is none.

    One with a control character is none (RFC 7617 2).
    """
    scheme, _, token = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return b""
    try:
        user = base64.b64decode(token.strip(), validate=True).partition(b":")[0]
    except binascii.Error:
        return b""
    return b"" if _CONTROL(user) else user


FORMATS: dict[str, Format] = {  # of --log-format
    "combined": Format(_COMBINED, 6, _combined, escape, stamp),
    "extended": Format(_EXTENDED, 6, _extended, escape, stamp),
    "json": Format(_JSON, _JSON.count(b'"'), _as_json, _json_escape, iso_stamp),
}
