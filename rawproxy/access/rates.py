"""How many requests in how much time: the generic cell rate algorithm, over a table of fixed size.

Each key has one number: when it would be as if it had never asked (TAT, *theoretical arrival
time*). A request moves that by one interval; what would move it further ahead of now than the burst
allows is refused, and moves nothing. A key whose time has come is as good as one that is not there.

The table is memory that several workers may share. A key has its place in one of so many buckets of
eight, found by a keyed hash, which nobody outside can aim. If all eight are taken, **the one that
would be free first is forgotten**: it is the one that has asked least, and it gains its burst once
more; who asks most is never forgotten for it.

No lock: two workers that serve one key in the same microsecond may count one request of the two,
and as what is refused writes nothing, they can do so only as often as they let requests pass.

Where other machines count too, what each key spends here is summed beside its slot (`share`), for
`ledger` to read; and what keys have spent elsewhere moves their times as well (`charge`). So all
machines together let pass what one would, but for what passes between two exchanges.

It never looks at a clock and never makes memory. Invariants: what it takes up does not depend on
how many keys there are; a key is never refused by what other keys did.
"""

from __future__ import annotations

import hashlib
import math
from typing import Final, NamedTuple

SLOTS: Final = 1 << 18  # of 16 bytes: keys that may be in debt at once, all routes together
HEAD: Final = 64  # bytes in front of them: a secret, for the hash
SPENT: Final = HEAD + 16 * SLOTS  # where the sums begin, 8 bytes a slot
SIZE: Final = SPENT + 8 * SLOTS
_WAYS: Final = 8  # slots of a bucket: two cache lines
_BUCKETS: Final = SLOTS // _WAYS
_ROUNDING: Final = 1e-6  # seconds that sums of intervals may be off after weeks


class Rate(NamedTuple):
    """So many requests a while."""

    interval: float  # seconds for one
    tolerance: float  # seconds by which a key may be ahead


def rate(requests: int, per: float, burst: int) -> Rate:
    """`burst` more than one may come at once."""
    interval = per / requests
    return Rate(interval, interval * burst)


class RateTable:
    """All keys of all routes."""

    __slots__ = ("_secret", "_shares", "_spent", "_times", "_words")

    def __init__(self, memory: memoryview) -> None:
        """`memory`: `SIZE` bytes, in front of them a secret; the rest zeros at first."""
        self._secret = bytes(memory[:HEAD])
        self._shares = False  # whether anybody wants to know what is spent
        self._spent = memory[SPENT:SIZE].cast("d")
        slots = memory[HEAD:SPENT]
        # The same bytes twice: a key, then its time.
        self._words = slots.cast("Q")
        self._times = slots.cast("d")

    def share(self, secret: bytes) -> None:
        """From now on keys are called as on the machines that have this secret, and sums kept."""
        self._secret = secret[:HEAD]
        self._shares = True

    def name(self, zone: bytes, key: bytes) -> int:
        """What `key` is called in the table; `zone` is the route's, say."""
        text = b"%d:%b%b" % (len(zone), zone, key)
        return int.from_bytes(hashlib.blake2b(text, digest_size=8, key=self._secret).digest()) or 1

    def take(self, name: int, rate: Rate, now: float) -> float:
        """Count one request: 0, or the seconds after which it may come again."""
        at, due = self._find(name, now)
        wait = due - now - rate.tolerance
        if wait > _ROUNDING:
            return wait
        self._times[at + 1] = due + rate.interval
        if self._shares:
            spent = self._spent
            before = spent[at >> 1] if self._words[at] == name else 0.0
            spent[at >> 1] = before + rate.interval
        self._words[at] = name
        return 0.0

    def charge(self, name: int, seconds: float, now: float) -> None:
        """What a key has spent on another machine."""
        at, due = self._find(name, now)
        self._times[at + 1] = due + seconds
        if self._words[at] != name:
            self._words[at] = name
            self._spent[at >> 1] = 0.0

    def wait(self, name: int, rate: Rate, now: float) -> float:
        """The same without counting it."""
        _, due = self._find(name, now)
        wait = due - now - rate.tolerance
        return wait if wait > _ROUNDING else 0.0

    def give_back(self, name: int, rate: Rate) -> None:
        """A request that was counted should not have been."""
        at, due = self._find(name, 0.0)
        if self._words[at] == name:
            self._times[at + 1] = due - rate.interval
            if self._shares:
                self._spent[at >> 1] = max(self._spent[at >> 1] - rate.interval, 0.0)

    def _find(self, name: int, now: float) -> tuple[int, float]:
        """Where the key stands, or is to stand, and its time; `now` if that has come."""
        words, times = self._words, self._times
        start = name % _BUCKETS * _WAYS * 2
        best, least = start, math.inf
        for at in range(start, start + _WAYS * 2, 2):
            due = times[at + 1]
            if words[at] == name:
                return at, max(due, now)
            if due < least:
                best, least = at, due
        return best, now


def retry_after(wait: float) -> bytes:
    """The field that tells a client when to come again (RFC 9110 10.2.3)."""
    return b"Retry-After: %d\r\n" % max(math.ceil(wait), 1)
