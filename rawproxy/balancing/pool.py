"""The pool of connections to one upstream: decisions, no deeds.

    checkout     ──► a connection (last in, first out) │ DIAL │ FULL ─► wait(ticket)
    release      ──► the ticket that gets it, or None: it is idle now
    discard      ──► the ticket that may dial in its place, or None
    part         ──► the same: the connection lives on, but outside of the pool
    stall        ──► the same: the connection waits for its own client, and lends its place
    expire       ──► what to close: idle too long, or more than recent demand asks for
    slow_holders ──► who is to give a connection back, since there are more than may be

Connections are opaque; all the pool wants is an `idle_since` and a `lent` that it may write. It
never awaits, touches a socket or reads a clock. Invariants: busy + idle never exceeds `limit`, nor
does lent; a ticket waits only while there is no idle connection, and none that could lend its
place; `idle` is ordered by `idle_since`, oldest first.

The pool is for requests that end. What lasts as long as somebody looks at a page, a WebSocket or a
stream of events, is `apart`: else a thousand open tabs would be all that the upstream serves.

No request waits for another one's client. A connection whose client does not take what there is,
or whose request's body is still to come, is `stall`ed: it lends its place to the next who finds the
pool full, for as long as it lasts. So there may be up to twice `limit` connections, of which the
upstream can work on `limit`, for some seconds: that is paid back by those who are slow.

While connections are scarce, those who hold one but wait for their own client, whose body comes
slowly or who reads slowly, are noted at each look, and judged by what moved from one to the next.
They may have a quarter of the pool; the slowest of those beyond it are cut, one for each ticket and
for each connection beyond `limit`.

How many stay idle follows demand: as many as the busiest moment of the last one to two windows
needed, and `keepalive` at rest. A small `keepalive` therefore never makes the proxy shake hands
with its upstream again and again under load.
"""

from __future__ import annotations

import enum
from typing import Any, Final, Generic, TypeVar

from rawproxy.balancing.fair_queue import ANYBODY, FairQueue

WINDOW: Final = 10.0  # seconds of demand that count: enough to bridge the gaps between pages
SHARE: Final = 4  # a quarter of the pool is for slow clients: three quarters stay for the others
# Bytes a second below which a client is slow. Who stays above it with a thousand connections needs
# 130 Mbit/s, while hardly any honest one is slower: that is a second for a photo's thumbnail.
SLOW: Final = 16 * 1024
# Seconds from one look to the next at least, about those of a sweep: within them an honest client
# has heard of a 100 (Continue) and sent something.
LOOK: Final = 0.9


class PoolAnswer(enum.Enum):
    """What to do when there is no idle connection to give."""

    DIAL = "dial"
    FULL = "full"


DIAL: Final[PoolAnswer] = PoolAnswer.DIAL
FULL: Final[PoolAnswer] = PoolAnswer.FULL


class Poolable:
    """What the pool writes on a connection: its base."""

    __slots__ = ("idle_since", "lent")

    def __init__(self) -> None:
        self.idle_since = 0.0
        self.lent = False  # in use, but somebody else has its place in the pool


C = TypeVar("C", bound=Poolable)
T = TypeVar("T")


