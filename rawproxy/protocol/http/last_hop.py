"""OPTIONS and TRACE: how far they may go, and the answer of the last server that they reach.

A client can follow a chain of proxies by Max-Forwards, which each proxy counts down. The one that
gets 0 answers in place of the origin (RFC 9110 7.6.2). TRACE shows a client what reached the other
end. So it shows scripts what browsers hide from them (cookies: cross-site tracing), and is refused
unless a route allows it (9.3.8).

This module never sends anything. Invariant: an answer contains nothing that proves who a client is.
Raises `ClientError`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from rawproxy.errors import ClientError
from rawproxy.protocol.http.head import LENGTH_DIGITS, RequestHead
from rawproxy.protocol.http.rewrite import without

ASKED: Final = frozenset((b"OPTIONS", b"TRACE"))  # what Max-Forwards is for
MOST: Final = 1_000  # of it: nobody has a longer chain, and the RFC lets us have a largest
METHODS: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_FIELD: Final = b"max-forwards"
_PRIVATE: Final = frozenset(
    (b"authorization", b"cookie", b"proxy-authorization", b"client-cert", b"client-cert-chain")
)


class Answer(NamedTuple):
    """What we say in place of the origin."""

    lines: bytes
    body: bytes


def left(head: RequestHead, trace: bool) -> int:
    """How many servers may still forward this OPTIONS or TRACE; -1: there is no limit.

    `trace`: TRACE is allowed.
    """
    if head.method == b"TRACE" and not trace:
        raise ClientError("TRACE is not allowed here; rawproxy's --allow-trace allows it", 405)
    block = b"\n" + head.block.lower()
    stands = block.count(b"\n" + _FIELD + b":")
    if not stands:
        return -1
    value = head.value(_FIELD)
    if stands > 1 or not value.isdigit():
        raise ClientError("Max-Forwards is not one number (RFC 9110 7.6.2)")
    return min(int(value), MOST) if len(value) <= LENGTH_DIGITS else MOST


def counted(opening: bytes, forwards: int) -> bytes:
    """The request head for the upstream, if `left` servers may still forward it."""
    line, _, block = opening.partition(b"\r\n")
    kept = without(block[:-2], (_FIELD,))
    return b"%b\r\n%bMax-Forwards: %d\r\n\r\n" % (line, kept, forwards)


def answer(head: RequestHead, trace: bool) -> Answer:
    """The answer to a request that goes no further."""
    if head.method == b"OPTIONS":
        return Answer(b"Allow: %b%b\r\n" % (METHODS, b", TRACE" if trace else b""), b"")
    lines = [
        line
        for line in head.block.split(b"\r\n")[:-1]
        if line.partition(b":")[0].lower() not in _PRIVATE
    ]
    request = [b"TRACE %b HTTP/1.1" % head.target, *lines]
    body = b"".join(line + b"\r\n" for line in request) + b"\r\n"
    return Answer(b"Content-Type: message/http\r\nCache-Control: no-store\r\n", body)
