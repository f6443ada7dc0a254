"""A stream that has become a tunnel, as an asyncio transport: WebSocket over HTTP/2 (RFC 8441).

The tunnel splices it with the upstream's socket as it splices two sockets. DATA is what was
written, END_STREAM is a half-close, and RST_STREAM is a reset. The stream's flow control pauses
either side. This module never looks into the bytes. Invariant: the protocol hears of the end
exactly once.
"""

from __future__ import annotations

import asyncio
from typing import Any

from rawproxy.client.h2_responder import StreamResponder
from rawproxy.net.backpressure import WRITER_FULL, Valve
from rawproxy.protocol.http2.frames import Code


class StreamTransport(asyncio.Transport):
    """One stream."""

    def __init__(self, stream: StreamResponder) -> None:
        super().__init__()
        self.stream = stream
        self.valve = Valve(self)
        self._protocol: Any = None
        self._closing = False
        self._lost = False

    def feed(self, payload: bytes, ended: bool) -> None:
        """DATA from the client."""
        if payload:
            self._protocol.data_received(payload)
        if ended and not self._protocol.eof_received():
            self.close()

    def on_writable(self, writable: bool) -> None:
        """The stream's outbox has room, or has none."""
        if writable:
            self._protocol.resume_writing()
        else:
            self._protocol.pause_writing()

    def lost(self, reason: Exception | None) -> None:
        """The stream is over."""
        self._closing = True
        if not self._lost:
            self._lost = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, reason)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self.stream.throttle(WRITER_FULL, True)

    def resume_reading(self) -> None:
        self.stream.throttle(WRITER_FULL, False)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.stream.send_payload(bytes(data))

    def get_write_buffer_size(self) -> int:
        return self.stream.queued

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.stream.send_end(b"")

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if self.stream.local_ended:
            self.stream.end()
        else:
            self.stream.send_end(b"")

    def abort(self) -> None:
        self._closing = True
        self.stream.reset(Code.CANCEL)
