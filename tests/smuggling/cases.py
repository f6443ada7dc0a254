"""What a case of the corpus is, and the words to write one in.

A case is raw bytes and what must become of them. `raw` is what a client sends: over HTTP/1.1 the
bytes themselves, over HTTP/2 the frames of stream 1. Nothing here knows a proxy or a socket.
"""

from typing import NamedTuple

from rawproxy.protocol.http2 import frames

OURS = b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: %b\r\n"
OURS_2 = OURS.replace(b": http\r", b": https\r")
UPSTREAM = b"upstream.invalid"  # stands where the upstream's own host and port must be seen

H1, H2 = "h1", "h2"


class Case(NamedTuple):
    """A request, or what is not quite one."""

    rule: int
    name: str
    raw: bytes
    refused: str  # a status, or the name of an HTTP/2 error code; empty: forwarded
    seen: tuple[bytes, ...] = ()  # the whole requests that the upstream sees, byte by byte
    front: str = H1
    defence: str = ""  # why forwarding is right although one of the others refuses these bytes
    eof: bool = False  # the client closes its side behind `raw`
    stays: bool = False  # refused for what it asks, not for how: the connection goes on

    @property
    def id(self) -> str:
        """Its name among the test ids."""
        return f"r{self.rule:02}-{self.front}-{self.name}"


class Answer(NamedTuple):
    """A response, or what is not quite one, to `GET /case`."""

    rule: int
    name: str
    raw: bytes
    got: bytes  # what an HTTP/1.1 client gets, byte by byte; empty: 502
    cut: bool = False  # the client sees that the response broke off
    closes: bool = False  # the upstream closes behind `raw`
    method: bytes = b"GET"
    defence: str = ""

    @property
    def id(self) -> str:
        """Its name among the test ids."""
        return f"r{self.rule:02}-answer-{self.name}"


# ── requests of HTTP/1.1 ────────────────────────────────────────────────────────────────────────

POST = b"POST / HTTP/1.1"
GET = b"GET / HTTP/1.1"
CHUNKED = b"Transfer-Encoding: chunked"
FIVE = b"Content-Length: 5"
END = b"0\r\n\r\n"
EVIL = b"GET /evil HTTP/1.1\r\nHost: h\r\n\r\n"


def req(*lines: bytes, start: bytes = POST, host: bytes | None = b"h", body: bytes = b"") -> bytes:
    """A request as a client sends it."""
    hosts = [b"Host: " + host] if host is not None else []
    return b"\r\n".join([start, *hosts, *lines]) + b"\r\n\r\n" + body


def get(*lines: bytes, start: bytes = GET, host: bytes | None = b"h") -> bytes:
    """The same without a body."""
    return req(*lines, start=start, host=host)


def seen(
    *lines: bytes,
    start: bytes = POST,
    host: bytes = b"h",
    body: bytes = b"",
    last: tuple[bytes, ...] = (),
    ours: bytes = OURS,
) -> bytes:
    """A request as the upstream must see it. `last`: lines of ours behind those."""
    head = b"\r\n".join([start, b"Host: " + host, *lines]) + b"\r\n"
    return head + ours % host + b"".join(line + b"\r\n" for line in last) + b"\r\n" + body


def saw(*lines: bytes, start: bytes = GET, host: bytes = b"h", **more) -> bytes:
    """The same for a GET."""
    return seen(*lines, start=start, host=host, **more)


def chunks(body: bytes, *lines: bytes) -> bytes:
    """A chunked request with `body` behind its head."""
    return req(*lines, CHUNKED, body=body)


def seen_chunks(body: bytes, *lines: bytes) -> bytes:
    """A chunked request as the upstream must see it."""
    return seen(*lines, last=(CHUNKED,), body=body)


def refused(rule: int, name: str, raw: bytes, status: int = 400, eof: bool = False) -> Case:
    """A case that never reaches the upstream whole."""
    return Case(rule, name, raw, str(status), eof=eof)


