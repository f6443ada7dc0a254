"""What every transport on a socket of ours is besides reading and writing: its facts and its end.

    state       the loop watches for             left by
    ─────────   ──────────────────────────────   ───────────────────────────────────────────────
    OPEN        reading, unless paused           `close` → FLUSHING, failure → CLOSED
    FLUSHING    writing: what is queued, then    all is out → LINGERING, the peer's own goodbye
                our goodbye                      is here already, or too slow → CLOSED
    LINGERING   the peer's end; what else        it came, or took too long → CLOSED
                comes is dropped unread
    CLOSED      nothing: the descriptor is gone

It never reads or writes what a protocol means: `TlsTransport` does, and leaves OPEN by itself.
Invariants: nothing is watched on a closed descriptor, as its number is soon somebody else's; the
protocol hears of the end once.
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

HIGH: Final = 65_536  # queued bytes at which the protocol is paused and resumed, as asyncio's
LOW: Final = 16_384
DISCARD: Final = 16_384  # bytes thrown away at a time while lingering


class TransportState(enum.Enum):
    """See the module's docstring."""

    OPEN = "open"
    FLUSHING = "flushing"
    LINGERING = "lingering"
    CLOSED = "closed"


OPEN: Final[TransportState] = TransportState.OPEN
FLUSHING: Final[TransportState] = TransportState.FLUSHING
LINGERING: Final[TransportState] = TransportState.LINGERING
CLOSED: Final[TransportState] = TransportState.CLOSED


class SocketTransport(asyncio.Transport):
    """One connection; `grace` is how long a close may make no progress."""

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
        # The base's is not called: it makes a dict of extra facts for each connection.
        # To ask which loop is running is a system call (until Python 3.12): who knows it says so.
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
        """From now on a close that makes no progress is a cut."""
        if self._state is FLUSHING:
            self._unsent = unsent(self)
        self._timer = self._loop.call_later(self._grace, self._on_slow)

    def _linger(self) -> None:
        # Not even half-closed: uvloop's clients drop what they have not read yet when a FIN comes.
        # What the peer still says is thrown away below TLS.
        self._state = LINGERING
        self._sock.detach()
        self._poller.remove_writer(self._fd)
        self._poller.add_reader(self._fd, self._on_lingering)

    def _on_lingering(self) -> None:
        try:
            if os.read(self._fd, DISCARD):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._finish(None)

    def _on_slow(self) -> None:
        """`grace` has passed: a peer that is taking what was queued gets as long again."""
        before, self._unsent = self._unsent, unsent(self)
        # Not "less": a record that is on its way in part is counted twice.
        if self._state is FLUSHING and self._unsent != before:
            self._timer = self._loop.call_later(self._grace, self._on_slow)
            return
        if self._state is FLUSHING:
            reset_on_close(self._sock)
        self._finish(None)

    def abort(self) -> None:
        """Close at once and without a goodbye: to the peer it is a connection cut."""
        self._finish(None)

    def _finish(self, error: Exception | None) -> None:
        """Close the descriptor and tell the protocol, once."""
        if self._state is CLOSED:
            return
        self._poller.forget(self._fd)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._state is LINGERING:
            os.close(self._fd)
        else:
            self._sock.close()
        self._state = CLOSED
        self._loop.call_soon(self._tell, error)

    def _tell(self, error: Exception | None) -> None:
        protocol, self._protocol = self._protocol, None
        protocol.connection_lost(error)

    def _call(self, method: Callable[..., object], *arguments: object) -> None:
        try:
            method(*arguments)
        except Exception as error:  # noqa: BLE001, whatever a protocol raises is a bug of its own
            self._bug(error)

    def _bug(self, error: Exception) -> None:
        """The protocol raised, which it must not."""
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
        """As asyncio's."""
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
        """When to call `pause_writing` and `resume_writing`; the defaults are asyncio's."""
        if high is None:
            high = HIGH if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must be at least low ({low}), and low not below 0")
        self._high, self._low = high, low
