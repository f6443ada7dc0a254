"""Listening sockets: binding them, and accepting.

It never reads: what a client says first is `arrival`'s business. Invariant: out of file
descriptors, accepting pauses and comes back by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat

from .arrival import CROWDED, Arrival, route_of
from .config import Address
from .service import Service, log
from .tls import ServerContext

BACKLOG = 4096  # connections the kernel keeps for us in a burst; it caps this at somaxconn
BATCH = 64  # accepted in one go, so that a burst does not starve those already here
BACK_OFF = 0.5  # seconds without accepting after the process ran out of file descriptors
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """One listening socket."""

    def __init__(
        self,
        service: Service,
        sock: socket.socket,
        context: ServerContext | None = None,
        redirect: int = 0,
        address: Address | None = None,
    ) -> None:
        self.service = service
        self.sock = sock
        self.context = context
        self.redirect = redirect
        self.sites = service.goals.for_listener(address)
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
                sock, peer = self.sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return
                raise
            self._welcome(sock, peer)

    def _welcome(self, sock: socket.socket, peer: object) -> None:
        sock.setblocking(False)
        place = self.service.admission.enter()
        if place is None:
            if self.context is None:
                with contextlib.suppress(OSError):
                    sock.send(CROWDED)
            sock.close()
            return
        self.service.counters.accepted += 1
        place.sites = self.sites
        if isinstance(peer, tuple):
            place.peer = peer[0]
        if self.service.announces:
            place.route = route_of(sock, peer)
        Arrival(self.service, sock, place, self.context, self.redirect).look()

    def _pause(self, error: OSError) -> None:
        log.error("accepting pauses for %g s: %s", BACK_OFF, error.strerror)
        self._loop.remove_reader(self.sock.fileno())
        self._retry = self._loop.call_later(BACK_OFF, self.start)


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
