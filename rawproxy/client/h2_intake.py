"""The reading half of an HTTP/2 connection: it cuts bytes into frames, a limited number in a turn.

One turn of the loop does only so much work for a connection: thousands of requests fit into one
read. And while the client does not take what it has, nothing is done for it. Otherwise answers
would pile up, even if they are only heads or acknowledgements. Its frames are kept then, and soon
reading stops.

This module never looks into a payload. Invariants: frames keep their order. What is kept goes on in
a later turn of the loop, or when the socket has room. It is never more than `HELD` bytes and one
read.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Final

from rawproxy.client.h2_stream import Stream
from rawproxy.client.h2_writer import FrameWriter
from rawproxy.protocol.http2.frames import (
    HEADER_SIZE,
    MAX_FRAME,
    PREFACE,
    Code,
    ConnectionFault,
    length_at,
    stream_at,
)
from rawproxy.protocol.http2.hpack import HpackError
from rawproxy.proxy.service import Service

# What one turn of the loop does for one connection: some two milliseconds of work. The unit is what
# the cheapest frames cost; a request is eight, and each 256 bytes that are to be read are one more.
TURN: Final = 128
# By the frame's type; DATA is passed on unread.
_WORK: Final[tuple[int, ...]] = (1, 8, 1, 4, 2, 1, 1, 1, 1, 8)
HELD: Final = 16 * 1024  # bytes of frames that wait; reading stops where there are more


class H2Intake(FrameWriter[Stream]):
    """Base of the HTTP/2 connection: frames as they come."""

    __slots__ = ("at", "buffer", "due", "paused", "preface")

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self.preface = 2  # due: 2: the preface, 1: SETTINGS, 0: nothing any more
        self.buffer = b""
        self.at = 0  # where in it the next frame begins
        self.due = False  # the frames in it go on in a later turn
        self.paused = False  # and no more are read

    @abstractmethod
    def frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """One frame. Raises `ConnectionFault` and `HpackError`."""

    def data_received(self, data: bytes) -> None:
        if self.dead:
            return
        if self.buffer:
            data = self.buffer[self.at :] + data if self.at else self.buffer + data
            self.buffer, self.at = b"", 0
        if self.due or self.blocked:
            self.hold(data, 0)
        else:
            self.read_frames(data, 0)

    def read_frames(self, data: bytes, at: int) -> None:
        """Read the frames in `data` from `at` on, until the turn is over or the socket is full."""
        work = TURN
        self.reading = True
        try:
            if self.preface == 2:
                at = self._read_preface(data)
            size = len(data)
            while size - at >= HEADER_SIZE and self.preface < 2:
                if work <= 0 or self.blocked:
                    self.hold(data, at)
                    return
                length = length_at(data, at)
                if length > MAX_FRAME:
                    raise ConnectionFault(
                        Code.FRAME_SIZE_ERROR, f"a frame of {length} bytes; {MAX_FRAME} are allowed"
                    )
                stop = at + HEADER_SIZE + length
                if stop > size:
                    break
                kind = data[at + 3]
                work -= 1 if not kind or kind >= len(_WORK) else _WORK[kind] + (length >> 8)
                payload = data[at + HEADER_SIZE : stop]
                self.frame(kind, data[at + 4], stream_at(data, at), payload)
                at = stop
                if self.dead:
                    return
            self.buffer = data[at:]
        except ConnectionFault as fault:
            self.fail(fault)
        except HpackError as error:
            self.fail(ConnectionFault(Code.COMPRESSION_ERROR, str(error)))
        finally:
            self.reading = False
            self.flush()
        if self.paused and not self.dead:
            self.paused = False
            self.transport.resume_reading()

    def hold(self, data: bytes, at: int) -> None:
        """Go on at `at` in a later turn, or when the client has taken what it had."""
        self.buffer, self.at = data, at
        if not self.paused and len(data) - at > HELD:
            self.paused = True
            self.transport.pause_reading()
        if not (self.due or self.blocked):
            self.due = True
            asyncio.get_running_loop().call_soon(self.go_on)

    def go_on(self) -> None:
        """Read what was kept, if that is possible now."""
        self.due = False
        if not self.dead and not self.blocked:
            data, at = self.buffer, self.at
            self.buffer, self.at = b"", 0
            self.read_frames(data, at)

    def pause_writing(self) -> None:
        self.blocked = True
        self.acked = 0  # it has a whole stretch from the next look on
        self.progress = self.service.deadline(self.service.deadlines.response_body)

    def resume_writing(self) -> None:
        self.blocked = False
        held, self.held = self.held, []
        for stream in held:
            stream.release()
        self.pump()
        if (self.buffer or self.paused) and not self.due:
            self.go_on()

    def _read_preface(self, data: bytes) -> int:
        """RFC 9113 3.4."""
        if len(data) < len(PREFACE):
            if not PREFACE.startswith(data):
                raise ConnectionFault(Code.PROTOCOL_ERROR, "that is not HTTP/2's preface")
            return 0
        if not data.startswith(PREFACE):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "that is not HTTP/2's preface")
        self.preface = 1
        return len(PREFACE)
