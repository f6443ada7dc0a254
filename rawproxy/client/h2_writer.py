"""The writing half of an HTTP/2 connection: frames out, and how much each stream may send.

Frames are gathered and leave in one write. Frames that a read of the client caused leave after that
read. An answer that no other stream could join leaves at once. All others leave at the end of the
turn of the event loop. While the socket takes no more, or a window is closed, the bytes of a stream
wait in its own outbox. `pump` then lets the streams send in turns, a frame each (RFC 9113 5.2).

This module never reads. Invariants: HEADERS leave in the order in which they were encoded. There is
no DATA beyond a window, and nothing after `close`.
"""

from __future__ import annotations

import asyncio
from abc import ABCMeta, abstractmethod
from typing import Final, Generic, TypeVar

from rawproxy.client.request_side import RequestSide
from rawproxy.net.backpressure import unsent
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http2 import frames
from rawproxy.protocol.http2.budget import RESET, Budget
from rawproxy.protocol.http2.flow_control import CONNECTION, FlowControl, Window
from rawproxy.protocol.http2.frames import DEFAULT_WINDOW, MAX_FRAME, Code, Fault
from rawproxy.protocol.http2.hpack import SIZE_UPDATE_ZERO
from rawproxy.protocol.http2.stream_numbers import StreamNumbers
from rawproxy.proxy.admission import ConnectionSlot
from rawproxy.proxy.service import Service, log

COALESCE: Final = 64 * 1024  # bytes of frames that are gathered before they are written


class Sender(RequestSide):
    """A stream, as the connection sees it that shares out the window."""

    __slots__ = ("id", "queued", "receive_window", "send_window")

    def __init__(
        self, service: Service, slot: ConnectionSlot, number: int, send_window: Window
    ) -> None:
        super().__init__(service, slot)
        self.id = number
        self.queued = 0  # bytes that wait for their turn
        self.send_window = send_window
        # What the client may send; None: its request had no body.
        self.receive_window: Window | None = None

    @abstractmethod
    def pump(self, room: int) -> int:
        """Send one frame of at most `room` bytes from what waits; how many bytes it took."""

    @abstractmethod
    def release(self) -> None:
        """The socket takes more."""

    @abstractmethod
    def cancel(self, reason: Exception | None = None) -> None:
        """The connection has gone."""


S = TypeVar("S", bound=Sender)


