"""Listening sockets: how they are bound, and kept while workers come and go.

A socket belongs to the `ListeningSockets` of the master, not to the worker that accepts from it: if
a worker goes, the next one takes what waits in the backlog. A TCP address has a socket for each
worker (SO_REUSEPORT, so that the kernel spreads connections). Such a socket is not closed as long
as the address is wanted, because that would reset the connections that wait in it. If there are
fewer workers later, some of them accept from several sockets. All workers share a unix socket, and
a socket on which systemd listens.

This module never accepts. Invariants: an address is bound completely or not at all. A port on which
another program listens is refused, even if that program would share it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rawproxy.config.model import Address

BACKLOG = 4096  # connections that the kernel keeps for us in a burst, up to its somaxconn
ANY = ("0.0.0.0", "::")

ADMIN = "--admin"  # one worker serves it for all, so it has one socket

Row = list[socket.socket]  # sockets of one IP address and port, or one that all workers share
Wanted = tuple[str, Address]  # an option and its value


@dataclass(frozen=True, slots=True)
class PassedSocket:
    """A listening socket that systemd handed to us, and its name in the unit."""

    fd: int
    name: str


def bind(address: Address) -> list[socket.socket]:
    """Listening sockets for `address`: IPv4 and IPv6 if it names no host. Raises `OSError`."""
    if address.path is not None:
        return [_listening(_bind_unix(address.path))]
    return [_listening(row[0]) for row in _bind_tcp(address, 1, shared=False)]


@dataclass(slots=True)
class BindPlan:
    """The sockets of one configuration: old ones that it keeps, and new ones (`fresh`)."""

    rows: list[tuple[str, Address, list[Row]]] = field(default_factory=list)
    fresh: list[socket.socket] = field(default_factory=list)

    def of(self, slot: int, workers: int) -> list[tuple[Address, list[int]]]:
        """The descriptors from which the worker with the number `slot` accepts."""
        found = []
        for option, address, rows in self.rows:
            if option == ADMIN and slot:
                continue
            socks = [
                sock
                for row in rows
                for number, sock in enumerate(row)
                if len(row) == 1 or number % workers == slot
            ]
            found.append((address, [sock.fileno() for sock in socks]))
        return found


class ListeningSockets:
    """The sockets of a master."""

    def __init__(self, passed: Iterable[PassedSocket] = ()) -> None:
        self.plan = BindPlan()
        self.passed = [_adopted(one) for one in passed]

    def prepare(self, wanted: Sequence[Wanted], workers: int) -> BindPlan:
        """Bind what `wanted` needs, but do not listen yet. Raises `OSError` naming the option."""
        left = list(self.plan.rows)
        plan = BindPlan()
        try:
            for option, address in wanted:
                count = 1 if option == ADMIN else workers
                known = next((one for one in left if one[1] == address), None)
                if known is not None:
                    left.remove(known)
                    rows = [list(row) for row in known[2]]
                    for row in rows:
                        plan.fresh += self._grow(row, count)
                else:
                    rows = self._from_systemd(address)
                    if not rows:
                        rows = _bound(option, address, count)
                        plan.fresh += [sock for row in rows for sock in row]
                plan.rows.append((option, address, rows))
            self._unclaimed(plan)
        except OSError:
            self.abandon(plan)
            raise
        return plan

    def adopt(self, plan: BindPlan) -> None:
        """Use `plan` from now on: listen, and close the sockets that it does not need."""
        for sock in plan.fresh:
            sock.listen(BACKLOG)
        kept = {sock for *_, rows in plan.rows for row in rows for sock in row}
        for *_, rows in self.plan.rows:
            for row in rows:
                for sock in row:
                    if sock not in kept:
                        self._close(sock)
        self.plan = plan
        plan.fresh = []

    def abandon(self, plan: BindPlan) -> None:
        """Give `plan` up, and close what was bound for it."""
        for sock in plan.fresh:
            release(sock)

    def close(self) -> None:
        """Close all sockets."""
        self.adopt(BindPlan())

    def _grow(self, row: Row, workers: int) -> Row:
        """Add sockets to `row` until each worker has one. Returns the new ones."""
        if row[0].family == socket.AF_UNIX or row[0] in self.passed:
            return []
        more = [
            _tcp_socket(row[0].family, row[0].getsockname(), shared=True)
            for _ in range(workers - len(row))
        ]
        row += more
        return more

    def _unclaimed(self, plan: BindPlan) -> None:
        used = {sock for *_, rows in plan.rows for row in rows for sock in row}
        for sock in self.passed:
            if sock not in used:
                shown = _shown(sock)
                raise OSError(f"systemd passed a socket that no option names: type --http {shown}")

    def _close(self, sock: socket.socket) -> None:
        if sock not in self.passed:  # systemd goes on listening, so it could not be bound again
            release(sock)

    def _from_systemd(self, address: Address) -> list[Row]:
        return [[sock] for sock in self.passed if _is(sock, address)]


def _bound(option: str, address: Address, workers: int) -> list[Row]:
    try:
        if address.path is not None:
            return [[_bind_unix(address.path)]]
        return _bind_tcp(address, workers, shared=True)
    except OSError as error:
        raise explained(option, address, error) from None


def explained(option: str, address: Address, error: OSError) -> OSError:
    """An error that says what could not be bound, and what to type instead."""
    shown = address.path or f"{address.host or ''}:{address.port}"
    hint = ""
    if isinstance(error, PermissionError) and address.path is None and address.port < 1024:
        hint = f"; ports below 1024 need root or CAP_NET_BIND_SERVICE, or try {option} :8443"
    return OSError(f"{option} {shown}: {error.strerror or error}{hint}")


def _bind_tcp(address: Address, count: int, *, shared: bool) -> list[Row]:
    """`count` sockets for each IP address that `address` means."""
    rows: list[Row] = []
    port, host = address.port, address.host
    infos = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
    )
    # IPv4 first: if port 0 was asked for, IPv6 takes the port that IPv4 got.
    for family, _, _, _, where in sorted(infos, key=lambda info: info[0] != socket.AF_INET):
        try:
            socket.socket(family, socket.SOCK_STREAM).close()
        except OSError:
            continue  # a kernel without IPv6
        row: Row = []
        rows.append(row)
        try:
            at = (where[0], port, *where[2:])
            if shared and port:
                # Refused if another program has the port: each would get half of the connections.
                _tcp_socket(family, at, shared=False).close()
            row.append(_tcp_socket(family, at, shared=shared))
            at = row[0].getsockname()
            row += [_tcp_socket(family, at, shared=shared) for _ in range(count - 1)]
        except OSError as error:
            if host is None and error.errno == errno.EADDRNOTAVAIL and len(rows) > 1:
                rows.pop()
                continue  # IPv6 is compiled in but switched off
            for sock in (sock for row in rows for sock in row):
                sock.close()
            raise
        port = at[1]
    if not rows:
        raise OSError(errno.EADDRNOTAVAIL, "no address to bind")
    return rows


def _tcp_socket(family: int, where: tuple[object, ...], *, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _bind_unix(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(path) == errno.ECONNREFUSED:
                    os.unlink(path)  # left by a process that has gone
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(path)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _listening(sock: socket.socket) -> socket.socket:
    sock.listen(BACKLOG)
    return sock


def release(sock: socket.socket) -> None:
    """Close a socket for good; a unix socket loses its file."""
    if sock.family == socket.AF_UNIX:
        with contextlib.suppress(OSError):
            os.unlink(sock.getsockname())
    sock.close()


def _adopted(one: PassedSocket) -> socket.socket:
    """A socket that systemd passed. Raises `OSError` if it is not a listening stream socket."""
    try:
        sock = socket.socket(fileno=one.fd)
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise OSError(f"systemd passed {one.name or one.fd}: {error.strerror}") from None
    if not listens or sock.type != socket.SOCK_STREAM:
        sock.close()
        raise OSError(f"systemd passed {one.name or one.fd}: type ListenStream= in its .socket")
    sock.setblocking(False)
    sock.set_inheritable(False)
    return sock


def _is(sock: socket.socket, address: Address) -> bool:
    """Whether `sock` is bound to `address`."""
    name = sock.getsockname()
    if isinstance(name, str) or address.path is not None:
        return bool(name == address.path)
    if name[1] != address.port:
        return False
    if address.host is None:
        return name[0] in ANY
    infos = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    return any(name[0] == where[0] for *_, where in infos)


def _shown(sock: socket.socket) -> str:
    name = sock.getsockname()
    return name if isinstance(name, str) else f"{name[0]}:{name[1]}"
