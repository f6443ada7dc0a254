"""What is kept of a request's head while its tunnel is open: what its log line will tell.

A head is some twenty objects, and a WebSocket may rest for days. So it becomes one piece of bytes,
which is a head again when the tunnel has ended. This module decides nothing. Invariant: the line of
the access log, and what is counted, are the same as if the head had been kept.
"""

from __future__ import annotations

from typing import Final

from rawproxy.protocol.http import log_fields
from rawproxy.protocol.http.head import RequestHead
from rawproxy.protocol.http.rewrite import ClientContext, client_of

BETWEEN: Final = b"\n"  # in no target and in no value of a field (RFC 9110 5.5)


def packed(head: RequestHead) -> bytes:
    """What is told of `head`."""
    agent, referer, authorization = head.told or log_fields.told(head.block)
    return BETWEEN.join(
        (
            b"%d" % head.minor,
            head.method,
            head.target,
            head.host,
            head.upgrade,
            agent or b"",
            referer or b"",
            authorization or b"",
        )
    )


def unpacked(data: bytes) -> RequestHead:
    """A head of which the same is told."""
    minor, method, target, host, upgrade, *told = data.split(BETWEEN)
    agent, referer, authorization = told
    return RequestHead(
        method, target, int(minor), b"", [], 0, False, upgrade, False, host, (), 0,
        (agent, referer, authorization),
    )  # fmt: skip


def of_client(head: RequestHead, context: ClientContext) -> ClientContext:
    """A context that names the client of `head` without its fields."""
    if not context.trusted:
        return context
    return context._replace(peer=client_of(head, context), trusted=False)
