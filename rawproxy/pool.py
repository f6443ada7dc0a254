"""The pool of connections to one upstream: decisions, no deeds.

    checkout ──► a connection (last in, first out) │ DIAL │ FULL ─► wait(ticket)
    release  ──► the ticket that gets it, or None: it is idle now
    discard  ──► the ticket that may dial in its place, or None
    expire   ──► what to close: idle too long, or more than recent demand asks for

Connections are opaque; all the pool wants is an `idle_since` it may write. It never awaits,
touches a socket or reads a clock. Invariants: busy + idle never exceeds `limit`; a ticket waits
only while there is no idle connection; `idle` is ordered by `idle_since`, oldest first.

How many stay idle follows demand: as many as the busiest moment of the last one to two windows
needed, and `keepalive` at rest. A small `keepalive` therefore never makes the proxy shake hands
with its upstream again and again under load.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import Final, Generic, Protocol, TypeVar

WINDOW: Final = 10.0  # seconds of demand that count: enough to bridge the gaps between pages


class Verdict(enum.Enum):
    """What to do when there is no idle connection to give."""

    DIAL = "dial"
    FULL = "full"


DIAL: Final[Verdict] = Verdict.DIAL
FULL: Final[Verdict] = Verdict.FULL


class Poolable(Protocol):
    """What the pool writes on a connection."""

    idle_since: float


C = TypeVar("C", bound=Poolable)
T = TypeVar("T")


class Pool(Generic[C, T]):
    """Connections of one key: everything that makes two of them interchangeable."""

    __slots__ = (
        "busy", "idle", "idle_timeout", "keepalive", "limit", "peak", "peak_before", "queue",
        "waiting", "window_began",
    )  # fmt: skip

    def __init__(self, limit: int, keepalive: int, idle_timeout: float, queue: int) -> None:
        self.limit = limit  # connections, busy (being dialled included) and idle
        self.keepalive = keepalive
        self.idle_timeout = idle_timeout  # seconds
        self.queue = queue  # tickets that may wait
        self.busy = 0
        self.idle: list[C] = []
        self.waiting: deque[T] = deque()
        self.peak = 0  # the busiest moment of this window
        self.peak_before = 0  # and of the one before
        self.window_began = 0.0

    def __repr__(self) -> str:
        return (
            f"<Pool busy={self.busy} idle={len(self.idle)} waiting={len(self.waiting)}"
            f" limit={self.limit}>"
        )

    def checkout(self) -> C | Verdict:
        """The connection used last, or what to do instead."""
        if self.idle:
            self.busy += 1
            if self.busy > self.peak:
                self.peak = self.busy
            return self.idle.pop()
        return self.fresh()

    def fresh(self) -> Verdict:
        """DIAL or FULL: for a retry, which must not meet a second stale connection."""
        if self.busy + len(self.idle) >= self.limit:
            return FULL
        self.busy += 1
        if self.busy > self.peak:
            self.peak = self.busy
        return DIAL

    def pressed(self) -> bool:
        """More than half of the connections are in use: no time for those who dawdle."""
        return self.busy * 2 > self.limit

    def wait(self, ticket: T) -> bool:
        """Queue for the next connection; False when the queue is full."""
        if len(self.waiting) >= self.queue:
            return False
        self.waiting.append(ticket)
        return True

    def forget(self, ticket: T) -> bool:
        """The ticket no longer wants a connection. False when it was not waiting."""
        try:
            self.waiting.remove(ticket)
        except ValueError:
            return False
        return True

    def release(self, connection: C, now: float) -> T | None:
        """A busy connection may be used again: by the ticket returned, or it is idle."""
        if self.waiting:
            return self.waiting.popleft()
        self.busy -= 1
        connection.idle_since = now
        self.idle.append(connection)
        return None

    def discard(self) -> T | None:
        """A busy connection ended; the ticket returned is to dial in its place."""
        if self.waiting:
            return self.waiting.popleft()
        self.busy -= 1
        return None

    def evict(self, connection: C) -> bool:
        """An idle connection ended by itself. False when it was not idle."""
        try:
            self.idle.remove(connection)
        except ValueError:
            return False
        return True

    def expire(self, now: float) -> list[C]:
        """Idle connections to close now; called about once a second."""
        if now - self.window_began >= WINDOW:
            self.peak_before, self.peak, self.window_began = self.peak, self.busy, now
        wanted = max(self.keepalive, max(self.peak, self.peak_before) - self.busy)
        surplus = len(self.idle) - wanted
        stop = max(surplus, 0)
        oldest = now - self.idle_timeout
        while stop < len(self.idle) and self.idle[stop].idle_since <= oldest:
            stop += 1
        gone, self.idle = self.idle[:stop], self.idle[stop:]
        return gone

    def clear(self) -> list[C]:
        """Every idle connection, to be closed: the worker drains."""
        gone, self.idle = self.idle, []
        return gone
