"""The facts of one exchange: counters, and the line of the access log.

It never writes, and never looks at a clock: `now` is an argument. Invariant: whatever bytes a
client sends, a line of the log is one line, and its quotes are ours (log injection is impossible).
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime
from typing import NamedTuple

_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
# As nginx escapes: control characters, what is not ASCII, the quote and the backslash.
_UNSAFE = re.compile(rb'[\x00-\x1f"\\\x7f-\xff]')


class Counters:
    """Plain integers; one set for each worker."""

    __slots__ = ("h2_faults", "handshakes_failed", "requests", "retries", "tunnels")

    def __init__(self) -> None:
        self.requests = 0  # exchanges that have ended, however
        self.retries = 0  # requests sent again over a fresh connection
        self.tunnels = 0  # open now
        self.handshakes_failed = 0  # TLS handshakes of clients
        self.h2_faults = 0  # HTTP/2 connections that were closed because of what they sent


class Entry(NamedTuple):
    """What the combined format shows of one exchange."""

    remote: bytes
    user: bytes
    method: bytes
    target: bytes
    version: bytes
    status: int
    sent: int  # bytes of the response's body
    referer: bytes
    agent: bytes


def combined(entry: Entry, stamp: bytes) -> bytes:
    """One line in nginx's and Apache's combined format."""
    return b'%b - %b [%b] "%b %b %b" %d %d "%b" "%b"\n' % (
        escape(entry.remote) or b"-",
        escape(entry.user) or b"-",
        stamp,
        escape(entry.method),
        escape(entry.target),
        entry.version,
        entry.status,
        entry.sent,
        escape(entry.referer) or b"-",
        escape(entry.agent) or b"-",
    )


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


def basic_user(authorization: bytes) -> bytes:
    """The user of a Basic Authorization value (RFC 7617), or empty."""
    scheme, _, token = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return b""
    try:
        return base64.b64decode(token.strip(), validate=True).partition(b":")[0]
    except binascii.Error:
        return b""
