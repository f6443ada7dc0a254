"""Finds the server name in a ClientHello, before TLS begins (RFC 8446 4.1.2, RFC 6066 3).

It is needed so early only if sites ask for client certificates in different ways: when OpenSSL
tells the name, it has already decided whether to ask for one. The protocols that a client offers
(RFC 7301 3.1) matter only while an authority looks for a proof.

This module never consumes a byte and never judges: what is odd is left to OpenSSL. Nobody relies on
what it reads: a connection that got the context of another site is refused by its Host
(`Service.find`).
"""

from __future__ import annotations

LIMIT = 16 * 1024 + 5  # bytes of one record; no client sends a ClientHello in several
_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME, _PROTOCOLS = 0x16, 0x01, 0, 16


def server_name(data: bytes) -> str | None:
    """The name in lower case, empty if there is none, None while more bytes have to come."""
    if len(data) < 5:
        return None
    size = int.from_bytes(data[3:5], "big")
    if data[0] != _HANDSHAKE or size > LIMIT:
        return ""
    if len(data) < 5 + size:
        return None
    return _name(data[5 : 5 + size]).lower()


def protocols(data: bytes) -> list[bytes]:
    """The protocols that the client offers (ALPN); none if there is no whole ClientHello."""
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
    """The content of an extension; empty if the ClientHello does not have it."""
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
