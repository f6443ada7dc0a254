"""How bodies are framed: pure steppers that say which bytes belong to this message.

    LengthBody    Content-Length        ends after so many bytes
    ChunkedBody   Transfer-Encoding     ends after the last chunk and its trailers; unframes
    CloseBody     neither, a response   ends when the connection does

`feed(data)` gives the payload in `data`, and the bytes that follow the body (None while it goes
on). If `more` is set then, it has kept a part of `data`, to give others time, and goes on with
`feed(b"")`. h11 is the law: `ChunkedBody` gives what h11 gives, or refuses (RFC 9112 7.1; h11
accepts more). If the other side uses chunks too, those in plain form may go on as they came:
`whole` says how far they reach.

A body keeps no payload; it keeps only a line or a trailer section that is not whole, up to its
limit. Invariant: payload and rest together are the bytes that were fed, without the framing. No
byte is lost or repeated. Raises `BodyError`, nothing else.
"""

from __future__ import annotations

import re
from typing import Final

from rawproxy.config.field_names import may_trail
from rawproxy.errors import escaped

EXTENSIONS: Final = 64 * 1024  # bytes of them in one body: they carry nothing we pass on
CHUNKS: Final = 1024  # unframed at a time: a read may hold tens of thousands
SIZE_DIGITS: Final = 15  # hex digits of a chunk size: under 2**60, so nobody's arithmetic overflows
NO_DIGIT: Final = 16
# What a byte is worth as a hex digit.
_HEX: Final = bytes(
    int(chr(byte), 16) if chr(byte) in "0123456789abcdefABCDEF" else NO_DIGIT for byte in range(256)
)
_LAST: Final = b"0\r\n\r\n"  # the last chunk, without trailers
CR: Final = 13
LF: Final = 10

# chunk-size, then extensions, of which no byte may be a control character but TAB. Small devices
# pad the size of their responses' chunks with blanks: these tell nobody anything else. In a request
# they are how two parsers come to differ.
_CHUNK_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,%d}+)(;[\t -~\x80-\xff]*+)?\r\n" % SIZE_DIGITS
).match
_CHUNK_LINE_SO_FAR: Final = re.compile(
    rb"[0-9A-Fa-f]{1,%d}+(?:;[\t -~\x80-\xff]*+)?\r?" % SIZE_DIGITS
).fullmatch
_PADDED_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,%d}+)[\t ]*+(;[\t -~\x80-\xff]*+)?\r\n" % SIZE_DIGITS
).match
_PADDED_LINE_SO_FAR: Final = re.compile(
    rb"[0-9A-Fa-f]{1,%d}+[\t ]*+(?:;[\t -~\x80-\xff]*+)?\r?" % SIZE_DIGITS
).fullmatch
_TRAILER: Final = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]++):[ \t]*+((?:[!-~\x80-\xff]++(?:[ \t]++[!-~\x80-\xff]++)*)?)"
    rb"[ \t]*+\r\n"
).match
_LINES_SO_FAR: Final = re.compile(rb"(?:[\t -~\x80-\xff]++|\r\n)*\r?").fullmatch


class BodyError(Exception):
    """The body breaks its framing. The message says how."""


class LengthBody:
    """A body of a known number of bytes (RFC 9112 6.3, rule 6)."""

    __slots__ = ("left",)

    trailers = b""
    more = False

    def __init__(self, length: int) -> None:
        self.left = length

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """The payload, and what follows the body once it has ended."""
        left = self.left
        size = len(data)
        if size < left:
            self.left = left - size
            return data, None
        self.left = 0
        if size == left:
            return data, b""
        return data[:left], data[left:]

    def eof(self) -> None:
        """The sender has closed."""
        if self.left:
            raise BodyError(f"{self.left} bytes are missing")


class CloseBody:
    """A body that ends with its connection (RFC 9112 6.3, rule 8)."""

    __slots__ = ()

    trailers = b""
    more = False

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """All of it is payload."""
        return data, None

    def eof(self) -> None:
        """The sender has closed: this is how such a body ends."""


