"""The last minutes as rows of rates, for charts: what the status page and `rawproxy top` show.

    totals, each `INTERVAL` ──► differences ──► rows (rates and quantiles), the newest last
                            ──► the last `WINDOW` of them, for each upstream

This module never looks at a clock (`now` is an argument), and never asks a worker. Invariants: at
most `LENGTH` rows and `WINDOW` totals are kept. No rate is negative, even if a killed worker has
taken its last second with it.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from rawproxy.telemetry.counters import Tree, add, quantile

INTERVAL = 2.0  # seconds between two rows: a chart that moves, at next to no cost
LENGTH = 150  # rows: five minutes, which a phone's width can show
WINDOW = 5  # totals: rates of an upstream over about ten seconds do not flicker
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class History:
    """The rows, the oldest first."""

    def __init__(self) -> None:
        self.rows: deque[dict[str, float]] = deque(maxlen=LENGTH)
        self._together: Tree = {}  # the last total's upstreams in one
        self._totals: deque[tuple[float, Tree]] = deque(maxlen=WINDOW + 1)

    def add(self, now: float, total: Tree) -> None:
        """Add a total. The first one gives no row."""
        together = _all(total["counters"])
        if self._totals:
            before, last = self._totals[-1]
            if now <= before:
                return
            rates = _Rates(now - before, self._together)
            self.rows.append(_row(rates, _Rates(now - before, last["counters"]), together, total))
        self._together = together
        self._totals.append((now, total))

    def series(self) -> dict[str, list[float]]:
        """The rows as columns."""
        names = list(self.rows[-1]) if self.rows else []
        return {name: [row[name] for row in self.rows] for name in names}

    def upstreams(self) -> list[dict[str, Any]]:
        """What each upstream did in the last seconds, and its state now."""
        if not self._totals:
            return []
        (then, first), (now, last) = self._totals[0], self._totals[-1]
        states = last["gauges"].get("upstreams", {})
        counts = last["counters"].get("upstreams", {})
        before = first["counters"].get("upstreams", {})
        return [
            _upstream(name, state, counts.get(name, {}), _Rates(now - then, before.get(name, {})))
            for name, state in states.items()
        ]


class _Rates:
    """Differences to an earlier tree of counters, divided by the seconds between."""

    def __init__(self, seconds: float, before: Tree) -> None:
        self.seconds = seconds
        self.before = before

    def rate(self, name: str, tree: Tree) -> float:
        grown = tree.get(name, 0) - self.before.get(name, 0)
        return max(grown / self.seconds, 0.0) if self.seconds else 0.0

    def cells(self, name: str, tree: Tree) -> list[float]:
        now = tree.get(name, [])
        before = self.before.get(name) or [0] * len(now)
        return [max(a - b, 0) for a, b in zip(now, before, strict=False)]

    def classes(self, tree: Tree) -> tuple[float, float, float]:
        """Exchanges each second: all of them, those with a 4xx, those with a 5xx."""
        grown = self.cells("classes", tree)
        if not self.seconds or not grown:
            return 0.0, 0.0, 0.0
        return sum(grown) / self.seconds, grown[4] / self.seconds, grown[5] / self.seconds


def _all(counters: Tree) -> Tree:
    """The counters of all upstreams, summed."""
    together: Tree = {}
    for one in counters.get("upstreams", {}).values():
        together = add(together, one)
    return together


def _row(rates: _Rates, ours: _Rates, together: Tree, total: Tree) -> dict[str, float]:
    counters, gauges = total["counters"], total["gauges"]
    requests, refused, failed = rates.classes(together)
    cells = rates.cells("cells", together)
    states = gauges.get("upstreams", {}).values()
    return {
        "requests": requests,
        "errors4": refused,
        "errors5": failed,
        **{name: quantile(q, cells) for name, q in QUANTILES.items()},
        "in": rates.rate("received", together) + ours.rate("tunnel_in", counters),
        "out": rates.rate("sent", together) + ours.rate("tunnel_out", counters),
        "cpu": ours.rate("cpu", counters),
        "busy": sum(state["busy"] for state in states),
        "idle": sum(state["idle"] for state in states),
        "waiting": sum(state["waiting"] for state in states),
        "tunnels": gauges.get("tunnels", 0),
        "connections": gauges.get("connections", 0),
    }


def _upstream(name: str, state: Tree, counters: Tree, rates: _Rates) -> dict[str, Any]:
    requests, refused, failed = rates.classes(counters)
    cells = rates.cells("cells", counters)
    return {
        "name": name,
        **state,
        "requests": requests,
        "errors4": refused,
        "errors5": failed,
        **{label: quantile(q, cells) for label, q in QUANTILES.items()},
        **{
            kind: counters.get(kind, 0)
            for kind in ("retries", "dials", "dial_failures", "ejections", "changes")
        },
    }
