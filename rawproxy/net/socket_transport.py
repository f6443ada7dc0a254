"""The part of our transports that does not read or write: their facts, and how they end.

    state       the loop watches for             left by
    ─────────   ──────────────────────────────   ───────────────────────────────────────────────
    OPEN        reading, unless paused           `close` → FLUSHING, failure → CLOSED
    FLUSHING    writing: what is queued, then    all is out → LINGERING, the peer's own goodbye
                our goodbye                      is here already, or too slow → CLOSED
    LINGERING   nothing for `LOOK` seconds;      the peer's end came, or took too long → CLOSED
                then reading: what else comes
                is dropped unread
    CLOSED      nothing: the descriptor is gone

Most peers end at once when they have our goodbye. So the poller looks at many of them in one go,
which costs less than to be woken for the end of each one.

This module never reads or writes for a protocol: `TlsTransport` does, and it also changes the state
from OPEN. Invariants: nobody watches a closed descriptor, because its number is soon somebody
else's. The protocol hears of the end once.
"""

from __future__ import annotations

import asyncio
import enum
import os
import socket
from collections.abc import Callable
from typing import Any, Final, cast

from rawproxy.net.backpressure import reset_on_close, unsent
from rawproxy.net.poller import Poller, poller

HIGH: Final = 65_536  # queued bytes at which the protocol is paused and (LOW) resumed, as asyncio
LOW: Final = 16_384
DISCARD: Final = 16_384  # bytes thrown away at a time while lingering
LOOK: Final = 0.02  # seconds until the first look at who lingers
LAST: Final = 2  # reads of that look: a goodbye, and the end


class TransportState(enum.Enum):
    """The states of the module's docstring."""

    OPEN = "open"
    FLUSHING = "flushing"
    LINGERING = "lingering"
    CLOSED = "closed"


OPEN: Final[TransportState] = TransportState.OPEN
FLUSHING: Final[TransportState] = TransportState.FLUSHING
LINGERING: Final[TransportState] = TransportState.LINGERING
CLOSED: Final[TransportState] = TransportState.CLOSED


class SocketTransport(asyncio.Transport):
    """One connection. `grace`: seconds that a close may take without progress."""

    __slots__ = (
        "_fd", "_full", "_grace", "_high", "_loop", "_low", "_poller", "_protocol", "_sock",
        "_state", "_timer", "_unsent",
    )  # fmt: skip

    def __init__(
        self,
        sock: socket.SocketType,
        protocol: asyncio.BaseProtocol,
        grace: float,
        loop: asyncio.AbstractEventLoop | None,
        watch: Poller | None,
    ) -> None:
        # The constructor of the base is not called: it makes a dict for each connection.
        # To ask for the running loop is a system call (until Python 3.12), so the caller gives it.
        self._loop = loop or asyncio.get_running_loop()
        self._poller = watch or poller()
        self._sock = sock
        self._fd = sock.fileno()
        self._protocol: Any = protocol
        self._grace = grace
        self._state = OPEN
        self._high, self._low = HIGH, LOW
        self._full = False  # the protocol is not to write
        self._timer: asyncio.TimerHandle | None = None
        self._unsent = 0  # bytes on their way at the last look while closing

    def __del__(self) -> None:
        if self._state is LINGERING:  # the loop was closed meanwhile
            os.close(self._fd)

    # ── the end ─────────────────────────────────────────────────────────────────────────────────

    def is_closing(self) -> bool:
        return self._state is not OPEN

    def _wait_for_the_end(self) -> None:
        """From now on a close is cut if it makes no progress."""
        self._unsent = unsent(self)
        self._timer = self._loop.call_later(self._grace, self._on_slow)

    def _linger(self) -> None:
        # The socket is not even half-closed: when a FIN comes, clients with uvloop drop what they
        # have not read yet. What the peer still sends is thrown away undecrypted.
        self._state = LINGERING
        self._sock.detach()
        self._poller.remove_writer(self._fd)
        self._poller.remove_reader(self._fd)
        self._poller.look_later(self._look, LOOK, self._loop)

    def _look(self) -> None:
        """The first look at a peer that has our goodbye. If it goes on, the poller watches it."""
        for _ in range(LAST):
            if self._state is LINGERING:
                self._on_lingering()
        if self._state is not LINGERING:
            return
        try:
            self._poller.add_reader(self._fd, self._on_lingering)
        except OSError:  # the kernel watches no more: others wait for this look too
            self._finish(None)
        else:
            if self._timer is None:
                self._timer = self._loop.call_later(self._grace, self._on_slow)

    def _on_lingering(self) -> None:
        try:
            if os.read(self._fd, DISCARD):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._let_go()
        # The loop called, and no method of the protocol: it may be told at once.
        self._call(self._tell, None)

    def _on_slow(self) -> None:
        """`grace` has passed. A peer that still takes what was queued gets as long again."""
        before, self._unsent = self._unsent, unsent(self)
        # Not "less": a record of which a part is on its way counts twice.
        if self._state is FLUSHING and self._unsent != before:
            self._timer = self._loop.call_later(self._grace, self._on_slow)
            return
        if self._state is FLUSHING:
            reset_on_close(self._sock)
        self._finish(None)

    def abort(self) -> None:
        """Close at once, without a goodbye. The peer sees that the connection was cut."""
        self._finish(None)

    def _finish(self, error: Exception | None) -> None:
        """Close the descriptor and tell the protocol, once."""
        if self._state is not CLOSED:
            self._let_go()
            self._loop.call_soon(self._tell, error)

    def _let_go(self) -> None:
        """Close the descriptor."""
        self._poller.forget(self._fd)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._state is LINGERING:
            os.close(self._fd)
        else:
            self._sock.close()
        self._state = CLOSED

    def _tell(self, error: Exception | None) -> None:
        protocol, self._protocol = self._protocol, None
        protocol.connection_lost(error)

    def _call(self, method: Callable[..., object], *arguments: object) -> None:
        try:
            method(*arguments)
        except Exception as error:  # noqa: BLE001, whatever a protocol raises is its own bug
            self._bug(error)

    def _bug(self, error: Exception) -> None:
        """The protocol raised an exception, which it must not do."""
        self._loop.call_exception_handler(
            {
                "message": "a protocol failed",
                "exception": error,
                "transport": self,
                "protocol": self._protocol,
            }
        )
        self._finish(error)

    # ── facts ───────────────────────────────────────────────────────────────────────────────────

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The same as in asyncio."""
        if name == "socket":
            return self._sock
        if name in ("peername", "sockname"):
            try:
                return self._sock.getpeername() if name[0] == "p" else self._sock.getsockname()
            except OSError:
                return default
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return cast(asyncio.BaseProtocol, self._protocol)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """When to call `pause_writing` and `resume_writing`. The defaults are those of asyncio."""
        if high is None:
            high = HIGH if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must be at least low ({low}), and low not below 0")
        self._high, self._low = high, low
