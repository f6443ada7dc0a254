"""TLS on a socket as an asyncio transport, without a buffer between OpenSSL and the kernel.

The loops' own transports feed OpenSSL through memory: each byte is copied twice more, and each
connection holds buffers. Here OpenSSL reads and writes the non-blocking socket itself; the loop
only says when.

    handshake (`tls_handshake`) ──► OPEN: reading and writing ──► FLUSHING ──► LINGERING ──► CLOSED

The states are those of `SocketTransport`; its goodbye is a close_notify here. The close_notify of
the peer calls `eof_received`, and then `connection_lost` without an error. `tls_ends` knows the
other ends. What an upstream said before a write to it failed, `last_words` of `backpressure` gives
within `connection_lost`.

A record is read whole or not at all, and a transport reads ahead only while a long body comes
(`read_views`). Then it reads until OpenSSL has nothing left. So no bytes stay in OpenSSL, where the
kernel could not report them, but while reading is paused. Invariant: no error that a peer causes
reaches the loop.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Final

from rawproxy.net.backpressure import WORDS, cork, has_room
from rawproxy.net.openssl import error_queue
from rawproxy.net.openssl.read_ahead import ahead as read_ahead
from rawproxy.net.poller import COPIED, PLACE, Poller
from rawproxy.net.socket_transport import CLOSED, FLUSHING, OPEN, SocketTransport
from rawproxy.net.tls_ends import hear_out, told
from rawproxy.net.tls_outbox import RECORD, Outbox

# Bytes from which on records leave together. That takes two more calls, which cost less than to
# send each of three records, and the short segment at its end, by itself.
CORKED: Final = 3 * RECORD

Viewer = Callable[[memoryview], object]

READ_WANTS_WRITE: Final = 1  # OpenSSL has to write before it can read
WRITE_WANTS_READ: Final = 2  # and the other way round


class TlsTransport(SocketTransport):
    """One TLS connection, as server or client. `grace`: seconds of a close without progress.

    `tls` is OpenSSL's object for it, from `core` or `server_side` of `openssl.objects`.
    """

    __slots__ = (
        "_ahead", "_more", "_outbox", "_owed", "_paused", "_tls", "_viewer", "_wants", "_words",
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
        super().__init__(sock, protocol, grace, loop, watch)
        self._tls = tls
        self._outbox: Outbox | None = None  # None: nothing is queued
        self._owed = 0  # bytes of the write that OpenSSL wants again, as it has begun with them
        self._paused = False  # the protocol does not want to read
        self._wants = 0  # READ_WANTS_WRITE, WRITE_WANTS_READ
        self._viewer: Viewer | None = None  # who gets what is read, instead of the protocol
        self._words = b""  # what the peer had said before a write failed
        self._ahead = False  # OpenSSL reads more than it was asked for
        self._more = False  # and may have some of it still

    def __repr__(self) -> str:
        return f"<TlsTransport {self._state.value} fd={self._fd}>"

    def begin(self, *, at_once: bool = False) -> None:
        """Call `connection_made`, and begin to read: `at_once` if something is here by now."""
        self._poller.add_reader(self._fd, self._on_readable)
        self._call(self._protocol.connection_made, self)
        if at_once and self._state is OPEN and not self._paused:
            self._on_readable()

    # ── reading ─────────────────────────────────────────────────────────────────────────────────

    def _on_readable(self) -> None:
        # To read into one place and to copy what came costs a third of an object of a record's size
        # for each read, which is cut down to what came.
        place = self._poller.place
        size: int = 0
        try:
            size = self._tls.read(RECORD, place)
            if size == RECORD or ((self._ahead or self._more) and size):
                size = self._read_on(memoryview(place), size)
        except ssl.SSLWantReadError:
            self._more = False
            return  # a part of a record, or a record without data (a ticket, a key update)
        except ssl.SSLWantWriteError:
            self._read_when_writable()
            return
        except OSError as error:
            error_queue.after(error)
            self._finish(error)
            return
        if not size:
            self._on_end(None)
            return
        try:
            if self._viewer is None:
                self._protocol.data_received(place[:size])
            else:
                self._viewer(memoryview(place)[:size])
        except Exception as error:  # noqa: BLE001, as in `_call`, without its price
            self._bug(error)

    def _read_on(self, place: memoryview, size: int) -> int:
        """There may be more than the first record, of `size`. Returns the bytes in all.

        If OpenSSL does not read ahead, a record that is not full is the last one.
        """
        read = self._tls.read
        ahead = self._ahead or self._more
        self._more = False
        most = COPIED if self._viewer is None else PLACE
        try:
            while size <= most - RECORD:
                got: int = read(RECORD, place[size : size + RECORD])
                size += got
                if not got:  # close_notify; the kernel may report nothing more
                    self._loop.call_soon(self._on_end, None)
                    break
                if got < RECORD and not ahead:
                    break
            else:
                if ahead:  # only OpenSSL knows whether there is more
                    self._more = True
                    self._loop.call_soon(self._read_more)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLWantWriteError:
            self._read_when_writable()
        except OSError as error:  # told when what came before it has been delivered
            error_queue.after(error)
            self._loop.call_soon(self._on_end, error)
        return size

    def _read_more(self) -> None:
        """Read what OpenSSL may have of a body: the kernel reports nothing of it."""
        if self._more and self._state is OPEN and not self._paused and not self._wants:
            self._on_readable()

    def read_views(self, viewer: Viewer | None, *, ahead: bool = False) -> None:
        """Give what is read to `viewer`, not to the protocol; None: to the protocol again.

        It gets a view of a place that the next read of any connection uses: nothing is copied.
        `ahead`: more than a record may be read at a time.
        """
        self._viewer = viewer
        if ahead:
            self._ahead = read_ahead.begin(self._tls)
        elif self._ahead:
            self._ahead = False
            read_ahead.end(self._tls)

    def _read_when_writable(self) -> None:
        """OpenSSL has to answer first (a key update, RFC 8446 4.6.3), but the socket is full."""
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
        # The return value is not used: TLS has no half-open connections here, as in asyncio.
        self._call(self._protocol.eof_received)
        self.close()

    def pause_reading(self) -> None:
        """Do not call `data_received` for now."""
        if self._state is OPEN and not self._paused:
            self._paused = True
            if not self._wants:
                self._poller.remove_reader(self._fd)

    def resume_reading(self) -> None:
        """Call `data_received` again."""
        if self._state is OPEN and self._paused:
            self._paused = False
            if not self._wants:
                self._poller.add_reader(self._fd, self._on_readable)
            if self._more:
                self._loop.call_soon(self._read_more)

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
        # Others than bytes may change before they are sent.
        rest = memoryview(data)[sent:]
        self._outbox.add(rest if type(data) is bytes else bytes(rest))
        if self._outbox.size > self._high and not self._full:
            self._full = True
            self._call(self._protocol.pause_writing)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send the pieces as one."""
        self.write(b"".join(list_of_data))

    def rest(self) -> None:
        """Perhaps nothing is written for a long time: OpenSSL shall give its buffer back.

        To take in a session ticket it makes one for a record, and keeps that until the next write.
        To write nothing is one which sends nothing (SSL_write(3)).
        """
        if self._state is OPEN and self._outbox is None and not self._wants:
            try:
                self._tls.write(b"")
            except OSError as error:
                self._blocked(error)

    def _put(self, data: bytes | memoryview) -> int:
        """Write what the socket takes of `data`. If that is not all, wait for room.

        If there is room for sure, OpenSSL makes all records by itself. Else they are written one
        at a time: OpenSSL says nothing of those that went out before one that did not, because
        Python does not set SSL_MODE_ENABLE_PARTIAL_WRITE, so that a slow client would seem to take
        nothing.
        """
        sent, size, write = 0, len(data), self._tls.write
        corked = size >= CORKED and cork(self._sock, 1)
        step: int = self._owed or (size if corked and has_room(self._sock, size) else RECORD)
        try:
            while sent < size:
                sent += write(data[sent : sent + step])
            self._owed = 0
        except OSError as error:
            self._owed = step
            self._blocked(error)
        if corked:
            cork(self._sock, 0)
        return sent

    def _blocked(self, error: OSError) -> None:
        """A write raised `error`: go on when the socket is ready, or end the connection."""
        if isinstance(error, ssl.SSLWantWriteError):
            self._poller.add_writer(self._fd, self._on_writable)
        elif isinstance(error, ssl.SSLWantReadError):
            self._wants |= WRITE_WANTS_READ
            self._poller.remove_writer(self._fd)
            self._poller.add_reader(self._fd, self._write_when_readable)
        else:
            error_queue.after(error)
            # Only what an upstream said matters: a client gets no answer any more.
            if self._state is OPEN and not self._tls.server_side:
                self._words, ending = hear_out(self._tls, error)
                self._finish(ending)
            else:
                self._finish(error)

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
        """Write what is queued. If a close waits for that, go on with it."""
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
        """Bytes that OpenSSL has not taken yet."""
        return self._outbox.size if self._outbox is not None else 0

    # ── the end ─────────────────────────────────────────────────────────────────────────────────

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
            self._shut()
        if self._state is FLUSHING:
            self._wait_for_the_end()

    def _shut(self) -> None:
        """All is written: send our close_notify, and read the peer's if it is here already.

        If we closed before the peer does, bytes that it still sends would cause a reset, and that
        can destroy what it has not read yet.
        """
        try:
            self._tls.shutdown()
        except ssl.SSLWantWriteError:
            self._poller.remove_reader(self._fd)
            self._poller.add_writer(self._fd, self._on_writable)
            return
        except ssl.SSLError as error:  # ours is sent; from the peer came nothing, or more data
            error_queue.after(error)
            self._tls = None
            self._linger()
        except OSError as error:
            error_queue.after(error)
            self._finish(None)
        else:
            self._finish(None)

    def _finish(self, error: Exception | None) -> None:
        super()._finish(told(error))
        self._outbox = self._tls = None

    # ── facts ───────────────────────────────────────────────────────────────────────────────────

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The same as in asyncio. `ssl_object` is the `SSLSocket`, or the object beneath one."""
        if name == WORDS:
            return self._words
        if name == "ssl_object":
            return self._sock if isinstance(self._sock, ssl.SSLSocket) else self._tls
        if name == "sslcontext":
            return self._tls.context
        return super().get_extra_info(name, default)
