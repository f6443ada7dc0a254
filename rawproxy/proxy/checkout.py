"""From a request to a connection: the first half of an exchange.

    CHECKOUT ──► SEND: there is an idle connection, or one has been made
             ──► DIAL: there is room for one more; if that fails, the next candidate is tried
             ──► QUEUE: the pool is full
             ──► WAIT: every candidate refuses connections, and `--timeout wait` allows to wait
             ──► DONE: 502 or 504 (no upstream), 503 (no room in time, or none to wait in)

This module never reads or writes a byte of a message. Invariant: while an exchange waits, it is in
exactly one queue, has a deadline, and holds no connection and no place in a pool.
"""

from __future__ import annotations

import enum
from abc import abstractmethod
from time import monotonic
from typing import Final

from rawproxy.balancing.policies import prefer
from rawproxy.balancing.pool import DIAL as POOL_DIAL
from rawproxy.balancing.pool import FULL as POOL_FULL
from rawproxy.balancing.pool import PoolAnswer
from rawproxy.config.model import Deadlines
from rawproxy.errors import CapacityError, DialError, ProxyError
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http.forwarding import one_client
from rawproxy.protocol.http.head import RequestHead
from rawproxy.proxy.client_side import ClientSide
from rawproxy.proxy.service import Service
from rawproxy.telemetry.facts import Facts
from rawproxy.upstream.connection import UpstreamConnection
from rawproxy.upstream.endpoint import Endpoint
from rawproxy.upstream.ticket import Ticket

# RFC 9110 9.2.2
IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))


class ExchangeState(enum.Enum):
    """The nodes of the diagram in docs/architecture.md."""

    GUARD = "guard"
    REWRITE = "rewrite"
    CHECKOUT = "checkout"
    QUEUE = "queue"
    DIAL = "dial"
    WAIT = "wait"
    SEND = "send"
    RELAY = "relay"
    TUNNEL = "tunnel"
    DONE = "done"


GUARD: Final[ExchangeState] = ExchangeState.GUARD
REWRITE: Final[ExchangeState] = ExchangeState.REWRITE
CHECKOUT: Final[ExchangeState] = ExchangeState.CHECKOUT
QUEUE: Final[ExchangeState] = ExchangeState.QUEUE
DIAL: Final[ExchangeState] = ExchangeState.DIAL
WAIT: Final[ExchangeState] = ExchangeState.WAIT
SEND: Final[ExchangeState] = ExchangeState.SEND
RELAY: Final[ExchangeState] = ExchangeState.RELAY
TUNNEL: Final[ExchangeState] = ExchangeState.TUNNEL
DONE: Final[ExchangeState] = ExchangeState.DONE


