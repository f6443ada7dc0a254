"""Counters: plain integers, how they are summed over workers, and what they mean.

    Tally      the counters of one upstream, or of the responses that needed none, in one worker
    add        two trees of numbers, summed: those of workers, and of those that are gone
    quantile   a latency, estimated from the counts of a histogram

A snapshot is a tree of dicts and lists whose leaves are numbers. Its root has `counters`, which
only ever grow and outlive their worker, and `gauges`, which go with it. This module never measures
time and never formats. Invariant: the sum of two snapshots has all leaves of both.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, Final

# Seconds, upper ends of the cells; behind the last one is a cell for all that took longer. From
# half a millisecond (a static file over loopback) to a minute (nginx's usual timeouts).
BUCKETS: Final[tuple[float, ...]] = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
PAST: Final = 256  # upstreams that are gone, by name: a kilobyte each in every snapshot
GONE: Final = "(gone)"  # the name of all others
Tree = dict[str, Any]  # of trees, lists of numbers, and numbers


class Tally:
    """Counters of one upstream. To count is to add to a cell, and nothing else."""

    __slots__ = (
        "cells", "changes", "classes", "dial_failures", "dials", "ejections", "failures",
        "first_cells", "first_seconds", "received", "retries", "seconds", "sent",
    )  # fmt: skip

    def __init__(self) -> None:
        self.classes = [0] * 6  # exchanges that have ended, by the first digit of their status
        self.cells = [0] * (len(BUCKETS) + 1)  # of those without a tunnel, by their duration
        self.seconds = 0.0  # the durations' sum
        self.first_cells = [0] * (len(BUCKETS) + 1)  # by the time to the response's first byte
        self.first_seconds = 0.0
        self.received = 0  # bytes of request bodies
        self.sent = 0  # bytes of response bodies
        self.retries = 0  # requests sent again
        self.dials = 0  # connections begun
        self.dial_failures = 0
        self.changes = 0  # other certificates than before that were accepted, unverified
        self.failures = 0  # dials and requests that came to nothing by the upstream's doing
        self.ejections = 0  # times that it was found ill, and got no more requests

    def time(self, duration: float, first: float) -> None:
        """Count the time that an exchange took, and that until its first byte (0: none came)."""
        cell = bisect_left(BUCKETS, duration)
        self.cells[cell] += 1
        self.seconds += duration
        if first:
            # Most answers come whole: then the two are one.
            self.first_cells[cell if first == duration else bisect_left(BUCKETS, first)] += 1
            self.first_seconds += first

    def counters(self) -> Tree:
        """The counters as a part of a snapshot."""
        return {
            "classes": list(self.classes),
            "cells": list(self.cells),
            "seconds": self.seconds,
            "first_cells": list(self.first_cells),
            "first_seconds": self.first_seconds,
            "received": self.received,
            "sent": self.sent,
            "retries": self.retries,
            "dials": self.dials,
            "dial_failures": self.dial_failures,
            "changes": self.changes,
            "failures": self.failures,
            "ejections": self.ejections,
        }


class PastTallies:
    """The counters of upstreams that are configured no more: no sum may ever go down.

    At most `PAST` upstreams are kept by their names; of more, the oldest count together. Whoever
    comes back goes on with its counters.
    """

    __slots__ = ("_by_name", "_others")

    def __init__(self) -> None:
        self._by_name: dict[str, list[Tally]] = {}  # the oldest first
        self._others: Tree = {}

    def keep(self, name: str, tally: Tally) -> None:
        """The upstream called `name` is configured no more."""
        known = self._by_name.pop(name, [])
        if tally not in known:
            known.append(tally)
        self._by_name[name] = known
        if len(self._by_name) > PAST:
            oldest = self._by_name.pop(next(iter(self._by_name)))
            for one in oldest:
                self._others = add(self._others, one.counters())

    def again(self, name: str) -> Tally | None:
        """The counters of an upstream that comes back; None if nothing is known of it."""
        known = self._by_name.get(name)
        if known is None:
            return None
        tally = known.pop()
        if not known:
            del self._by_name[name]
        return tally

    def counters(self, live: set[Tally]) -> Tree:
        """All of them by name, but for those that are in use."""
        found: Tree = {GONE: self._others} if self._others else {}
        for name, tallies in self._by_name.items():
            for tally in tallies:
                if tally not in live:
                    found = add(found, {name: tally.counters()})
        return found


def add(one: Any, other: Any) -> Any:
    """The sum of two trees, leaf by leaf. What only one of them has is in the sum too.

    The trees may come from different versions of the code, before and after a reload. If their
    shapes differ, the second one counts, which is the newer.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return one | {k: add(one[k], v) if k in one else v for k, v in other.items()}
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [add(a, b) for a, b in zip(one, other, strict=True)]
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one + other
    return other


def total(snapshots: Sequence[Tree], retired: Tree) -> Tree:
    """One tree for all workers. `retired` are the counters of those that are gone."""
    both: Tree = {"counters": retired, "gauges": {}}
    for snapshot in snapshots:
        both = add(both, {name: snapshot[name] for name in ("counters", "gauges")})
    return both


def quantile(q: float, cells: Sequence[float]) -> float:
    """The `q`-quantile in seconds; 0 if nothing was counted.

    Within a cell it grows evenly, as in Prometheus.
    """
    rank = q * sum(cells)
    if not rank:
        return 0.0
    low = 0.0
    for high, count in zip(BUCKETS, cells, strict=False):
        if count and rank <= count:
            return low + (high - low) * rank / count
        rank -= count
        low = high
    return BUCKETS[-1]  # longer than that is all we know
