"""TLS on a socket as an asyncio transport, without a buffer between OpenSSL and the kernel.

The loops' own transports feed OpenSSL through memory: each byte is copied twice more, and each
connection holds buffers. Here OpenSSL reads and writes the non-blocking socket itself; the loop
only says when. (The handshake comes before: `tls_handshake`.)

    state       the loop watches for             left by
    ─────────   ──────────────────────────────   ───────────────────────────────────────────────
    OPEN        reading, unless paused           `close` → FLUSHING, failure → CLOSED
    FLUSHING    writing: what is queued, then    all is out → LINGERING, the peer's close_notify
                our close_notify                 is here already, or too slow → CLOSED
    LINGERING   the peer's end; what else        it came, or took too long → CLOSED
                comes is dropped unread
    CLOSED      nothing: the descriptor is gone

Of the peer's end there are two kinds: close_notify is `eof_received` and then `connection_lost`
without an error; a connection that just ends (or is reset) is `connection_lost` with a `CutError`,
as nobody can say whether something is missing (RFC 8446 6.1, RFC 9112 9.8).

An upstream that takes no more may have said why: what it has sent before a write to it fails is
read still, and `last_words` in `backpressure` asks for it within `connection_lost`.

It never reads ahead: a record is read whole or not at all, so nothing decrypted stays behind in
OpenSSL, of which the kernel could not tell. Invariants: nothing is watched on a closed descriptor,
as its number is soon somebody else's; the protocol hears of the end once; no error of a peer's
making reaches the loop.
"""

from __future__ import annotations

import asyncio
import enum
import os
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from rawproxy.errors import CutError
from rawproxy.net import openssl_errors
from rawproxy.net.backpressure import MOST_WORDS, WORDS, reset_on_close, unsent
from rawproxy.net.poller import Poller, poller
from rawproxy.net.tls_outbox import RECORD, Outbox

# Records handed over at once: 112 KiB, what malloc still takes from its heap. More would be mapped
# and paged in each time, which costs 10 % of a large download.
BATCH: Final = 7
HIGH: Final = 65_536  # queued bytes at which the protocol is paused and resumed, as asyncio's
LOW: Final = 16_384
DISCARD: Final = 16_384  # bytes thrown away at a time while lingering

READ_WANTS_WRITE: Final = 1  # OpenSSL has to do the one before the other
WRITE_WANTS_READ: Final = 2


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


def is_cut(error: BaseException | None) -> bool:
    """Whether what OpenSSL's calls raised means that the connection was cut."""
    # 3.11.2 has but a reason where others have a class.
    return (
        isinstance(error, ssl.SSLEOFError | ConnectionError)
        or getattr(error, "reason", None) == "UNEXPECTED_EOF_WHILE_READING"
    )


def told(error: Exception | None) -> Exception | None:
    """What the protocol is told of `error`: the same whichever Python and OpenSSL it is."""
    return CutError(str(error)) if is_cut(error) else error