class Checkout(Ticket):
    """Base of the exchange: who serves it, and over which connection."""

    __slots__ = (
        "attempts",
        "candidates",
        "client",
        "deadline",
        "deadlines",
        "endpoint",
        "facts",
        "gather",
        "head",
        "parked",
        "personal",
        "renewed",
        "retried",
        "service",
        "state",
        "usual",
        "waiting",
        "waits_until",
    )  # fmt: skip

    candidates: list[Endpoint]
    endpoint: Endpoint  # who serves it, or is tried just now

    def __init__(self, service: Service, client: ClientSide, head: RequestHead) -> None:
        self.service = service
        self.client = client
        self.head = head
        self.method = head.method
        # So most are, and may always be sent again: no more need be asked of the method.
        self.usual = head.method == b"GET" and head.framing == 0
        self.deadlines: Deadlines = client.route_target.deadlines
        self.state = REWRITE
        self.deadline = 0.0
        self.personal = head.personal  # its connection is this client's own from now on
        self.facts: Facts | None = None  # None: nobody wants to know
        self.attempts = 0  # upstreams that could not be reached
        self.retried = False  # over a fresh connection, after an idle one had died
        self.renewed = False  # the candidates were asked for again
        self.parked = 0  # bytes of a body that comes before its connection, in the worker's sum
        self.waiting = 0  # bytes of a body that has no connection yet, in the worker's other sum
        self.gather = 0  # bytes up to which the body is gathered (`holding`); 0: it streams
        self.waits_until = 0.0  # for an upstream that takes connections; 0: it has not waited yet

    @abstractmethod
    def fail(self, error: ProxyError) -> None:
        """End with an error response, or visibly cut what has begun."""

    @abstractmethod
    def send(self, connection: UpstreamConnection) -> None:
        """Send the request over `connection`."""

    # ── a connection of the pool ────────────────────────────────────────────────────────────────

    def checkout(self) -> None:
        """Find a connection, or a place to wait for one."""
        if self.parked and not self.gather:
            self.park(0)
        self.state = CHECKOUT
        if self.client.bound is not None and self._take_bound():
            return
        endpoint = self.endpoint
        pool = endpoint.pool
        while True:
            if self.retried:
                got: UpstreamConnection | PoolAnswer = pool.fresh()
            else:
                got = self._for_tunnel(endpoint) if self.head.upgrade else pool.checkout()
            if isinstance(got, UpstreamConnection):
                if (got.suspect or not self.usual) and got.stale():
                    got.drop()
                    continue
                self.send(got)
                return
            break
        if got is not POOL_DIAL:
            assert got is POOL_FULL
            self.state = QUEUE
            self.deadline = self.service.deadline(self.deadlines.queue)
            _crowd_out(pool.wait(self, self._client()))
        elif endpoint.waiting_room.queue.size and self.deadlines.wait:
            endpoint.give_back_place()  # others wait for it already, and somebody knocks
            self._wait(DialError(endpoint.waiting_room.reason))
        else:
            self.on_room()

    def _for_tunnel(self, endpoint: Endpoint) -> UpstreamConnection | PoolAnswer:
        """A tunnel never gives its connection back: where there is room it has one of its own.

        Those that are idle stay for requests: a burst of tabs would make all of them dial.
        """
        pool = endpoint.pool
        return POOL_DIAL if pool.fresh() is POOL_DIAL else pool.checkout()

    def prefer(self, bound: UpstreamConnection) -> None:
        """The upstream that knows the client, before all others."""
        known = bound.endpoint
        if isinstance(known, Endpoint) and known in self.candidates:
            self.candidates = prefer(self.candidates, known)

    def _take_bound(self) -> bool:
        """Send the request over the client's own connection, if that leads to its upstream."""
        connection = self.client.bound
        if connection is None or connection.endpoint is not self.endpoint or self.retried:
            return False
        self.client.bound = None
        if not connection.bound:
            return False
        if connection.stale():
            connection.unbind()
            return False
        connection.bound = False
        self.personal = True
        self.send(connection)
        return True

    def _client(self) -> bytes:
        """The client whose turn counts: no client can fill a queue for all others."""
        return one_client(rewrite.client_of(self.head, self.client.context))

    def on_crowd(self) -> None:
        """The queue is full, and our ticket has to go."""
        waiting = self.endpoint.pool.waiting
        if self.state is WAIT:
            waiting = self.endpoint.waiting_room.queue
        self.fail(CapacityError(f"{waiting.size} requests wait for {self.name()} already"))

    def on_connection(self, connection: UpstreamConnection) -> None:
        """It is our turn: another exchange has released a connection, and it is ours."""
        self.send(connection)

    # ── a new connection ────────────────────────────────────────────────────────────────────────

    def on_room(self) -> None:
        """It is our turn: the pool has counted a connection for us. Dial it."""
        self.state = DIAL
        self.deadline = 0.0  # the dial has its own
        self.service.spawn(self._dial(self.endpoint))

    async def _dial(self, endpoint: Endpoint) -> None:
        began = monotonic()
        try:
            connection = await endpoint.dial(self._client(), self.client.context.route)
        except DialError as error:
            endpoint.give_back_place()
            if self.state is DIAL:
                self._dial_failed(error)
        except BaseException:
            endpoint.give_back_place()
            raise
        else:
            if self.state is DIAL:
                if self.facts is not None:
                    self.facts.dialled = monotonic() - began
                self.send(connection)
            else:  # the client went meanwhile: the next one will be glad of it
                connection.reusable = True
                endpoint.settle(connection)

    def _dial_failed(self, error: DialError) -> None:
        self.attempts += 1
        if self.attempts == len(self.candidates) and not self.renewed:
            # All have failed, and some name may stand for other addresses by now.
            self.renewed = True
            known = self.candidates
            now = self.service.candidates(self.client.route_target, self.head, self.client.context)
            self.candidates = [*known, *(one for one in now if one not in known)]
        if self.attempts < len(self.candidates):
            self.service.failed("-", 0, self.name(), f"{error.detail}; trying the next upstream")
            self.endpoint = self.candidates[self.attempts]
            self.checkout()
        elif error.passing and self.deadlines.wait:
            self._wait(error)
        else:
            self.fail(error)

    # ── an upstream that refuses connections ────────────────────────────────────────────────────

    def _wait(self, error: DialError) -> None:
        """Wait until an upstream of the group takes connections again, as after a restart."""
        if not self.waits_until:
            self.waits_until = self.service.deadline(self.deadlines.wait)
        elif self.service.clock.now >= self.waits_until:
            self._waited_enough(error.detail)
            return
        self.state = WAIT
        self.deadline = self.waits_until
        _crowd_out(self.endpoint.waiting_room.enter(self, self._client(), error.detail))

    def _waited_enough(self, reason: str) -> None:
        self.fail(DialError(f"{reason}; still so after {self.deadlines.wait:g} s"))

    def on_open(self) -> None:
        """An upstream of the group takes connections again."""
        self.candidates = self.service.candidates(
            self.client.route_target, self.head, self.client.context
        )
        self.endpoint = self.candidates[0]
        self.attempts = 0
        self.renewed = False
        self.checkout()

    def sweep_wait(self) -> None:
        """The wait for a connection has taken too long."""
        if self.state is QUEUE:
            seconds = self.deadlines.queue
            self.fail(CapacityError(f"no connection to {self.name()} for {seconds:g} s"))
        elif self.state is WAIT:
            self._waited_enough(self.endpoint.waiting_room.reason)

    def park(self, size: int) -> None:
        """So much of its body is here, and waits for the rest rather than for a connection."""
        self.service.parked += size - self.parked
        self.parked = size

    def wait_with(self, size: int) -> None:
        """So much of its body is here, and has no connection to go out by; 0: it has one."""
        self.service.waiting += size - self.waiting
        self.waiting = size

    def leave_queue(self) -> None:
        """Wait no longer, in whatever queue that was."""
        if self.parked:
            self.park(0)
        if self.waiting:
            self.wait_with(0)
        if self.state is QUEUE:
            self.endpoint.pool.forget(self)
        elif self.state is WAIT:
            self.endpoint.waiting_room.queue.remove(self)

    def name(self) -> str:
        """The upstream's name, for the log."""
        return self.endpoint.title


def _crowd_out(ticket: Ticket | None) -> None:
    """There was no place for `ticket`, which may be the new one or another one."""
    if ticket is not None:
        ticket.on_crowd()
