"""A bounded queue of tickets that wait for the same thing, in which clients take turns.

    put     ──► None: it waits │ the ticket that has no room: the new one, or another one
    take    ──► the ticket whose turn it is, or None
    remove  ──► False if the ticket did not wait

The tickets of one client keep their order. So a client with a thousand tickets waits a thousand
turns, and one with a single ticket waits one turn of everybody. If there is no room left, the
client with the most tickets loses its newest one, unless it is the one that comes. So a flood from
one address fills the queue only as long as nobody else wants a place.

This module never reads a clock and never looks into a ticket. Invariants: `size` is the number of
tickets and never exceeds `limit`. A client that has a line in `_lines` has a ticket in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

T = TypeVar("T")
ANYBODY: Final = b""  # the client of tickets that all count as one's


class FairQueue(Generic[T]):
    """Tickets that wait, by client."""

    __slots__ = ("_lines", "_whose", "limit", "size")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._lines: dict[bytes, deque[T]] = {}  # in the order of turns
        self._whose: dict[T, bytes] = {}

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[T]:
        return iter(self._whose)

    def __contains__(self, ticket: object) -> bool:
        return ticket in self._whose

    def put(self, ticket: T, client: bytes = ANYBODY) -> T | None:
        """Let `ticket` wait. Returns the ticket that has to go, if there is no room."""
        gone: T | None = None
        if self.size >= self.limit:
            gone = self._give_way(client)
            if gone is None:
                return ticket
        line = self._lines.get(client)
        if line is None:
            line = self._lines[client] = deque()
        line.append(ticket)
        self._whose[ticket] = client
        self.size += 1
        return gone

    def _give_way(self, client: bytes) -> T | None:
        """The newest ticket of the client with most, if that is more than `client` would have."""
        greediest: deque[T] = deque()
        for line in self._lines.values():
            if len(line) > len(greediest):
                greediest = line
        mine = self._lines.get(client)
        if len(greediest) <= (len(mine) if mine is not None else 0) + 1:
            return None
        ticket = greediest.pop()
        del self._whose[ticket]
        self.size -= 1
        return ticket

    def take(self) -> T | None:
        """The ticket whose turn it is. The next turn of its client is behind all others."""
        if not self.size:
            return None
        client = next(iter(self._lines))
        line = self._lines.pop(client)
        ticket = line.popleft()
        if line:
            self._lines[client] = line
        del self._whose[ticket]
        self.size -= 1
        return ticket

    def remove(self, ticket: T) -> bool:
        """The ticket waits no longer. False if it did not wait."""
        client = self._whose.pop(ticket, None)
        if client is None:
            return False
        line = self._lines[client]
        line.remove(ticket)
        if not line:
            del self._lines[client]
        self.size -= 1
        return True