class Pool(Generic[C, T]):
    """Connections of one key: everything that makes two of them interchangeable."""

    __slots__ = (
        "apart", "busy", "idle", "idle_timeout", "keepalive", "lent", "limit", "looked", "noted",
        "noted_before", "peak", "peak_before", "stalled", "waiting", "window_began",
    )  # fmt: skip

    def __init__(self, limit: int, keepalive: int, idle_timeout: float, queue: int) -> None:
        self.limit = limit  # connections, busy (being dialled included) and idle
        self.keepalive = keepalive
        self.idle_timeout = idle_timeout  # seconds
        self.busy = 0
        self.apart = 0  # connections that are in use, but not the pool's: they do not end soon
        self.lent = 0  # connections that are in use, but whose place somebody else has
        self.stalled: dict[C, None] = {}  # those that could lend theirs, the longest first
        self.idle: list[C] = []
        self.waiting: FairQueue[T] = FairQueue(queue)
        self.peak = 0  # the busiest moment of this window
        self.peak_before = 0  # and of the one before
        self.window_began = 0.0
        self.noted: dict[T, int] = {}  # who waits for its client, and the bytes moved for it so far
        self.noted_before: dict[T, int] = {}  # the same at the look before
        self.looked = 0.0

    def __repr__(self) -> str:
        return (
            f"<Pool busy={self.busy} idle={len(self.idle)} waiting={self.waiting.size}"
            f" limit={self.limit}>"
        )

    def checkout(self) -> C | PoolAnswer:
        """The connection used last, or what to do instead."""
        if self.idle:
            self.busy += 1
            if self.busy > self.peak:
                self.peak = self.busy
            return self.idle.pop()
        return self.fresh()

    def fresh(self) -> PoolAnswer:
        """DIAL or FULL: for a retry, which must not meet a second stale connection."""
        if self.busy + len(self.idle) >= self.limit:
            return DIAL if self._borrow() else FULL
        self.busy += 1
        if self.busy > self.peak:
            self.peak = self.busy
        return DIAL

    def stall(self, connection: C) -> T | None:
        """A busy connection waits for its client from now on; the ticket as in `discard`."""
        if connection.lent:
            return None
        if self.waiting.size and self.lent < self.limit:
            self._lend(connection)
            return self.waiting.take()
        self.stalled[connection] = None
        return None

    def flow(self, connection: C) -> None:
        """It no longer does; a place that it has lent stays lent until it ends."""
        self.stalled.pop(connection, None)

    def repay(self, connection: C) -> T | None:
        """One whose place was lent has ended or parted; the ticket has the place of another."""
        connection.lent = False
        self.lent -= 1
        return self.waiting.take() if self.waiting.size and self._borrow() else None

    def _borrow(self) -> bool:
        """Whether a busy connection lends its place, the one that has stalled longest."""
        if not self.stalled or self.lent >= self.limit:
            return False
        lender = next(iter(self.stalled))
        del self.stalled[lender]
        self._lend(lender)
        return True

    def _lend(self, connection: C) -> None:
        connection.lent = True
        self.lent += 1

    def scarce(self) -> bool:
        """Whether it matters who dawdles."""
        return self.waiting.size > 0 or self.pressed()

    def pressed(self) -> bool:
        """More than half of the connections are in use: no time for those who dawdle."""
        return (self.busy + self.lent) * 2 > self.limit

    def in_use(self) -> bool:
        """Whether anybody has one of its connections, or wants one."""
        return self.busy + self.lent + self.apart + self.waiting.size > 0

    def wait(self, ticket: T, client: bytes = ANYBODY) -> T | None:
        """Queue for the next connection. The ticket that has no place, where the queue is full."""
        return self.waiting.put(ticket, client)

    def forget(self, ticket: T) -> bool:
        """The ticket no longer wants a connection. False when it was not waiting."""
        return self.waiting.remove(ticket)

    def release(self, connection: C, now: float) -> T | None:
        """A busy connection may be used again: by the ticket returned, or it is idle."""
        if self.waiting.size:
            return self.waiting.take()
        self.busy -= 1
        connection.idle_since = now
        self.idle.append(connection)
        return None

    def discard(self) -> T | None:
        """A busy connection ended; the ticket returned is to dial in its place."""
        if self.waiting.size:
            return self.waiting.take()
        self.busy -= 1
        return None

    def part(self, connection: C) -> T | None:
        """A busy connection becomes a tunnel or a stream of events; the ticket as in `discard`."""
        self.flow(connection)
        self.apart += 1
        return self.repay(connection) if connection.lent else self.discard()

    def rejoin(self) -> None:
        """One that had parted has ended."""
        self.apart -= 1

    def adopt(self, connection: C, now: float) -> bool:
        """A connection that nobody asked for is idle now. False where there is no room for it."""
        if self.waiting.size or self.busy + len(self.idle) >= self.limit:
            return False
        connection.idle_since = now
        self.idle.append(connection)
        return True

    def note_progress(self, holder: T, moved: int) -> None:
        """Who has a connection waits for its own client; `moved`: bytes for it so far, in all."""
        self.noted[holder] = moved

    def slow_holders(self, now: float) -> list[T]:
        """Who has to give its connection back, the slowest first; nobody before its second look.

        Called once in each sweep, behind `note_progress`.
        """
        if not (self.noted or self.noted_before):
            return []
        noted, self.noted = self.noted, {}
        if now - self.looked < LOOK:
            return []
        least = SLOW * (now - self.looked)
        before, self.noted_before, self.looked = self.noted_before, noted, now
        wanted = self.waiting.size + max(self.busy + self.lent - self.limit, 0)
        if not wanted:
            return []
        slow = []
        for holder, moved in noted.items():
            if holder in before and moved - before[holder] < least:
                slow.append((moved - before[holder], holder))
        slow.sort(key=_moved)
        surplus = min(len(slow) - max(self.limit // SHARE, 1), wanted)
        return [slow[n][1] for n in range(surplus)]

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


def _moved(one: tuple[int, Any]) -> int:
    return one[0]