class ChunkedBody:
    """A body in chunks (RFC 9112 7.1). `feed` gives the bytes inside them."""

    __slots__ = (
        "ended", "extensions", "inside", "left", "line", "line_limit", "more", "nominated",
        "partial", "so_far", "trailer_limit", "trailers",
    )  # fmt: skip

    def __init__(self, line_limit: int, trailer_limit: int, *, padded: bool = False) -> None:
        """`padded`: blanks behind a chunk's size are tolerated."""
        self.line = _PADDED_LINE if padded else _CHUNK_LINE
        self.so_far = _PADDED_LINE_SO_FAR if padded else _CHUNK_LINE_SO_FAR
        self.line_limit = line_limit
        self.trailer_limit = trailer_limit
        self.left = 0  # bytes of this chunk still to come, its CRLF included; -1: in the trailers
        self.partial = b""  # of a line that is not whole, or of the trailer section
        self.more = False  # `partial` is what this time was too short for
        self.extensions = 0
        self.trailers = b""  # a canonical block, once the body has ended
        # of what `whole` passed by
        self.inside = 0  # bytes of payload
        self.ended = False  # the last chunk was among it
        self.nominated: frozenset[bytes] = (
            frozenset()
        )  # by the head's Connection: for this hop only

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """The payload, and what follows the body once it has ended."""
        pieces: list[bytes] = []
        at = 0
        seen = len(self.partial) if self.left < 0 else 0  # bytes of trailers, looked at before
        if self.partial:
            data = self.partial + data
            self.partial = b""
        self.more = False
        size = len(data)
        left = self.left
        while left >= 0:
            if left:
                stop = at + left
                if left > 2 and stop <= size and data.startswith(b"\r\n", stop - 2):
                    pieces.append(data[at : stop - 2])  # a whole chunk, as most are
                    at = stop
                else:
                    at = self._chunk(data, at, pieces)
                    if self.left:
                        return b"".join(pieces), None
            if at == size:
                self.left = 0
                return b"".join(pieces), None
            if len(pieces) > CHUNKS:
                self.left = 0
                self.more = True
                self.partial = data[at:]
                return b"".join(pieces), None
            line = self.line(data, at)
            if line is None:
                self.left = 0
                self._wait_for_line(data[at:])
                return b"".join(pieces), None
            digits, extension = line.groups()
            if extension is not None:
                self._bound(extension)
            begin, at = at, line.end()
            if at - begin > self.line_limit + SIZE_DIGITS + 2:
                raise BodyError(f"a chunk-size line is over {self.line_limit} bytes")
            left = self.left = int(digits, 16) + 2
            if left == 2:
                left = self.left = -1
        return b"".join(pieces), self._trailer_section(data[at:], seen)

    def whole(self, data: bytes, begin: int) -> int:
        """Pass by the whole chunks in `data` from `begin` on; where the first other bytes stand.

        Of those chunks nothing need be said anew: no extension, no zeros in front of a size, and no
        trailers behind the last one. `inside` and `ended` tell of them. What follows is for `feed`,
        which judges; here nothing is refused.
        """
        self.inside = 0
        self.ended = False
        at = begin
        if self.left or self.partial:
            return at
        size = len(data)
        inside = 0
        for _ in range(CHUNKS):
            # The shortest chunk has six bytes, the last one five.
            if size - at < len(_LAST):
                break
            value = _HEX[data[at]]
            if not value:
                if data.startswith(_LAST, at):
                    self.ended = True
                    at += len(_LAST)
                break
            if value == NO_DIGIT:
                break
            line = at + 1
            most = min(at + SIZE_DIGITS, size - 2)
            while line < most:
                digit = _HEX[data[line]]
                if digit == NO_DIGIT:
                    break
                value = value * 16 + digit
                line += 1
            stop = line + 2 + value
            if stop > size - 2 or data[line] != CR or data[line + 1] != LF:
                break
            if data[stop] != CR or data[stop + 1] != LF:
                break
            inside += value
            at = stop + 2
        self.inside = inside
        return at

    def eof(self) -> None:
        """The sender has closed, but a chunked body has an end of its own."""
        raise BodyError("the last chunk is missing")

    def _chunk(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """Take what `data` has of this chunk and its CRLF. Returns where the next line begins."""
        left = self.left
        stop = at + left
        size = len(data)
        if stop <= size:
            if left > 2:
                pieces.append(data[at : stop - 2])
            if data[max(at, stop - 2) : stop] != b"\r\n"[-min(left, 2) :]:
                raise BodyError("chunk data does not end in CRLF")
            self.left = 0
            return stop
        # At least one byte of the CRLF is still to come.
        payload = min(size - at, left - 2) if left > 2 else 0
        if payload:
            pieces.append(data[at : at + payload])
        if left > 1 and size - at == left - 1 and data[size - 1] != 13:
            raise BodyError("chunk data does not end in CRLF")
        self.left = left - (size - at)
        return size

    def _bound(self, extension: bytes) -> None:
        self.extensions += len(extension)
        if len(extension) > self.line_limit or self.extensions > EXTENSIONS:
            raise BodyError("too many bytes of chunk extensions")

    def _wait_for_line(self, rest: bytes) -> None:
        if len(rest) > self.line_limit:
            raise BodyError(f"a chunk-size line is over {self.line_limit} bytes")
        if not self.so_far(rest):
            raise BodyError(f"not a chunk size: {escaped(rest[:16])}")
        self.partial = rest

    def _trailer_section(self, data: bytes, seen: int) -> bytes | None:
        """What follows the trailers, or None while they are not whole.

        They may come byte by byte. The first `seen` bytes have been looked at before.
        """
        if data[:2] == b"\r\n":
            return data[2:]
        stop = data.find(b"\r\n\r\n", max(seen - 3, 0))
        if (stop if stop >= 0 else len(data)) > self.trailer_limit:
            raise BodyError(f"the trailers are over {self.trailer_limit} bytes")
        if stop < 0:
            if not _LINES_SO_FAR(data, seen - data.endswith(b"\r", 0, seen)):
                raise BodyError("a trailer field is malformed")
            self.partial = data
            return None
        at = 0
        kept: list[bytes] = []
        length = b""
        while match := _TRAILER(data, at):
            name, value = match.groups()
            at = match.end()
            low = name.lower()
            if may_trail(low) and low not in self.nominated:
                kept.append(b"%b: %b\r\n" % (name, value))
            elif low == b"content-length":
                if not value.isdigit() or value != (length or value):
                    raise BodyError("a trailer says Content-Length, and not in its plain form")
                length = value
            elif low == b"transfer-encoding":
                raise BodyError("a trailer says Transfer-Encoding")
            if data[at : at + 2] == b"\r\n":
                self.trailers = b"".join(kept)
                return data[at + 2 :]
        raise BodyError("a trailer field is malformed")


def encode_chunk(payload: bytes) -> bytes:
    """One chunk. `payload` is not empty."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def last_chunk(trailers: bytes) -> bytes:
    """The end of a chunked body. `trailers` is a canonical block or empty."""
    return b"0\r\n%b\r\n" % trailers