class FrameWriter(Generic[S], metaclass=ABCMeta):
    """Base of the HTTP/2 connection: its streams and what they send."""

    __slots__ = (
        "acked",
        "blocked",
        "budget",
        "context",
        "dead",
        "deadline",
        "draining",
        "flow",
        "held",
        "numbers",
        "out",
        "out_size",
        "progress",
        "reading",
        "resize",
        "service",
        "streams",
        "transport",
        "waiting",
        "written",
    )  # fmt: skip

    transport: asyncio.Transport
    context: rewrite.ClientContext
    slot: ConnectionSlot

    def __init__(self, service: Service) -> None:
        self.service = service
        self.budget = Budget(service.limits.h2_budget, service.limits.h2_budget // 20)
        self.streams: dict[int, S] = {}
        self.numbers = StreamNumbers()
        self.deadline = 0.0
        self.draining = 0  # 1: no stream is begun after those under way, 2: a GOAWAY said so
        self.dead = False
        self.flow = FlowControl()
        self.waiting: dict[int, S] = {}  # streams with an outbox, in the order of turns
        self.held: list[S] = []  # streams that are told when the socket takes more
        self.blocked = False  # the socket takes no more
        self.written = 0  # bytes handed to the transport
        self.acked = 0  # of them, those that the client had at the last look
        self.progress = 0.0  # when it must have taken something
        self.resize = False  # the client allows our encoder less than the usual table
        self.reading = False  # a read of the client's is being worked off
        self.out: list[bytes] = []
        self.out_size = 0

    def greet(self) -> None:
        """Our own preface (RFC 9113 3.4)."""
        limits = self.service.limits
        self.write(
            frames.settings(
                {
                    frames.MAX_CONCURRENT_STREAMS: self.slot.most_streams(limits.h2_streams),
                    frames.INITIAL_WINDOW_SIZE: DEFAULT_WINDOW,
                    frames.MAX_HEADER_LIST_SIZE: limits.head,
                    frames.ENABLE_CONNECT_PROTOCOL: 1,
                    frames.NO_RFC7540_PRIORITIES: 1,
                }
            )
            + frames.window_update(0, CONNECTION - DEFAULT_WINDOW)
        )

    def write(self, data: bytes) -> None:
        """Gather frames that leave with others."""
        if not (self.out or self.reading):
            asyncio.get_running_loop().call_soon(self.flush)
        self.out.append(data)
        self.out_size += len(data)
        if self.out_size > COALESCE:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        if self.out:
            out, self.out = self.out, []
            self.written += self.out_size
            self.out_size = 0
            if not self.transport.is_closing():
                self.transport.write(b"".join(out))

    def took(self) -> int:
        """Bytes that the client took since the last call."""
        before, self.acked = self.acked, self.written - unsent(self.transport)
        return self.acked - before

    def send_headers(self, number: int, block: bytes, ended: bool = False) -> None:
        """A field block (RFC 9113 6.2)."""
        if self.resize:  # RFC 7541 4.2: said once, before the first field
            self.resize = False
            block = SIZE_UPDATE_ZERO + block
        self.write(frames.headers(number, block, ended))

    def send_answer(self, stream: S, block: bytes, payload: bytes, ended: bool) -> int:
        """Send HEADERS and what can be sent of `payload` now. Returns how many bytes that is."""
        size = len(payload)
        ours, window = self.flow.send, stream.send_window
        if (
            (size > ours.left or size > window.left or size > MAX_FRAME)
            or (len(block) > MAX_FRAME or self.blocked or self.resize)
        ):  # fmt: skip
            self.send_headers(stream.id, block)
            return self.send_data(stream, payload, ended)
        ours.take(size)
        window.take(size)
        self.budget.earn(2)
        data = frames.answer(stream.id, block, payload, ended)
        if ended and len(self.streams) == 1 and not self.reading:
            # Nobody else's frames can join it in this turn.
            self.out.append(data)
            self.out_size += len(data)
            self.flush()
        else:
            self.write(data)
        return size

    def send_data(self, stream: S, payload: bytes | memoryview, ended: bool) -> int:
        """Send what the windows and the socket allow of `payload`; how many bytes that is.

        `ended` sets END_STREAM on the last frame if all of it can be sent.
        """
        size = len(payload)
        ours, window = self.flow.send, stream.send_window
        room = min(ours.left, window.left)
        if size and (self.blocked or room < size):
            if self.blocked or room <= 0:
                return 0
            payload, size, ended = memoryview(payload)[:room], room, False
        ours.take(size)
        window.take(size)
        self.budget.earn(2 + 2 * size // MAX_FRAME)
        self.write(frames.data(stream.id, payload, ended))
        return size

    def pump(self) -> None:
        """Streams with an outbox send in turns, for as long as anything can be sent."""
        waiting = self.waiting
        window = self.flow.send
        stuck = 0
        while waiting and stuck < len(waiting) and window.left > 0 and not self.blocked:
            number = next(iter(waiting))
            stream = waiting.pop(number)
            sent = stream.pump(min(window.left, MAX_FRAME))
            if stream.queued and number in self.streams:
                waiting[number] = stream
            stuck = 0 if sent else stuck + 1

    def reset(self, number: int, code: Code) -> None:
        """A RST_STREAM. Ours are paid for as the client's are (CVE-2025-8671)."""
        self.numbers.reset(number)
        self.budget.owe(RESET)
        self.write(frames.rst_stream(number, code))

    def forget(self, stream: S) -> bool:
        """A stream is over. Returns whether it was still open."""
        number = stream.id
        if number not in self.streams:
            return False
        del self.streams[number]
        if self.slot.counted:
            self.slot.finish(1)
        if number in self.waiting:
            del self.waiting[number]
        if stream.receive_window is not None:
            self.flow.ended(stream.receive_window)
        if not self.streams:
            self.rest()
            self.close_if_done()
        return True

    def rest(self) -> None:
        """Nothing is due: a connection without a stream is idle."""
        idle = not self.streams
        self.deadline = self.service.deadline(self.service.deadlines.client_idle) if idle else 0.0

    def fail(self, fault: Fault) -> None:
        """The client broke the protocol: send GOAWAY, and end everything (RFC 9113 5.4.1)."""
        log.info("HTTP/2: %s: %s", fault.code.name, fault.detail)
        self.service.counters.h2_faults += 1
        self.close(fault.code, fault.detail)

    def close(self, code: Code, detail: str = "") -> None:
        """Say goodbye and close; whatever is under way ends."""
        if self.dead:
            return
        self.dead = True
        streams, self.streams = self.streams, {}
        self.slot.finish(len(streams))
        self.waiting.clear()
        for stream in tuple(streams.values()):
            stream.cancel(ConnectionResetError("the connection is closed"))
        self.write(frames.goaway(self.numbers.last, code, detail))
        self.flush()
        self.deadline = self.service.deadline(self.service.deadlines.linger)
        self.transport.close()

    def goaway(self, final: bool) -> None:
        """Ask for no more streams: first a warning, then from the last one on (RFC 9113 6.8)."""
        self.draining = 2 if final else 1
        last = self.numbers.last if final else frames.MAX_WINDOW
        self.write(frames.goaway(last, Code.NO_ERROR))

    def close_if_done(self) -> None:
        """Draining ends with the last stream."""
        if self.draining == 2 and not self.streams:
            self.close(Code.NO_ERROR)
