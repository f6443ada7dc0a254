"""The server name in a ClientHello (RFC 8446 4.1.2, RFC 6066 3), before TLS begins.

Only where sites ask for client certificates in different ways must it be known so early: OpenSSL
has decided whether to ask by the time it tells which name was asked for. What protocols a client
offers (RFC 7301 3.1) matters while an authority looks for a proof, and to nobody else. It never
consumes a byte and never judges: whatever is odd is left to OpenSSL. What it reads is not believed
either: a connection that got another site's context is refused by Host (`Service.find`).
"""

from __future__ import annotations

LIMIT = 16 * 1024 + 5  # one record; a ClientHello in more than one is nobody's
_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME, _PROTOCOLS = 0x16, 0x01, 0, 16


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


def protocols(data: bytes) -> list[bytes]:
    """What the client offers in ALPN; nothing where there is no whole ClientHello."""
    offered = _extension(data[5:], _PROTOCOLS)
    found = []
    at = 2  # behind the length of the list
    while at < len(offered):
        found.append(offered[at + 1 : at + 1 + offered[at]])
        at += 1 + offered[at]
    return found


def _name(hello: bytes) -> str:
    # A list of names: its length, then the type (0) and length of the only one there is.
    names = _extension(hello, _SERVER_NAME)
    if names[2:3] != b"\0":
        return ""
    return names[5 : 5 + _number(names, 3, 2)].decode("latin-1")


def _extension(hello: bytes, wanted: int) -> bytes:
    """What is in an extension; nothing where the ClientHello does not have it."""
    if hello[:1] != bytes((_CLIENT_HELLO,)):
        return b""
    at = 4 + 2 + 32  # type and length, version, random
    at += 1 + _number(hello, at, 1)  # session id
    at += 2 + _number(hello, at, 2)  # cipher suites
    at += 1 + _number(hello, at, 1)  # compression
    stop = at + 2 + _number(hello, at, 2)
    at += 2
    while at + 4 <= min(stop, len(hello)):
        kind, size = _number(hello, at, 2), _number(hello, at + 2, 2)
        if kind == wanted:
            return hello[at + 4 : at + 4 + size]
        at += 4 + size
    return b""


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")
