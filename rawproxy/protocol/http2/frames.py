"""HTTP/2 frames (RFC 9113 4, 6): their numbers, how they are built, and how they can be wrong.

This module never keeps state and never sees a socket. Invariant: what is built here fits the
maximum frame size of the peer. Raises `ConnectionFault` and `StreamFault`, nothing else. The first
ends the connection with a GOAWAY, the second ends one stream with a RST_STREAM (RFC 9113 5.4).
"""

from __future__ import annotations

import enum
import struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER: Final = struct.Struct(">HBBBL")  # length (24 bits as 16 and 8), type, flags, stream
HEADER_SIZE: Final = HEADER.size
MAX_FRAME: Final = 16384  # bytes of payload: what we accept, and what every client does (4.2)
MAX_WINDOW: Final = 2**31 - 1  # of flow control (6.9.1)
DEFAULT_WINDOW: Final = 65535  # 6.9.2

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9
END_STREAM: Final = 0x1
ACK: Final = 0x1  # in SETTINGS and PING
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6
ENABLE_CONNECT_PROTOCOL: Final = 8  # RFC 8441 3, RFC 9218 2.1
NO_RFC7540_PRIORITIES: Final = 9


class Code(enum.IntEnum):
    """Error codes (RFC 9113 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class Fault(Exception):  # noqa: N818 - the RFC's word is error, the client's is fault
    """The client broke the protocol."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class ConnectionFault(Fault):
    """Nothing on this connection can be trusted any more (RFC 9113 5.4.1)."""


class StreamFault(Fault):
    """One stream is at fault (RFC 9113 5.4.2)."""


# The compiler turns these shifts into as many instructions; to unpack a struct costs a thousand.


def length_at(data: bytes, at: int) -> int:
    """The payload's size of the frame that begins at `at` (4.1)."""
    return data[at] << 16 | data[at + 1] << 8 | data[at + 2]


def stream_at(data: bytes, at: int) -> int:
    """The stream of the frame that begins at `at`. The reserved bit is ignored (4.1)."""
    return (data[at + 5] & 0x7F) << 24 | data[at + 6] << 16 | data[at + 7] << 8 | data[at + 8]


# What small frames begin with, by their size, of the three kinds that most answers are made of: to
# pack a struct costs a thousand instructions too.
_SMALL: Final = 1024
_heads: Final = [b""] * _SMALL
_parts: Final = [b""] * _SMALL
_lasts: Final = [b""] * _SMALL


def _front(known: list[bytes], size: int, kind: int, flags: int) -> bytes:
    """Length, type and flags of a frame; `known` has those of its kind that were made before."""
    front = known[size] if size < _SMALL else b""
    if not front:
        front = bytes((size >> 16, size >> 8 & 0xFF, size & 0xFF, kind, flags))
        if size < _SMALL:
            known[size] = front
    return front


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame. `payload` is at most `MAX_FRAME` bytes."""
    size = len(payload)
    return HEADER.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def headers(stream: int, block: bytes, ended: bool) -> bytes:
    """A field block as HEADERS, and as CONTINUATIONs if it is long (6.2, 6.10)."""
    flags = END_STREAM if ended else 0
    if len(block) <= MAX_FRAME:
        return frame(HEADERS, flags | END_HEADERS, stream, block)
    parts = [frame(HEADERS, flags, stream, block[:MAX_FRAME])]
    for at in range(MAX_FRAME, len(block), MAX_FRAME):
        last = END_HEADERS if at + MAX_FRAME >= len(block) else 0
        parts.append(frame(CONTINUATION, last, stream, block[at : at + MAX_FRAME]))
    return b"".join(parts)


def data(stream: int, payload: bytes | memoryview, ended: bool) -> bytes:
    """A payload as DATA frames of at most `MAX_FRAME` bytes (6.1). There is at least one."""
    size = len(payload)
    last = END_STREAM if ended else 0
    if size <= MAX_FRAME:
        return b"".join((HEADER.pack(size >> 8, size & 0xFF, DATA, last, stream), payload))
    view = memoryview(payload)
    parts: list[bytes | memoryview] = []
    for at in range(0, size, MAX_FRAME):
        piece = view[at : at + MAX_FRAME]
        flags = last if at + MAX_FRAME >= size else 0
        parts += (HEADER.pack(len(piece) >> 8, len(piece) & 0xFF, DATA, flags, stream), piece)
    return b"".join(parts)


def answer(stream: int, block: bytes, payload: bytes, ended: bool) -> bytes:
    """HEADERS and DATA as one piece; both are at most `MAX_FRAME` bytes."""
    number = stream.to_bytes(4, "big")
    head = _front(_heads, len(block), HEADERS, END_HEADERS)
    if ended:
        rest = _front(_lasts, len(payload), DATA, END_STREAM)
    else:
        rest = _front(_parts, len(payload), DATA, 0)
    return b"".join((head, number, block, rest, number, payload))


def settings(pairs: dict[int, int]) -> bytes:
    """A SETTINGS frame (6.5)."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HL", *pair) for pair in pairs.items()))


def rst_stream(stream: int, code: Code) -> bytes:
    """A RST_STREAM (6.4)."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last: int, code: Code, detail: str = "") -> bytes:
    """A GOAWAY (6.8). `detail` is for whoever debugs the client."""
    return frame(GOAWAY, 0, 0, struct.pack(">LL", last, code) + detail.encode())


def window_update(stream: int, credit: int) -> bytes:
    """A WINDOW_UPDATE (6.9)."""
    return frame(WINDOW_UPDATE, 0, stream, credit.to_bytes(4, "big"))


def unpad(flags: int, payload: bytes) -> bytes:
    """The payload of a DATA or HEADERS frame, without padding (6.1). Raises `ConnectionFault`."""
    if not flags & PADDED:
        return payload
    if not payload:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a padded frame without its pad length")
    pad = payload[0]
    if pad >= len(payload):
        raise ConnectionFault(Code.PROTOCOL_ERROR, "more padding than frame")
    return payload[1 : len(payload) - pad]


def dependency(stream: int, payload: bytes) -> None:
    """Check the priority fields (6.3). Nothing else is done with them (5.3.2)."""
    if int.from_bytes(payload[:4], "big") & MAX_WINDOW == stream:
        raise StreamFault(Code.PROTOCOL_ERROR, "a stream that depends on itself")


def parse_settings(payload: bytes) -> list[tuple[int, int]]:
    """Identifier and value of each setting, checked (6.5.2). Raises `ConnectionFault`."""
    if len(payload) % 6:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "SETTINGS that is no multiple of 6 bytes")
    pairs = list(struct.iter_unpack(">HL", payload))
    for name, value in pairs:
        if name == ENABLE_PUSH and value > 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"ENABLE_PUSH of {value}")
        if name == INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE of {value}")
        if name == MAX_FRAME_SIZE and not MAX_FRAME <= value < 2**24:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"MAX_FRAME_SIZE of {value}")
        if name == ENABLE_CONNECT_PROTOCOL and value > 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"ENABLE_CONNECT_PROTOCOL of {value}")
    return pairs
