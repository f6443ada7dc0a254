"""Is that 101 the one the client asked for? The WebSocket handshake, seen from between.

It never changes a header: key, version, protocol and extensions pass as they came (RFC 6455 4).
Invariant: bytes are only ever spliced after `check_switch` returned None.
"""

from __future__ import annotations

from wsproto.utilities import generate_accept_token

from .errors import escaped
from .head import RequestHead, ResponseHead


def check_switch(request: RequestHead, response: ResponseHead) -> str | None:
    """What is wrong with this 101, or None (RFC 9110 7.8, RFC 6455 4.1)."""
    if not request.upgrade:
        return "a 101 that nobody asked for"
    if response.upgrade != request.upgrade:
        return f"a 101 to {escaped(response.upgrade)} where websocket was asked for"
    key = request.value(b"sec-websocket-key")
    if response.value(b"sec-websocket-accept") != generate_accept_token(key):
        return "the Sec-WebSocket-Accept of the 101 does not match the request's key"
    return None