class TlsTransport(asyncio.Transport):
    """One TLS connection, of either side; `grace` is how long a close may make no progress.

    `tls` is what OpenSSL keeps of it: the `_sslobj` of an `SSLSocket`, or its like for a plain one.
    """

    __slots__ = (
        "_fd", "_full", "_grace", "_high", "_loop", "_low", "_outbox", "_paused", "_poller",
        "_protocol", "_sock", "_state", "_timer", "_tls", "_unsent", "_wants", "_words",
    )  # fmt: skip

    def __init__(
        self,
        sock: socket.SocketType,
        tls: Any,
        protocol: asyncio.BaseProtocol,
        grace: float,
        loop: asyncio.AbstractEventLoop | None = None,
        watch: Poller | None = None,
    ) -> None:
        # The base's is not called: it makes a dict of extra facts for each connection.
        # To ask which loop is running is a system call (until Python 3.12): who knows it says so.
        self._loop = loop or asyncio.get_running_loop()
        self._poller = watch or poller()
        self._sock = sock
        self._tls = tls
        self._fd = sock.fileno()
        self._protocol: Any = protocol
        self._grace = grace
        self._state = OPEN
        self._outbox: Outbox | None = None  # None: nothing is queued
        self._high, self._low = HIGH, LOW
        self._full = False  # the protocol is not to write
        self._paused = False  # the protocol does not want to read
        self._wants = 0  # what of OpenSSL's waits for the opposite of what it does
        self._timer: asyncio.TimerHandle | None = None
        self._unsent = 0  # bytes on their way at the last look while closing
        self._words = b""  # what the peer had said when a write failed

    def __repr__(self) -> str:
        return f"<TlsTransport {self._state.value} fd={self._fd}>"

    def __del__(self) -> None:
        if self._state is LINGERING:  # the loop was closed meanwhile
            os.close(self._fd)

    def begin(self) -> None:
        """Tell the protocol, and read."""
        self._poller.add_reader(self._fd, self._on_readable)
        self._call(self._protocol.connection_made, self)

    # ── reading ─────────────────────────────────────────────────────────────────────────────────

    def _on_readable(self) -> None:
        try:
            data = self._tls.read(RECORD)
            if len(data) == RECORD:
                data = self._read_on(data)
        except ssl.SSLWantReadError:
            return  # part of a record, or one without data: a ticket, a key update
        except ssl.SSLWantWriteError:
            self._read_when_writable()
            return
        except OSError as error:
            openssl_errors.after(error)
            self._finish(error)
            return
        if not data:
            self._on_end(None)
            return
        try:
            self._protocol.data_received(data)
        except Exception as error:  # noqa: BLE001
            self._bug(error)

    def _read_on(self, first: bytes) -> bytes:
        """A whole record suggests that there are more: all of them, up to a limit."""
        records = [first]
        read = self._tls.read
        try:
            while len(records) < BATCH:
                data = read(RECORD)
                records.append(data)
                if len(data) < RECORD:
                    if not data:  # close_notify, of which the kernel may have no more to say
                        self._loop.call_soon(self._on_end, None)
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLWantWriteError:
            self._read_when_writable()
        except OSError as error:  # once what came before it has been delivered
            openssl_errors.after(error)
            self._loop.call_soon(self._on_end, error)
        return b"".join(records)

    def _read_when_writable(self) -> None:
        """Reading has to answer first (a key update, RFC 8446 4.6.3), and the socket is full."""
        self._wants |= READ_WANTS_WRITE
        self._poller.remove_reader(self._fd)
        self._poller.add_writer(self._fd, self._on_writable)

    def _on_end(self, error: Exception | None) -> None:
        """The peer sends no more."""
        if self._state is not OPEN:
            return
        if error is not None:
            self._finish(error)
            return
        # Its value would ask for a half-open connection, which asyncio's TLS has not either.
        self._call(self._protocol.eof_received)
        self.close()

    def pause_reading(self) -> None:
        """No more `data_received`."""
        if self._state is OPEN and not self._paused:
            self._paused = True
            if not self._wants:
                self._poller.remove_reader(self._fd)

    def resume_reading(self) -> None:
        """`data_received` again."""
        if self._state is OPEN and self._paused:
            self._paused = False
            if not self._wants:
                self._poller.add_reader(self._fd, self._on_readable)

    def is_reading(self) -> bool:
        return self._state is OPEN and not self._paused

    # ── writing ─────────────────────────────────────────────────────────────────────────────────

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data`, or queue what the socket does not take."""
        if self._state is not OPEN or not data:
            return
        sent = 0
        if self._outbox is None:
            size = len(data)
            if size > RECORD:
                sent = self._put(memoryview(data))
            else:
                try:
                    sent = self._tls.write(data)
                except OSError as error:
                    self._blocked(error)
            if sent == size:
                return
            if self._state is not OPEN:
                return
            self._outbox = Outbox()
        rest = data if type(data) is bytes else bytes(data)  # others may change before it is sent
        self._outbox.add(memoryview(rest)[sent:] if sent else rest)
        if self._outbox.size > self._high and not self._full:
            self._full = True
            self._call(self._protocol.pause_writing)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send the pieces as one."""
        self.write(b"".join(list_of_data))

    def _put(self, data: bytes | memoryview) -> int:
        """Write what the socket takes of `data`; where that is not all, watch for more room.

        A record at a time: of more OpenSSL would not say how much has gone, as Python leaves
        SSL_MODE_ENABLE_PARTIAL_WRITE alone.
        """
        sent, size, write = 0, len(data), self._tls.write
        try:
            while sent < size:
                sent += write(data[sent : sent + RECORD])
        except OSError as error:
            self._blocked(error)
        return sent

    def _blocked(self, error: OSError) -> None:
        """Writing goes on when something happens, or never."""
        if isinstance(error, ssl.SSLWantWriteError):
            self._poller.add_writer(self._fd, self._on_writable)
        elif isinstance(error, ssl.SSLWantReadError):
            self._wants |= WRITE_WANTS_READ
            self._poller.remove_writer(self._fd)
            self._poller.add_reader(self._fd, self._write_when_readable)
        else:
            openssl_errors.after(error)
            self._finish(self._hear_out(error))

    def _hear_out(self, error: OSError) -> OSError | None:
        """The peer takes no more: read what it has said before. Returns how its words end."""
        if self._state is not OPEN or self._tls.server_side:
            return error  # nobody wants to know what a client says that is not answered
        words: list[bytes] = []
        left = MOST_WORDS
        read = self._tls.read
        try:
            while left > 0:
                words.append(read(RECORD))
                left -= len(words[-1])
                if not words[-1]:
                    return None  # close_notify
        except OSError as end:
            openssl_errors.after(end)
            if "ALERT" in (getattr(end, "reason", None) or ""):
                return end  # that it takes no more is what its alert is about
        finally:
            self._words = b"".join(words)
        return error

    def _write_when_readable(self) -> None:
        self._wants &= ~WRITE_WANTS_READ
        if self._state is OPEN and not self._paused:
            self._poller.add_reader(self._fd, self._on_readable)
        else:
            self._poller.remove_reader(self._fd)
        self._flush()

    def _on_writable(self) -> None:
        if self._wants & READ_WANTS_WRITE:
            self._wants &= ~READ_WANTS_WRITE
            if self._outbox is None:
                self._poller.remove_writer(self._fd)
            if self._state is OPEN and not self._paused:
                self._poller.add_reader(self._fd, self._on_readable)
                self._on_readable()
        self._flush()

    def _flush(self) -> None:
        """Write what is queued; at its end go on with a close."""
        if self._state is CLOSED:
            return
        outbox = self._outbox
        while outbox is not None:
            piece = outbox.head()
            sent = self._put(piece)
            if self._state is CLOSED:
                return
            outbox.advance(sent)
            if sent < len(piece):
                break
            if not outbox.size:
                outbox = self._outbox = None
                self._poller.remove_writer(self._fd)
        if self._full and self.get_write_buffer_size() <= self._low:
            self._full = False
            self._call(self._protocol.resume_writing)
        if self._state is FLUSHING and self._outbox is None:
            self._shut()

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        """Bytes that OpenSSL has not taken."""
        return self._outbox.size if self._outbox is not None else 0

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

    # ── the end ─────────────────────────────────────────────────────────────────────────────────

    def is_closing(self) -> bool:
        return self._state is not OPEN

    def close(self) -> None:
        """End cleanly: write what is queued, say close_notify, wait for the peer's end."""
        if self._state is not OPEN:
            return
        self._state = FLUSHING
        if self._outbox is not None or self._wants:
            self._poller.remove_reader(self._fd)
            if self._wants & WRITE_WANTS_READ:
                self._poller.add_reader(self._fd, self._write_when_readable)
        if self._outbox is None:
            self._shut()  # which gives what is watched another callback, or ends that
        if self._state is not CLOSED:
            if self._state is FLUSHING:
                self._unsent = unsent(self)
            self._timer = self._loop.call_later(self._grace, self._on_slow)

    def _shut(self) -> None:
        """Everything is out: our close_notify, and the peer's if it is here already.

        Closing before the peer has would make of bytes under way a reset, and that may destroy
        what it has not read yet.
        """
        try:
            self._tls.shutdown()
        except ssl.SSLWantWriteError:
            self._poller.remove_reader(self._fd)
            self._poller.add_writer(self._fd, self._on_writable)
            return
        except ssl.SSLError as error:  # ours is out; of the peer there is nothing, or more data
            openssl_errors.after(error)
            self._linger()
        except OSError as error:
            openssl_errors.after(error)
            self._finish(None)
        else:
            self._finish(None)

    def _linger(self) -> None:
        # Not even half-closed: uvloop's clients drop what they have not read yet when a FIN comes.
        # What the peer still says is thrown away below TLS.
        self._state = LINGERING
        self._tls = None
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
        """Close at once and without close_notify: to the peer it is a connection cut."""
        self._finish(None)

    def _finish(self, error: Exception | None) -> None:
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
        self._outbox = self._tls = None
        self._loop.call_soon(self._tell, told(error))

    def _tell(self, error: Exception | None) -> None:
        protocol, self._protocol = self._protocol, None
        protocol.connection_lost(error)

    def _call(self, method: Callable[..., object], *arguments: object) -> None:
        try:
            method(*arguments)
        except Exception as error:  # noqa: BLE001
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
        """As asyncio's; `ssl_object` is the `SSLSocket`, or what that would wrap."""
        if name == "socket":
            return self._sock
        if name == WORDS:
            return self._words
        if name == "ssl_object":
            return self._sock if isinstance(self._sock, ssl.SSLSocket) else self._tls
        if name == "sslcontext":
            return self._tls.context
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
