"""The pool of connections to one upstream. It only decides; others act.

    checkout     ──► a connection (last in, first out) │ DIAL │ FULL ─► wait(ticket)
    release      ──► the ticket that gets it, or None: it is idle now
    discard      ──► the ticket that may dial in its place, or None
    part         ──► the same: the connection lives on, but outside of the pool
    stall        ──► the same: the connection waits for its own client, and lends its place
    expire       ──► what to close: idle too long, or more than recent demand asks for
    slow_holders ──► who has to give a connection back, because there are more than allowed

The pool knows nothing of a connection but `idle_since` and `lent`, which it writes. It never
awaits, touches a socket or reads a clock. Invariants: busy + idle never exceeds `limit`, and nor
does lent. A ticket waits only while there is no idle connection, and none that could lend its
place. `idle` is in the order of `idle_since`, the oldest first.

The pool is for requests that end. A WebSocket, or a stream of events, lasts as long as somebody
looks at a page. It is `apart`: otherwise a thousand open tabs would be all that the upstream
serves.

No request waits for the client of another one. If a client does not take what there is, or if the
body of its request is still to come, its connection is `stall`ed. It then lends its place to the
next request that finds the pool full, until it ends. So for some seconds there may be up to twice
`limit` connections, of which the upstream can work on `limit`. Those who are slow pay that back.

While connections are scarce, requests that hold one but wait for their own client (its body comes
slowly, or it reads slowly) are noted at each look. They are judged by what moved from one look to
the next. They may have a quarter of the pool. Beyond that the slowest are cut, one for each ticket
and for each connection beyond `limit`.

How many connections stay idle follows demand: as many as the busiest moment of the last one or two
windows needed, and `keepalive` at rest. So even with a small `keepalive` there are no handshakes
again and again under load.
"""

from __future__ import annotations

import enum
from typing import Any, Final, Generic, TypeVar

from rawproxy.balancing.fair_queue import ANYBODY, FairQueue

WINDOW: Final = 10.0  # seconds of demand that count: enough to bridge the gaps between pages
SHARE: Final = 4  # slow clients may have a quarter of the pool; the rest is for the others
# Bytes a second below which a client is slow. To stay above it with a thousand connections takes
# 130 Mbit/s. Hardly any honest client is slower: it would take a second for a photo's thumbnail.
SLOW: Final = 16 * 1024
# The least seconds from one look to the next, about those of a sweep. Within them an honest client
# has received a 100 (Continue) and sent something.
LOOK: Final = 0.9


class PoolAnswer(enum.Enum):
    """What to do if there is no idle connection to give."""

    DIAL = "dial"
    FULL = "full"


DIAL: Final[PoolAnswer] = PoolAnswer.DIAL
FULL: Final[PoolAnswer] = PoolAnswer.FULL


class Poolable:
    """The base of a connection: what the pool writes on it."""

    __slots__ = ("idle_since", "lent")

    def __init__(self) -> None:
        self.idle_since = 0.0
        self.lent = False  # in use, but somebody else has its place in the pool


C = TypeVar("C", bound=Poolable)
T = TypeVar("T")


class Pool(Generic[C, T]):
    """Connections with the same key: all that makes two of them interchangeable."""

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
        """The connection that was used last, or what to do instead."""
        if self.idle:
            self.busy += 1
            if self.busy > self.peak:
                self.peak = self.busy
            return self.idle.pop()
        return self.fresh()

    def fresh(self) -> PoolAnswer:
        """DIAL or FULL, for a retry, which must not get a second stale connection."""
        if self.busy + len(self.idle) >= self.limit:
            return DIAL if self._borrow() else FULL
        self.busy += 1
        if self.busy > self.peak:
            self.peak = self.busy
        return DIAL

    def stall(self, connection: C) -> T | None:
        """A busy connection waits for its client from now on. Returns as `discard` does."""
        if connection.lent:
            return None
        if self.waiting.size and self.lent < self.limit:
            self._lend(connection)
            return self.waiting.take()
        self.stalled[connection] = None
        return None

    def flow(self, connection: C) -> None:
        """A connection waits no longer. If it has lent its place, that stays lent until it ends."""
        self.stalled.pop(connection, None)

    def repay(self, connection: C) -> T | None:
        """A connection that lent its place has ended or parted. The ticket gets another place."""
        connection.lent = False
        self.lent -= 1
        return self.waiting.take() if self.waiting.size and self._borrow() else None

    def _borrow(self) -> bool:
        """Let the connection that has stalled longest lend its place. False if there is none."""
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
        """Whether slow requests matter: others wait, or will soon."""
        return self.waiting.size > 0 or self.pressed()

    def pressed(self) -> bool:
        """Whether more than half of the connections are in use."""
        return (self.busy + self.lent) * 2 > self.limit

    def in_use(self) -> bool:
        """Whether anybody has or wants one of the connections."""
        return self.busy + self.lent + self.apart + self.waiting.size > 0

    def wait(self, ticket: T, client: bytes = ANYBODY) -> T | None:
        """Queue for a connection. Returns the ticket that has no place if the queue is full."""
        return self.waiting.put(ticket, client)

    def forget(self, ticket: T) -> bool:
        """The ticket no longer wants a connection. False if it was not waiting."""
        return self.waiting.remove(ticket)

    def release(self, connection: C, now: float) -> T | None:
        """A busy connection may be used again. The returned ticket gets it, or it is idle."""
        if self.waiting.size:
            return self.waiting.take()
        self.busy -= 1
        connection.idle_since = now
        self.idle.append(connection)
        return None

    def discard(self) -> T | None:
        """A busy connection ended. The returned ticket has to dial in its place."""
        if self.waiting.size:
            return self.waiting.take()
        self.busy -= 1
        return None

    def part(self, connection: C) -> T | None:
        """A busy connection becomes a tunnel or a stream of events. Returns as `discard` does."""
        self.flow(connection)
        self.apart += 1
        return self.repay(connection) if connection.lent else self.discard()

    def rejoin(self) -> None:
        """A connection that had parted has ended."""
        self.apart -= 1

    def adopt(self, connection: C, now: float) -> bool:
        """Take a connection that nobody asked for as idle. False if there is no room for it."""
        if self.waiting.size or self.busy + len(self.idle) >= self.limit:
            return False
        connection.idle_since = now
        self.idle.append(connection)
        return True

    def note_progress(self, holder: T, moved: int) -> None:
        """`holder` waits for its own client. `moved`: bytes for that client so far, in all."""
        self.noted[holder] = moved

    def slow_holders(self, now: float) -> list[T]:
        """Who has to give its connection back, the slowest first; nobody before the second look.

        Called once in each sweep, after `note_progress`.
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
        """An idle connection has ended by itself. False if it was not idle."""
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
        """All idle connections, to be closed because the worker drains."""
        gone, self.idle = self.idle, []
        return gone


def _moved(one: tuple[int, Any]) -> int:
    return one[0]
