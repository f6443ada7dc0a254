r"""HTTP/2 fields (RFC 9113 8): from a decoded list, the same `RequestHead` as in HTTP/1.

`field` judges a field when it is first spelled out. HPACK's tables hand out its verdict and its
canonical `name: value\r\n` line again whenever a request refers to it. So `request` has only to
judge the pseudo-fields and to join lines. After that, nothing knows which version of HTTP a request
came in: the policy of `head.request_facts` is the same for both.

This module never sees a frame. Invariant: no byte that could end a line or begin another field of
HTTP/1 gets into a block. Raises `StreamFault` for what is malformed (RFC 9113 8.1.1) and
`ClientError` for what can be answered.
"""

from __future__ import annotations

import re
from typing import Final

from wsproto.utilities import generate_nonce

from rawproxy.config.field_names import may_trail
from rawproxy.config.model import Limits
from rawproxy.errors import ClientError, escaped
from rawproxy.protocol.http.head import CHUNKED, HTTP2, RequestHead, request_facts
from rawproxy.protocol.http.rewrite import without
from rawproxy.protocol.http2.frames import Code, StreamFault
from rawproxy.protocol.http2.hpack import static_entries

# The kinds of fields.
REGULAR: Final = 0
PSEUDO: Final = 1
COOKIE: Final = 2
HOST: Final = 3
MALFORMED: Final = 4
UNDERSCORED: Final = 5  # a name with an underscore, which needs a second look

Field = tuple[int, bytes, bytes, bytes]  # kind, name, value, line

# Lower case (8.2.1); the value as in HTTP/1: no control characters, no blanks around it.
_LINE: Final = re.compile(
    rb"[!#$%&'*+.^_`|~0-9a-z-]++: (?:[!-~\x80-\xff][\t -~\x80-\xff]*+(?<![\t ]))?\r\n"
).fullmatch
_CLEAN: Final = re.compile(rb"[!-~\x80-\xff][ -~\x80-\xff]*+(?<! )").fullmatch
_PATH: Final = re.compile(rb"/[!-\"$-~]*").fullmatch
_METHOD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}").fullmatch
_KINDS = {b"cookie": COOKIE, b"host": HOST}
_KINDS |= dict.fromkeys(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"), MALFORMED
)
_PSEUDO: Final = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))


def field(name: bytes, value: bytes) -> Field:
    """One field, judged."""
    if name[:1] == b":":
        good = name in _PSEUDO and (not value or _CLEAN(value))
        return PSEUDO if good else MALFORMED, name, value, b""
    line = b"%b: %b\r\n" % (name, value)
    if not _LINE(line) or line.find(b":") != len(name):
        return MALFORMED, name, value, b""
    kind = UNDERSCORED if name.find(b"_") >= 0 else _KINDS.get(name, REGULAR)
    if name == b"te" and value.lower() != b"trailers":
        kind = MALFORMED  # 8.2.2
    return kind, name, value, line


STATIC: Final[list[Field]] = static_entries(field)


def request(fields: list[Field], ended: bool, limits: Limits) -> RequestHead:
    """The head of a request. `ended`: it has no body."""
    pseudo: dict[bytes, bytes] = {}
    lines: list[bytes] = []
    crumbs: list[bytes] = []
    hosts: list[bytes] = []
    underscored = False
    for kind, name, value, line in fields:
        if not kind:
            lines.append(line)
        elif kind == PSEUDO:
            if name in pseudo or lines or crumbs or hosts:
                raise _malformed("a pseudo-field twice, or behind another field (8.3)")
            pseudo[name] = value
        elif kind == COOKIE:
            crumbs.append(value)
        elif kind == HOST:
            hosts.append(value)
        elif kind == UNDERSCORED:
            lines.append(line)
            underscored = True
        else:
            raise _malformed(f"the field {escaped(name[:40])} (8.2)")
    method, path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    socket = _judge(pseudo, method, path, ended, limits)
    if crumbs:
        # 8.2.3; an empty crumb between two separators would leave whitespace at the value's end.
        lines.append(b"cookie: " + b"; ".join(filter(None, crumbs)) + b"\r\n")
    lines.insert(0, b"Host: " + _authority(pseudo.get(b":authority"), hosts) + b"\r\n")
    if socket:
        method = b"GET"
        lines = [without(b"".join(lines), (b"sec-websocket-key",))]
        lines.append(b"Sec-WebSocket-Key: " + generate_nonce() + b"\r\n")
    head = request_facts(method, path, HTTP2, b"".join(lines), underscored=underscored)
    if head is None or (ended and head.framing):
        raise _malformed("a Content-Length that is none, or of a body that does not come (8.1.1)")
    if socket:
        # An upstream that refuses the upgrade would wait for a body of that length. It never comes,
        # so the next request would be taken for it.
        if _has_length(head):
            raise _malformed("a Content-Length in CONNECT (RFC 9110 9.3.6)")
        return head._replace(upgrade=b"websocket")
    if not ended and not _has_length(head):
        return head._replace(framing=CHUNKED)
    return head


def trailers(fields: list[Field]) -> bytes:
    """The trailer block. No pseudo-field (8.1), nothing that frames, routes or proves, is in it."""
    kept: list[bytes] = []
    for kind, name, _, line in fields:
        if kind in (PSEUDO, MALFORMED):
            raise _malformed("a trailer that cannot be one (8.1)")
        if may_trail(name):
            kept.append(line)
    return b"".join(kept)


def _judge(
    pseudo: dict[bytes, bytes], method: bytes, path: bytes, ended: bool, limits: Limits
) -> bool:
    """Judge the pseudo-fields (8.3.1). Returns whether they ask for a WebSocket (RFC 8441 4)."""
    scheme = pseudo.get(b":scheme", b"")
    protocol = pseudo.get(b":protocol")
    if not _METHOD(method):
        raise _malformed(":method is missing or not a token")
    if method == b"CONNECT" and protocol is None:
        if b":path" in pseudo or b":scheme" in pseudo or not pseudo.get(b":authority"):
            raise _malformed("a CONNECT with a path or without an authority (8.5)")
        raise ClientError("CONNECT is not served by a reverse proxy", 501)
    if not scheme or not path:
        raise _malformed(":scheme or :path is missing")
    if scheme not in (b"https", b"http"):
        raise ClientError(":scheme is neither https nor http")
    if protocol is not None:
        if method != b"CONNECT":
            raise _malformed(":protocol without CONNECT (RFC 8441 4)")
        if protocol != b"websocket" or ended:
            raise ClientError("of protocols in CONNECT, only websocket is known", 501)
    if len(path) > limits.start_line:
        raise ClientError(f":path is over {limits.start_line} bytes", 414)
    if not _PATH(path) and not (path == b"*" and method == b"OPTIONS"):
        raise ClientError(":path is not a path, or has a blank, control character or fragment")
    return protocol is not None


def _authority(authority: bytes | None, hosts: list[bytes]) -> bytes:
    """The Host value: :authority. A Host beside it may only repeat it (8.3.1)."""
    if authority is None and hosts:
        authority = hosts[0]
    if not authority:
        raise ClientError(":authority and Host are missing")
    if any(host.lower() != authority.lower() for host in hosts):
        raise ClientError("Host and :authority are not the same (RFC 9113 8.3.1)")
    return authority


def _has_length(head: RequestHead) -> bool:
    return bool(head.framing) or head.block.find(b"\ncontent-length:") >= 0


def _malformed(detail: str) -> StreamFault:
    return StreamFault(Code.PROTOCOL_ERROR, detail)
