"""The request target and Host: what they may look like (RFC 9112 3.2).

It never changes a path or a query: their bytes go on as they came (RFC 9110 7.7). Raises
`ClientError`, nothing else.
"""

from __future__ import annotations

import re

from .errors import ClientError

_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([/?].*)?", re.IGNORECASE).fullmatch
# uri-host [":" port], RFC 3986 3.2.2: an IP literal in brackets, or a reg-name.
is_host = re.compile(
    rb"(?:[0-9A-Za-z._~!$&'()*+;=%-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?"
).fullmatch


def origin_form(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """Target in origin form, and the authority of an absolute one (RFC 9112 3.2)."""
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
