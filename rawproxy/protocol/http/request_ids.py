"""Ids of requests: X-Request-ID, and a W3C trace context if the client has none.

    hop            the id
    ─────────────  ──────────────────────────────────────────────────────────────
    trusted peer   its own X-Request-ID, if that is one
    anybody else   ours, 128 random bits: unique over workers and restarts, and it
                   tells nobody how many requests there were

The caller gives the random bytes: this module never asks the system for them. Invariant: an id has
1 to `LONGEST` letters, digits and signs that have no meaning in a header, a log line or a page.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from rawproxy.protocol.http.rewrite import without

LONGEST = 128  # characters of a peer's id: a UUID has 36, AWS's some 70
SIZE = 16  # random bytes of an id of ours, as many as of a W3C trace id
BATCH = 256  # ids for each call to the system, which costs too much for one request
_ID = re.compile(rb"[0-9A-Za-z+/=_.:;@,|~-]{1,%d}" % LONGEST).fullmatch
_REQUEST_ID = b"x-request-id"
_TRACE = (b"traceparent", b"tracestate")
# Trace Context 3.2.2: version, trace, parent, flags. Later versions may be longer.
_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
).fullmatch


class Ids:
    """A source of ids."""

    __slots__ = ("_at", "_batch", "_random")

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._batch = b""
        self._at = 0

    def next(self) -> bytes:
        """32 hexadecimal digits, never the same twice."""
        at = self._at
        if at >= len(self._batch):
            self._batch = self._random(SIZE * BATCH)
            at = 0
        self._at = at + SIZE
        return self._batch[at : at + SIZE].hex().encode()


def peers_id(value: bytes) -> bytes:
    """The X-Request-ID of a peer; empty if it may not be logged."""
    return value if _ID(value) else b""


def with_id(opening: bytes, request_id: bytes) -> bytes:
    """The request head with this X-Request-ID in place of any other."""
    if _REQUEST_ID in opening.lower():
        opening = _without(opening, (_REQUEST_ID,))
    return b"%bX-Request-ID: %b\r\n\r\n" % (opening[:-2], request_id)


def with_trace(opening: bytes, ids: Ids) -> bytes:
    """The request head with a trace context: the client's own if it is valid, else a new one.

    A new one is sampled, which is OpenTelemetry's default for a new trace.
    """
    lower = opening.lower()
    at = lower.find(b"\ntraceparent: ") + 14
    if at > 13:
        if _TRACEPARENT(opening[at : opening.find(b"\r", at)]):
            return opening
        # Trace Context 4.2: without a valid parent the state means nothing.
        opening = _without(opening, _TRACE)
    new, parent = ids.next(), ids.next()[:16]
    return b"%btraceparent: 00-%b-%b-01\r\n\r\n" % (opening[:-2], new, parent)


def _without(opening: bytes, names: tuple[bytes, ...]) -> bytes:
    line, _, block = opening.partition(b"\r\n")
    return b"%b\r\n%b\r\n" % (line, without(block[:-2], names))
