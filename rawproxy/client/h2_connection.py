"""The client's side of HTTP/2: one connection, its frames, and who may send how much.

    data_received ──► frames ──► a field block ──► Stream, and with it an exchange
                             ──► DATA          ──► its stream
    streams       ──► HEADERS, DATA ──► one coalesced write for each turn of the loop

Streams share the send window of the connection, and the room in the socket, frame by frame and in
turns (`h2_writer`), so that none starves. Connections share the turns of the loop in the same way
(`h2_intake`). A client pays from a budget for what serves no request. This module never rewrites,
chooses an upstream or retries. Invariants: after a GOAWAY of ours with an error, nothing is
processed. Every block updates the state of HPACK, also blocks of streams that are refused. Every
wait has a deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from rawproxy.client.h2_intake import H2Intake
from rawproxy.client.h2_stream import Stream
from rawproxy.errors import ClientError
from rawproxy.net.backpressure import cut, take_more
from rawproxy.protocol.http.head import RequestHead
from rawproxy.protocol.http2 import fields, frames
from rawproxy.protocol.http2.budget import RESET
from rawproxy.protocol.http2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    HAS_PRIORITY,
    MAX_WINDOW,
    Code,
    ConnectionFault,
    StreamFault,
)
from rawproxy.protocol.http2.header_reader import HeaderReader
from rawproxy.protocol.http2.hpack import TABLE_SIZE, FieldsTooLarge
from rawproxy.proxy.admission import ConnectionSlot
from rawproxy.proxy.service import Service

LATE: Final = "frames for streams that were reset"
BLOCK_FRAMES: Final = 16  # HEADERS and CONTINUATIONs of one block: 256 KiB where they are full


class H2Connection(H2Intake, asyncio.Protocol):
    """One connection of an HTTP/2 client."""

    __slots__ = ("block", "reader", "slot")

    def __init__(self, service: Service, slot: ConnectionSlot) -> None:
        super().__init__(service)
        self.slot = slot
        self.reader = HeaderReader(service.limits)
        self.block: tuple[int, int, list[bytes]] | None = None  # stream, flags and what came
        self.deadline = service.deadline(service.deadlines.request_head)

    def __repr__(self) -> str:
        return f"<H2Connection {self.context.peer.decode()} {len(self.streams)} streams>"

    # ── the transport's calls ───────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are not subclasses
        self.context = self.service.context(self.slot, True)
        if self.slot.epoch != self.service.epoch:
            self.adopt()
        self.service.clients.add(self)
        self.greet()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.dead = True
        self.service.clients.discard(self)
        streams, self.streams = self.streams, {}
        self.slot.finish(len(streams))
        self.slot.leave()
        self.waiting.clear()
        for stream in tuple(streams.values()):
            stream.cancel(exc or ConnectionResetError("the client closed the connection"))

    def resume_writing(self) -> None:
        if self.slot.unproven:
            self.slot.unproven -= 1
            if not self.slot.unproven:
                take_more(self.transport, queue=False)
        super().resume_writing()

    # ── frames in ───────────────────────────────────────────────────────────────────────────────

    def frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self.preface:
            if kind != frames.SETTINGS or flags & ACK:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS (3.4)")
            self.preface = 0
            self.deadline = self.service.deadline(self.service.deadlines.client_idle)
        if self.block is not None and kind != frames.CONTINUATION:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame within a field block (6.10)")
        if self.budget.left < 0:
            self.budget.spend(0, "resets")
        if kind >= len(_HANDLERS):
            self.budget.spend(1, "frames of unknown type")
            return
        try:
            if kind == frames.HEADERS:
                self._on_headers(flags, number, payload)
            else:
                _HANDLERS[kind](self, flags, number, payload)
        except StreamFault as fault:
            stream = self.streams.get(number)
            if stream is not None:
                stream.reset(fault.code)
            else:
                self.reset(number, fault.code)

    def _on_data(self, flags: int, number: int, payload: bytes) -> None:
        if not number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "DATA on stream 0 (6.1)")
        size = len(payload)
        payload = frames.unpad(flags, payload)
        credit = self.flow.received(size)
        if credit:
            self.write(frames.window_update(0, credit))
        stream = self.streams.get(number)
        if stream is None:
            self.numbers.late(number, "DATA")
            self.budget.spend(1, LATE)
            return
        stream.take(size)
        ended = bool(flags & END_STREAM)
        if payload or ended:
            self.budget.earn(2)
        else:
            self.budget.spend(1, "empty DATA")
        stream.on_data(payload, ended)
        if size > len(payload) and not ended and number in self.streams:
            stream.credit(size - len(payload))

    def _on_headers(self, flags: int, number: int, payload: bytes) -> None:
        if not number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "HEADERS on stream 0 (6.2)")
        payload = frames.unpad(flags, payload)
        if flags & HAS_PRIORITY and len(payload) < 5:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "HEADERS without its priority (6.2)")
        if flags & END_HEADERS:
            self._field_block(flags, number, payload)
            return
        self.block = (number, flags, [payload])
        self.deadline = self.service.deadline(self.service.deadlines.request_head)

    def _on_continuation(self, flags: int, number: int, payload: bytes) -> None:
        block = self.block
        if block is None or block[0] != number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION of nothing (6.10)")
        block[2].append(payload)
        if not payload:
            self.budget.spend(1, "empty CONTINUATION")
        limits = self.service.limits
        if len(block[2]) > BLOCK_FRAMES or sum(map(len, block[2])) > 2 * limits.head:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "a field block without end")
        if flags & END_HEADERS:
            self.block = None
            self.rest()
            self._field_block(block[1], number, b"".join(block[2]))

    def _field_block(self, flags: int, number: int, block: bytes) -> None:
        """A whole block: that of a request, or its trailers."""
        if flags & HAS_PRIORITY:
            priority, block = block[:5], block[5:]
        ended = bool(flags & END_STREAM)
        if number > self.numbers.last:
            self._request(number, block, ended)
        else:
            try:
                decoded = self.reader.decode(block)
            except FieldsTooLarge as failure:
                raise StreamFault(Code.ENHANCE_YOUR_CALM, str(failure)) from None
            stream = self.streams.get(number)
            if stream is None:
                self.numbers.late(number, "HEADERS")
                self.budget.spend(1, LATE)
            elif stream.remote_ended:
                raise StreamFault(Code.STREAM_CLOSED, "HEADERS behind END_STREAM (5.1)")
            elif not ended:
                raise StreamFault(Code.PROTOCOL_ERROR, "trailers without END_STREAM (8.1)")
            else:
                stream.on_data(b"", True, fields.trailers(decoded))
        if flags & HAS_PRIORITY:
            frames.dependency(number, priority)

    def _request(self, number: int, block: bytes, ended: bool) -> None:
        self.numbers.begin(number)
        head: RequestHead | None = None
        opening = b""
        error: ClientError | None = None
        try:
            head, opening = self.reader.request(block, ended)
        except FieldsTooLarge as failure:
            self.budget.spend(RESET, "field blocks over the limits")
            error = ClientError(str(failure), 431)
        except ClientError as refusal:
            error = refusal
        if len(self.streams) >= self.service.limits.h2_streams or self.draining == 2:
            raise StreamFault(Code.REFUSED_STREAM, "too many streams (5.1.2)")
        if self.slot.counted and not self.slot.begin():
            raise StreamFault(Code.REFUSED_STREAM, "too many requests of one client")
        self.deadline = 0.0
        self.budget.earn(2)
        stream = Stream(self, number, head, ended)
        self.streams[number] = stream
        if error is not None:
            stream.refuse(error)
            return
        stream.start(opening)
        if number >= 2 * self.service.limits.requests - 1:
            self.drain()
        # Where routes differ, what one path came to says nothing about the next.
        alike = ended and not opening and self.slot.sites is None
        if alike and stream.exchange is not None and head is not None:
            self.reader.remember(block, head, stream.exchange.opening)

    def _on_priority(self, flags: int, number: int, payload: bytes) -> None:
        if not number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PRIORITY on stream 0 (6.3)")
        self.budget.spend(1, "PRIORITY")
        if len(payload) != 5:
            raise StreamFault(Code.FRAME_SIZE_ERROR, "PRIORITY is five bytes (6.3)")
        frames.dependency(number, payload)

    def _on_rst_stream(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "RST_STREAM is four bytes (6.4)")
        if self.numbers.idle(number):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "RST_STREAM on an idle stream (6.4)")
        stream = self.streams.get(number)
        if stream is None:
            self.budget.spend(1, "RST_STREAM")
            return
        stream.on_reset(int.from_bytes(payload, "big"))
        self.budget.spend(RESET, "RST_STREAM")

    def _on_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS on a stream (6.5)")
        if flags & ACK:
            if payload:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a SETTINGS ACK with settings (6.5)")
            self.budget.spend(1, "SETTINGS")
            return
        pairs = frames.parse_settings(payload)
        self.budget.spend(1 + len(pairs) // 8, "SETTINGS")
        sizes = [value for name, value in pairs if name == frames.INITIAL_WINDOW_SIZE]
        if sizes:
            self.flow.resize(sizes, [stream.send_window for stream in self.streams.values()])
        for name, value in pairs:
            if name == frames.HEADER_TABLE_SIZE and value < TABLE_SIZE:
                self.resize = True
        self.write(frames.frame(frames.SETTINGS, ACK, 0))
        self.pump()

    def _on_push_promise(self, flags: int, number: int, payload: bytes) -> None:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "PUSH_PROMISE from a client (8.4)")

    def _on_ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PING on a stream (6.7)")
        if len(payload) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "PING is eight bytes (6.7)")
        self.budget.spend(1, "PING")
        if not flags & ACK:
            self.write(frames.frame(frames.PING, ACK, 0, payload))

    def _on_goaway(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "GOAWAY on a stream (6.8)")
        if len(payload) < 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "GOAWAY is eight bytes or more (6.8)")
        self.budget.spend(1, "GOAWAY")
        self.draining = 2  # it begins no more streams; those under way end as usual
        self.close_if_done()

    def _on_window_update(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "WINDOW_UPDATE is four bytes (6.9)")
        credit = int.from_bytes(payload, "big") & MAX_WINDOW
        self.budget.spend(1, "WINDOW_UPDATE")
        if not number:
            if not credit:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing (6.9)")
            self.flow.send.credit(credit)
            self.pump()
            return
        stream = self.streams.get(number)
        if stream is None:
            if self.numbers.idle(number):
                raise ConnectionFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream (5.1)")
            return
        if not credit:
            raise StreamFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing (6.9)")
        stream.send_window.credit(credit)
        if stream.queued:
            self.pump()

    # ── the sweep and the drain ─────────────────────────────────────────────────────────────────

    def sweep(self, now: float) -> None:
        """Called about once a second."""
        self.budget.tick()
        for stream in tuple(self.streams.values()):
            stream.sweep(now)
        if self.blocked and now >= self.progress:
            wait = self.service.deadlines.response_body
            if self.took() < self.service.pace(self.service.route_target, wait):
                self.abort()
                return
            self.progress = self.service.deadline(wait)
        if self.service.draining and not (self.draining or self.preface):
            self.drain()
        elif self.draining == 1 and not self.dead:
            self.goaway(final=True)
            self.close_if_done()
        if self.deadline and now >= self.deadline:
            self._too_late()

    def _too_late(self) -> None:
        if self.dead:
            cut(self.transport)
        elif self.block is not None:
            self.fail(ConnectionFault(Code.ENHANCE_YOUR_CALM, "a field block that does not end"))
        elif self.preface:
            self.fail(ConnectionFault(Code.SETTINGS_TIMEOUT, "no SETTINGS came"))
        elif not self.streams:
            self.close(Code.NO_ERROR)

    def has_tunnels(self) -> bool:
        """Whether a stream of it is one."""
        return any(stream.tunnel is not None for stream in self.streams.values())

    def adopt(self) -> None:
        """Another configuration counts, for every stream that begins from now on.

        The client was told of bounds for the whole connection, and they hold as long as it does.
        """
        self.slot.follow(self.service.epoch, self.service.sites)
        self.reader.forget()
        self.context = self.service.context(self.slot, True)

    def drain(self) -> None:
        """The worker stops: send a warning now, and the number that counts at the next sweep."""
        if not self.draining and not self.dead:
            self.goaway(final=False)

    def abort(self) -> None:
        """Cut the connection."""
        self.dead = True
        cut(self.transport)


_HANDLERS: Final[tuple[Callable[[H2Connection, int, int, bytes], None], ...]] = (
    H2Connection._on_data,
    H2Connection._on_headers,
    H2Connection._on_priority,
    H2Connection._on_rst_stream,
    H2Connection._on_settings,
    H2Connection._on_push_promise,
    H2Connection._on_ping,
    H2Connection._on_goaway,
    H2Connection._on_window_update,
    H2Connection._on_continuation,
)
