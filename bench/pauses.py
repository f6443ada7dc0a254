"""The pauses of a rawproxy under load: how long its garbage collector and its sweep took.

The peer `rawproxy-watched` is started so that `watch/sitecustomize.py` runs in it and writes them
down. This module reads what it wrote. It never starts anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

KINDS = ("collector", "sweep")


def file_for(work: Path, port: int) -> Path:
    """Where the proxy at this port writes its pauses; each process of it adds its number."""
    return work / f"pauses-{port}"


def between(file: Path, first: float, last: float) -> dict[str, float]:
    """The pauses that were told between two moments of the monotonic clock.

    Of each kind how many there were, their sum and the longest, in milliseconds. Nothing where the
    proxy writes none.
    """
    lines = [
        line
        for one in sorted(file.parent.glob(f"{file.name}.*"))
        for line in map(json.loads, one.read_text().splitlines())
        if first <= line["at"] <= last
    ]
    if not lines:
        return {}
    found = {"watched_s": round(last - first, 3)}
    for kind in KINDS:
        pauses = [seconds * 1000 for line in lines for seconds in line[kind]]
        found[f"{kind}_pauses"] = len(pauses)
        found[f"{kind}_ms"] = round(sum(pauses), 3)
        found[f"{kind}_longest_ms"] = round(max(pauses, default=0.0), 3)
    return found


def sentence(samples: Iterable[dict[str, Any]], percent: int) -> str:
    """What a row's samples tell of pauses; nothing where there are none."""
    told = [sample["more"] for sample in samples if "sweep_pauses" in sample.get("more", {})]
    if not told:
        return ""
    time = sum(one["watched_s"] for one in told) * 1000
    shares = []
    for kind, name in (("collector", "the garbage collector ran"), ("sweep", "the sweep")):
        times = sum(one[f"{kind}_pauses"] for one in told)
        longest = max(one[f"{kind}_longest_ms"] for one in told)
        share = sum(one[f"{kind}_ms"] for one in told) / time
        shares.append(
            f"{name} {times:.0f} times, {share:.2%} of the time, {longest:.2f} ms at most"
        )
    return f"Pauses at {percent} % of nginx's peak, in {time / 1000:.0f} s: {'; '.join(shares)}."
