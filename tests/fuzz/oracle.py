"""What a message means to those who do not share a line with us: h11, and the strictest reader.

`meant` is h11's reading of the bytes a client sent. `one_request` reads what would be forwarded
with a grammar so narrow that no parser could read it in another way, and then asks h11 as well.
It never imports a parser of rawproxy. Raises `AssertionError` where a message is ambiguous.
"""

import re
from typing import NamedTuple

import h11

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_LINE = _TOKEN + rb": (?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?\r\n"
_REQUEST = re.compile(
    rb"(" + _TOKEN + rb") (/[!-\"$-~]*|\*) HTTP/1\.1\r\n((?:" + _LINE + rb")*)\r\n"
).match
_BLOCK = re.compile(rb"(?:" + _LINE + rb")*").fullmatch
_CHUNK = re.compile(rb"([0-9a-f]+)\r\n").match
_NO_ANSWER = (h11.NEED_DATA, h11.PAUSED)
HOP_BY_HOP = frozenset(
    b"keep-alive proxy-connection te proxy-authorization proxy-authenticate".split()
)
# Names by which an upstream is told who sent a request, over what, or how it is framed, as an
# application may spell them. No client may use one, in a head or in a trailer.
_TELLING = re.compile(
    rb"content-length|transfer-encoding|host|connection|upgrade|expect|te|keep-alive|trailer"
    rb"|proxy|proxy-.*|forwarded|x-forwarded-.*|x-real-ip|x-request-id"
    rb"|(x-)?ssl-client-.*|x-ssl-.*|(x-)?tls-client-.*|(x-)?client-cert(-.*)?|x-arr-clientcert"
    rb"|x-amzn-mtls-.*"
).fullmatch
_FIRST_HAND = frozenset(b"content-length host expect x-request-id trailer".split())


def tells(name: bytes) -> bool:
    """Whether a field (lower case) that a client sent may not reach the upstream, in any spelling.

    Its Content-Length and Host do, under these very names.
    """
    return name not in _FIRST_HAND and _TELLING(name.replace(b"_", b"-")) is not None


class Message(NamedTuple):
    """A request as a reader of it understood it."""

    method: bytes
    target: bytes
    fields: list[tuple[bytes, bytes]]  # names in lower case
    body: bytes
    rest: bytes | None  # what follows it; None: it has not ended

    def values(self, name: bytes) -> list[bytes]:
        """Of every field of that name."""
        return [value for key, value in self.fields if key == name]


def meant(stream: bytes) -> Message | None:
    """h11's reading of what a client sent; None where it refuses or waits for more of the head."""
    law = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    body = b""
    try:
        law.receive_data(stream)
        head = law.next_event()
        if not isinstance(head, h11.Request):
            return None
        while isinstance(event := law.next_event(), h11.Data):
            body += event.data
    except h11.RemoteProtocolError:
        return None
    rest = law.trailing_data[0] if isinstance(event, h11.EndOfMessage) else None
    return Message(head.method, head.target, list(head.headers), body, rest)


def block(lines: bytes) -> list[tuple[bytes, bytes]]:
    """The fields of a canonical block."""
    assert _BLOCK(lines), lines
    pairs = [line.split(b": ", 1) for line in lines.split(b"\r\n")[:-1]]
    return [(name.lower(), value) for name, value in pairs]


def one_request(forwarded: bytes) -> Message:
    """Exactly one whole request, in a form that nobody can read otherwise."""
    match = _REQUEST(forwarded)
    assert match, "not the strict form of a request head"
    method, target, lines = match.groups()
    fields = block(lines)
    names = [name for name, _ in fields]
    assert names.count(b"host") == 1, "not one Host"
    port = re.search(rb":([0-9]+)\Z", fields[names.index(b"host")][1])
    assert not port or 1 <= int(port[1]) <= 65535, "not a port"
    framing = [pair for pair in fields if pair[0] in (b"content-length", b"transfer-encoding")]
    assert len(framing) <= 1, "framed twice"
    body, rest = b"", forwarded[match.end() :]
    if framing and framing[0][0] == b"transfer-encoding":
        assert framing[0][1] == b"chunked", "a coding other than chunked"
        body, rest = _unchunk(rest)
    elif framing:
        assert re.fullmatch(rb"[0-9]{1,18}", framing[0][1]), "not a plain Content-Length"
        size = int(framing[0][1])
        assert len(rest) >= size, "the body is short"
        body, rest = rest[:size], rest[size:]
    assert not rest, "bytes behind the request"
    mine = Message(method, target, fields, body, b"")
    assert meant(forwarded) == mine, "h11 reads it otherwise"
    return mine


def _unchunk(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    at = 0
    while match := _CHUNK(data, at):
        size = int(match[1], 16)
        at = match.end()
        if not size:
            stop = data.index(b"\r\n", at) if data[at : at + 2] == b"\r\n" else -1
            if stop < 0:
                stop = data.index(b"\r\n\r\n", at) + 2
                block(data[at:stop])
            return body, data[stop + 2 :]
        body += data[at : at + size]
        assert data[at + size : at + size + 2] == b"\r\n", "chunk data without its CRLF"
        at += size + 2
    raise AssertionError("not the strict form of a chunk")