def answered(rule: int, name: str, raw: bytes, status: int) -> Case:
    """A case that is understood and answered without the upstream."""
    return Case(rule, name, raw, str(status), stays=True)


def passed(rule: int, name: str, raw: bytes, *whole: bytes, defence: str = "") -> Case:
    """A case that is forwarded as exactly `whole`."""
    return Case(rule, name, raw, "", whole, defence=defence)


# ── requests of HTTP/2 ──────────────────────────────────────────────────────────────────────────

Fields = tuple[tuple[bytes, bytes], ...]


def pseudo(
    method: bytes = b"GET",
    scheme: bytes | None = b"https",
    authority: bytes | None = b"h",
    path: bytes | None = b"/",
) -> Fields:
    """The pseudo-fields of a request; None leaves one out."""
    values = ((b":method", method), (b":scheme", scheme), (b":authority", authority))
    return tuple((n, v) for n, v in (*values, (b":path", path)) if v is not None)


def stream(
    *fields: tuple[bytes, bytes],
    start: Fields | None = None,
    data: tuple[bytes, ...] = (),
    trailers: Fields = (),
) -> bytes:
    """The frames of stream 1: HEADERS, DATA, trailers."""
    fields = (*(pseudo() if start is None else start), *fields)
    out = frames.headers(1, literals(fields), not data and not trailers)
    for number, piece in enumerate(data, 1):
        out += frames.data(1, piece, number == len(data) and not trailers)
    return out + (frames.headers(1, literals(trailers), True) if trailers else b"")


def literals(fields: Fields) -> bytes:
    """A field block of literals without indexing or Huffman (RFC 7541 6.2.2): it says anything."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in fields)


def _string(text: bytes) -> bytes:
    size = len(text)
    if size < 127:
        return bytes((size,)) + text
    size -= 127
    out = b"\x7f"
    while size > 127:
        out += bytes((size & 127 | 128,))
        size >>= 7
    return out + bytes((size,)) + text


def refused_h2(rule: int, name: str, raw: bytes, how: str | int = "PROTOCOL_ERROR") -> Case:
    """A stream that is reset with an error code, or answered with a status."""
    return Case(rule, name, raw, str(how), front=H2)


def passed_h2(rule: int, name: str, raw: bytes, *whole: bytes, defence: str = "") -> Case:
    """A stream that is forwarded as exactly `whole`."""
    return Case(rule, name, raw, "", whole, front=H2, defence=defence)


def saw_h2(*lines: bytes, start: bytes = GET, **more) -> bytes:
    """A request of HTTP/2 as the upstream must see it."""
    return seen(*lines, start=start, ours=OURS_2, **more)


# ── responses ───────────────────────────────────────────────────────────────────────────────────

DATE = b"Date: Thu, 01 Jan 1970 00:00:00 GMT"  # where the upstream names one, we add none
OK = b"HTTP/1.1 200 OK"


def res(*lines: bytes, start: bytes = OK, body: bytes = b"") -> bytes:
    """A response as an upstream sends it, and as a client gets it."""
    return b"\r\n".join([start, *lines, DATE]) + b"\r\n\r\n" + body


def got(*lines: bytes, start: bytes = OK, last: tuple[bytes, ...] = (), body: bytes = b"") -> bytes:
    """A response as the client gets it. `last`: lines of ours behind the upstream's."""
    return b"\r\n".join([start, *lines, DATE, *last]) + b"\r\n\r\n" + body


def bad(rule: int, name: str, raw: bytes, **more) -> Answer:
    """A response that nobody gets: 502."""
    return Answer(rule, name, raw, b"", **more)


def good(rule: int, name: str, raw: bytes, whole: bytes, **more) -> Answer:
    """A response of which the client gets exactly `whole`."""
    return Answer(rule, name, raw, whole, **more)
