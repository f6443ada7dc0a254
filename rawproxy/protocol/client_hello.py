"""The server name in a ClientHello (RFC 8446 4.1.2, RFC 6066 3), before TLS begins.

Only where sites ask for client certificates in different ways must it be known so early: OpenSSL
has decided whether to ask by the time it tells which name was asked for. It never consumes a byte
and never judges: whatever is odd is left to OpenSSL. What it reads is not believed either: a
connection that got another site's context is refused by Host (`Service.find`).
"""

from __future__ import annotations

LIMIT = 16 * 1024 + 5  # one record; a ClientHello in more than one is nobody's
_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME = 0x16, 0x01, 0


def server_name(data: bytes) -> str | None:
    """The name, lower case, or empty where there is none; None while more bytes have to come."""
    if len(data) < 5:
        return None
    size = int.from_bytes(data[3:5], "big")
    if data[0] != _HANDSHAKE or size > LIMIT:
        return ""
    if len(data) < 5 + size:
        return None
    return _name(data[5 : 5 + size]).lower()


def _name(hello: bytes) -> str:
    if hello[:1] != bytes((_CLIENT_HELLO,)):
        return ""
    at = 4 + 2 + 32  # type and length, version, random
    at += 1 + _number(hello, at, 1)  # session id
    at += 2 + _number(hello, at, 2)  # cipher suites
    at += 1 + _number(hello, at, 1)  # compression
    stop = at + 2 + _number(hello, at, 2)
    at += 2
    while at + 4 <= min(stop, len(hello)):
        kind, size = _number(hello, at, 2), _number(hello, at + 2, 2)
        if kind == _SERVER_NAME:
            # A list of names: its length, then the type (0) and length of the only one there is.
            if _number(hello, at + 6, 1):
                return ""
            name = hello[at + 9 : at + 9 + _number(hello, at + 7, 2)]
            return name.decode("latin-1")
        at += 4 + size
    return ""


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")
