"""The request target and Host: what they may look like, and their parts (RFC 9112 3.2).

This module never changes a path or a query: their bytes go on as they came (RFC 9110 7.7). Raises
`ClientError`, nothing else.
"""

from __future__ import annotations

import re
from typing import Final

from rawproxy.errors import ClientError

_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)([/?].*)?", re.IGNORECASE).fullmatch
# RFC 3986 3.2.2: eight groups, the last two perhaps as IPv4; "::" stands for one or more of them.
_OCTET: Final = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_GROUP: Final = rb"[0-9A-Fa-f]{1,4}"
_TAIL: Final = rb"(?:%b:%b|%b(?:\.%b){3})" % (_GROUP, _GROUP, _OCTET, _OCTET)
_SHORT: Final = [  # groups in front of "::" at the most, and exactly so many behind it
    rb"(?:(?:%b:){0,%d}%b)?::(?:%b:){%d}%b" % (_GROUP, 4 - n, _GROUP, _GROUP, n, _TAIL)
    for n in range(5)
]
_IPV6: Final = rb"|".join(
    [
        rb"(?:%b:){6}%b" % (_GROUP, _TAIL),
        rb"::(?:%b:){5}%b" % (_GROUP, _TAIL),
        *_SHORT,
        rb"(?:(?:%b:){0,5}%b)?::%b" % (_GROUP, _GROUP, _GROUP),
        rb"(?:(?:%b:){0,6}%b)?::" % (_GROUP, _GROUP),
    ]
)
_NAME: Final = rb"[0-9A-Za-z._~!$&'()*+;=-]{0,255}+"
# 1 to 65535, leading zeros or not (some servers would take a larger one modulo 65536), or empty.
_PORT: Final = (
    rb"(?!0+\Z)(?:[0-5]?[0-9]{1,4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])?"
)
# uri-host [":" port]: a reg-name that is not empty, or an IP literal in brackets.
is_host = re.compile(
    rb"(?:(?!:)%b(?:%%[0-9A-Fa-f]{2}%b)*(?<=.)|\[(?:%b)\])(?::%b)?" % (_NAME, _NAME, _IPV6, _PORT)
).fullmatch


def origin_form(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """The target in origin form, and the authority of an absolute target (RFC 9112 3.2)."""
    if method == b"CONNECT":
        raise ClientError("CONNECT is not served by a reverse proxy", 501)
    if b"#" in target:
        raise ClientError("a fragment in the request target (RFC 9112 3.2)")
    if target.startswith(b"/"):
        return target, None
    if target == b"*" and method == b"OPTIONS":
        return target, None
    match = _ABSOLUTE(target)
    if match is None or not is_host(match[1]):
        raise ClientError("the request target is neither a path nor an http(s) URL")
    path = match[2] or b"/"
    if method == b"OPTIONS" and match[2] is None:
        path = b"*"  # RFC 9112 3.2.4
    return path if not path.startswith(b"?") else b"/" + path, match[1]


def split_host(host: bytes) -> tuple[bytes, bytes]:
    """Name (with its brackets) and port of a Host value. The port may be empty."""
    if host.endswith(b"]"):
        return host, b""
    name, colon, port = host.rpartition(b":")
    return (name, port) if colon else (host, b"")


def redirect_target(host: bytes, target: bytes, https_port: int) -> bytes:
    """Where the plain listener sends a client: to the same host, over https.

     A Host without a port came in on port 80, perhaps through a port mapping, so it goes to 443. If
    the Host names our own port, the target names our own https port.
    """
    name, port = split_host(host)
    suffix = b":%d" % https_port if port and https_port != 443 else b""
    return b"https://" + name + suffix + (b"/" if target == b"*" else target)
