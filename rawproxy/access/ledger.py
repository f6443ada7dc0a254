"""What clients have spent of their rates on this machine, for whoever tells other machines.

`rates` sums it up in memory that all workers share. `news` compares the sums with those of the last
time, page by page, so that it costs little where little happens: a fifth of a millisecond for the
whole table. It changes nothing that the workers look at, so none of them waits or loses a count.

It never sends anything and never looks at a clock. Invariant: what is taken over from others is
never told to others again.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable
from typing import Final

from rawproxy.access.rates import HEAD, SIZE, SLOTS, SPENT, RateTable

# Seconds in which what is told now was spent: one exchange. It counts from its beginning: if it
# counted from now, keys without a burst would lose that time at each exchange.
SINCE: Final = 0.1
_PAGE: Final = 4096  # bytes that are compared at once
_EACH: Final = 8  # bytes of a sum


def open_ledger(memory: memoryview) -> RateLedger:
    """The ledger of what lies in `memory`."""
    return RateLedger(memory)


class RateLedger:
    """The sums, as they were when they were last told."""

    __slots__ = ("_names", "_sums", "_table", "_told", "_words")

    def __init__(self, memory: memoryview) -> None:
        self._table = RateTable(memory)
        self._sums = memory[SPENT:SIZE]
        self._words = memory[HEAD:SPENT].cast("Q")
        self._told = bytearray(self._sums)  # what was spent before is no news
        self._names = array("Q", bytes(_EACH * SLOTS))  # by slot: whose sum was told

    def news(self, most: int) -> list[tuple[int, float]]:
        """Names and the seconds they have spent since; if there are more, those that spent most."""
        found: list[tuple[int, float]] = []
        for start in range(0, SIZE - SPENT, _PAGE):
            page = bytes(self._sums[start : start + _PAGE])
            if page != self._told[start : start + _PAGE]:
                found += self._changed(start // _EACH, page)
                self._told[start : start + _PAGE] = page
        if len(found) > most:
            return heapq.nlargest(most, found, key=lambda pair: pair[1])
        return found

    def _changed(self, first: int, page: bytes) -> list[tuple[int, float]]:
        """The slots of a page whose sums have grown."""
        sums = memoryview(page).cast("d")
        start = first * _EACH
        before = memoryview(bytes(self._told[start : start + _PAGE])).cast("d")
        found = []
        for at, (now, then) in enumerate(zip(sums, before, strict=True)):
            if now == then:
                continue
            slot = first + at
            name = self._words[2 * slot]
            # A slot that went to another key has begun anew. What was given back is less than zero.
            same = self._names[slot] in (0, name)
            self._names[slot] = name
            spent = now - then if same else now
            if spent and name:
                found.append((name, spent))
        return found

    def charge(self, spent: Iterable[tuple[int, float]], now: float) -> None:
        """Take over what keys have spent elsewhere. `now` is the workers' monotonic time."""
        for name, seconds in spent:
            self._table.charge(name, seconds, now - SINCE)
