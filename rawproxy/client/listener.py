"""Accepts connections from a listening socket.

    the kernel's queue ──► accepted ──► served at once
                                    └─► in a burst: in turn, one of each client after the other

The kernel's queue knows no clients: behind a thousand connections of somebody else, a client would
wait for all of them. To accept a connection costs some microseconds, and to serve it up to a
millisecond.

This module never reads: `arrival` looks at what a client says first. Invariants: if file
descriptors run out, accepting pauses and comes back by itself. What waits to be accepted when the
listener closes is accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import Final

from rawproxy.balancing.fair_queue import ANYBODY, FairQueue
from rawproxy.client.arrival import CROWDED, Arrival, route_of
from rawproxy.config.model import PARKED, Address
from rawproxy.net.backpressure import PROOFS, take_little
from rawproxy.net.listening import BACKLOG, release
from rawproxy.net.openssl.objects import BareSocket, accepted
from rawproxy.net.poller import poller
from rawproxy.protocol.http.forwarding import one_client
from rawproxy.proxy.service import Service, log
from rawproxy.tls.server import ServerContext

TAKEN: Final = 512  # accepted in one turn of the loop: some five milliseconds
# Served in one turn, so that a burst does not starve those already here: what one of them asks for
# takes some turns, and waits in each for as many others. Of those over TLS, whose handshake begins
# at once and may cost a millisecond, fewer.
BATCH: Final = 16
BATCH_TLS: Final = 8
# While `PARKED` bytes of bodies wait for connections to upstreams, a burst goes on this much later,
# so that it does not bring more of them than its upstream's dials take along; but not more than so
# often in a row, as an upstream that takes none at all must not keep everybody waiting.
PACE: Final = 0.004  # seconds
PACED: Final = 5
SILENCE: Final = 1  # seconds, then whoever still says nothing is let in, and has its deadline
BACK_OFF: Final = 0.5  # seconds without accepting after the process ran out of file descriptors
_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """One listening socket."""

    def __init__(
        self,
        service: Service,
        sock: socket.socket,
        context: ServerContext | None = None,
        redirect: int = 0,
        address: Address | None = None,
        *,
        borrowed: bool = False,
    ) -> None:
        self.service = service
        self.sock = sock
        self.context = context
        self.redirect = redirect
        self.address = address
        self.sites = service.route_targets.for_listener(address)
        self.borrowed = borrowed  # it is the master's: another worker may go on with it
        self._open = False
        self._loop = asyncio.get_running_loop()
        self._poller = poller()
        self._retry: asyncio.TimerHandle | None = None
        self._turns: FairQueue[Arrival] = FairQueue(BACKLOG)  # of a burst
        self._paced = 0  # times in a row that it was put off
        self._family, self._kind = int(sock.family), int(sock.type)
        here = sock.getsockname()
        self._port: int = here[1] if isinstance(here, tuple) else 0
        self._batch = BATCH if context is None else BATCH_TLS
        self._made = socket.socket if context is None else BareSocket
        with contextlib.suppress(OSError):  # a socket file
            # Accepted ones inherit it. Else the last record of a response waits for the client's
            # delayed acknowledgement: 40 ms.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                # The ClientHello is here when its connection is: no waiting, no second look.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, SILENCE)

    def start(self) -> None:
        """Begin to accept."""
        self._open = True
        self._loop.add_reader(self.sock.fileno(), self._accept)

    def close(self) -> None:
        """Accept what waits already, and no more. Connections that are open stay."""
        for _ in range(BACKLOG // TAKEN if self._open else 0):
            if not self._accept(last=True):
                break
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self.sock.fileno())
        if self.borrowed:
            self.sock.close()
        else:
            release(self.sock)

    def _accept(self, last: bool = False) -> bool:
        """Accept a batch. Returns whether more may wait. The `last` ones only queue up."""
        crowded = self._turns.size or self.service.waiting >= PARKED
        at_once = 0 if crowded else self._batch
        for _ in range(TAKEN if last else min(TAKEN, BACKLOG - self._turns.size)):
            try:
                fd, peer = accepted(self.sock)
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return False
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return False
                raise
            arrival = self._welcome(self._made(self._family, self._kind, 0, fd), peer)
            if arrival is None:
                continue
            if last or at_once:
                at_once -= 1
                self._begin(arrival, last)
            else:
                self._put_off(arrival)
        return True

    def _begin(self, arrival: Arrival, last: bool) -> None:
        if last and self.context is not None:
            arrival.wait()
        else:
            arrival.look()

    def _put_off(self, arrival: Arrival) -> None:
        if not self._turns.size:
            self._loop.call_soon(self._go_on)
        peer = arrival.slot.peer
        self._turns.put(arrival, one_client(peer.encode()) if peer is not None else ANYBODY)

    def _go_on(self) -> None:
        """Serve some connections of a burst, of clients in turn."""
        if self.service.waiting >= PARKED and self._paced < PACED:
            self._paced += 1
            self._loop.call_later(PACE, self._go_on)
            return
        self._paced = 0
        for _ in range(self._batch):
            arrival = self._turns.take()
            if arrival is None:
                return
            arrival.look()
        if self._turns.size:
            self._loop.call_soon(self._go_on)

    def _welcome(self, sock: socket.SocketType, peer: object) -> Arrival | None:
        sock.setblocking(False)
        service = self.service
        slot = service.admission.enter()
        if slot is None:
            if self.context is None:
                with contextlib.suppress(OSError):
                    sock.send(CROWDED)
            sock.close()
            return None
        service.counters.accepted += 1
        slot.sites, slot.at, slot.epoch = self.sites, self.address, service.epoch
        if isinstance(peer, tuple):
            if service.admission.open > service.crowd:
                take_little(sock)
                slot.unproven = PROOFS
            slot.peer, slot.port, slot.server_port = peer[0], peer[1], self._port
        if service.announces:
            slot.route = route_of(sock, peer)
        return Arrival(service, sock, slot, self.context, self.redirect, self._loop, self._poller)

    def _pause(self, error: OSError) -> None:
        log.error("accepting pauses for %g s: %s", BACK_OFF, error.strerror)
        self._loop.remove_reader(self.sock.fileno())
        self._retry = self._loop.call_later(BACK_OFF, self.start)
