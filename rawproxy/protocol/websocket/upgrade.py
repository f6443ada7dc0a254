"""Upgrades: which of them may become a tunnel, and whether a 101 is what the client asked for.

This module never changes a header: key, version, protocol and extensions go on as they came (RFC
6455 4). Invariant: bytes are spliced only after `check_switch` has returned None.
"""

from __future__ import annotations

from typing import Final

from wsproto.utilities import generate_accept_token

from rawproxy.errors import escaped
from rawproxy.protocol.http.head import RequestHead, ResponseHead

WEBSOCKET: Final = b"websocket"


def settled(head: RequestHead, listed: dict[bytes, bytes]) -> RequestHead:
    """The request with the upgrade that its route allows; a plain one if it allows none.

     `listed` has upgrades in lower case, and as the admin spelled them. A WebSocket has to be asked
    for by GET and without a body (RFC 6455 4.1). For others any method may be used, and the body
    comes first (RFC 9110 7.8).
    """
    if head.upgrade:
        return head if head.upgrade in listed else head._replace(upgrade=b"")
    for token in head.offered.split(b","):
        token = token.strip()
        if token in listed and token != WEBSOCKET:
            return head._replace(upgrade=listed[token])
    return head


def check_switch(request: RequestHead, response: ResponseHead) -> str | None:
    """What is wrong with this 101; None if nothing is (RFC 9110 7.8, RFC 6455 4.1)."""
    if not request.upgrade:
        return "a 101 that nobody asked for"
    if response.upgrade != request.upgrade.lower():
        asked = request.upgrade.decode()  # as the administrator lists it
        return f"a 101 to {escaped(response.upgrade)} where {asked} was asked for"
    if request.upgrade != WEBSOCKET:
        return None
    key = request.value(b"sec-websocket-key")
    if response.value(b"sec-websocket-accept") != generate_accept_token(key):
        return "the Sec-WebSocket-Accept of the 101 does not match the request's key"
    return None
