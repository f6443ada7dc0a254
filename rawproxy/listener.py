"""The doors: listening sockets, accepting, TLS, and which front a connection gets.

On a TLS listener the first byte is looked at before the handshake begins, so that a client that
speaks plain HTTP there is told so (400 in plain text, as nginx does) instead of being cut off.

It never reads further than that byte. Invariants: out of file descriptors, accepting pauses and
comes back by itself; a connection that never says anything is closed at the handshake's deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import stat
from typing import cast

from . import front_h1, front_h2
from .config import Address
from .service import Service, log

BACKLOG = 4096  # connections the kernel keeps for us in a burst; it caps this at somaxconn
BATCH = 64  # accepted in one go, so that a burst does not starve those already here
BACK_OFF = 0.5  # seconds without accepting after the process ran out of file descriptors
TLS_HANDSHAKE = 0x16  # the content type of a ClientHello's record (RFC 8446 5.1)
_PLAIN_PAGE = b"This port speaks https. Type https:// in front of the address.\n"
_PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(_PLAIN_PAGE), _PLAIN_PAGE)
)
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """One listening socket."""

    def __init__(
        self,
        service: Service,
        sock: socket.socket,
        context: ssl.SSLContext | None = None,
        redirect: int = 0,
    ) -> None:
        self.service = service
        self.sock = sock
        self.context = context
        self.redirect = redirect
        self._loop = asyncio.get_running_loop()
        self._retry: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to accept."""
        self._loop.add_reader(self.sock.fileno(), self._accept)

    def close(self) -> None:
        """Accept no more; connections that are open stay."""
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self.sock.fileno())
        if self.sock.family == socket.AF_UNIX:
            with contextlib.suppress(OSError):
                os.unlink(self.sock.getsockname())
        self.sock.close()

    def _accept(self) -> None:
        for _ in range(BATCH):
            try:
                sock, _ = self.sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return
                raise
            sock.setblocking(False)
            if self.context is None:
                self.service.spawn(self._serve(sock))
            else:
                Peek(self, sock).look()

    def _pause(self, error: OSError) -> None:
        log.error("accepting pauses for %g s: %s", BACK_OFF, error.strerror)
        self._loop.remove_reader(self.sock.fileno())
        self._retry = self._loop.call_later(BACK_OFF, self.start)

    async def _serve(self, sock: socket.socket) -> None:
        service, context = self.service, self.context
        secure = context is not None
        deadlines = service.deadlines
        try:
            await self._loop.connect_accepted_socket(
                lambda: (
                    Door(service)
                    if secure
                    else front_h1.ClientConnection(service, False, self.redirect)
                ),
                sock,
                ssl=context,
                ssl_handshake_timeout=deadlines.tls_handshake if secure else None,
                ssl_shutdown_timeout=deadlines.linger if secure else None,
            )
        except (OSError, ssl.SSLError) as error:  # the client's doing, TimeoutError included
            service.counters.handshakes_failed += 1
            log.debug("handshake failed: %s", error)
            sock.close()


class Door(asyncio.Protocol):
    """A TLS connection whose handshake is done: ALPN says who serves it (RFC 7301)."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        tls = transport.get_extra_info("ssl_object")
        front: asyncio.Protocol = (
            front_h2.ClientConnection(self.service)
            if tls.selected_alpn_protocol() == "h2"
            else front_h1.ClientConnection(self.service, secure=True)
        )
        transport.set_protocol(front)
        front.connection_made(transport)


class Peek:
    """A connection to a TLS listener that has not said anything yet."""

    __slots__ = ("deadline", "listener", "sock")

    def __init__(self, listener: Listener, sock: socket.socket) -> None:
        self.listener = listener
        self.sock = sock
        service = listener.service
        self.deadline = service.now + service.deadlines.tls_handshake

    def look(self) -> None:
        """Right after accepting: with luck the ClientHello is here already."""
        if self._first_byte() is None:
            self.listener.service.clients.add(self)
            self.listener._loop.add_reader(self.sock.fileno(), self._readable)

    def _readable(self) -> None:
        self.listener._loop.remove_reader(self.sock.fileno())
        self.listener.service.clients.discard(self)
        self._first_byte()

    def _first_byte(self) -> int | None:
        """Act on the first byte; None while there is none."""
        try:
            first = self.sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            first = b""
        if first and first[0] == TLS_HANDSHAKE:
            self.listener.service.spawn(self.listener._serve(self.sock))
            return TLS_HANDSHAKE
        if first.isalpha():
            with contextlib.suppress(OSError):
                self.sock.recv(65536)  # unread bytes would turn our close into a reset
                self.sock.send(_PLAIN_ANSWER)
                self.sock.shutdown(socket.SHUT_WR)
        self.sock.close()
        return 0

    def sweep(self, now: float) -> None:
        """Called about once a second."""
        if now >= self.deadline:
            self.abort()

    def drain(self) -> None:
        """The worker stops."""
        self.abort()

    def abort(self) -> None:
        """Close; it said nothing in time."""
        self.listener._loop.remove_reader(self.sock.fileno())
        self.listener.service.clients.discard(self)
        self.sock.close()


def bind(address: Address) -> list[socket.socket]:
    """Listening sockets for `address`: IPv4 and IPv6 where it names no host. Raises `OSError`."""
    if address.path is not None:
        return [_bind_unix(address.path)]
    socks: list[socket.socket] = []
    port = address.port
    host = address.host
    infos = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
    )
    # IPv4 first: where port 0 was asked for, IPv6 takes the port that IPv4 was given.
    for family, _, _, _, where in sorted(infos, key=lambda info: info[0] != socket.AF_INET):
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            continue  # a kernel without IPv6
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((where[0], port, *where[2:]))
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            if host is None and error.errno == errno.EADDRNOTAVAIL and socks:
                continue  # IPv6 is compiled in but switched off
            for other in socks:
                other.close()
            raise
        sock.setblocking(False)
        port = sock.getsockname()[1]
        socks.append(sock)
    if not socks:
        raise OSError(errno.EADDRNOTAVAIL, "no address to bind")
    return socks


def _bind_unix(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(path) == errno.ECONNREFUSED:
                    os.unlink(path)  # left behind by a process that is gone
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(path)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock
