"""What a results file says of one peer in one row: its rate, its CPU time, its ratio to nginx.

A ratio is taken in each round, since its two halves are close together in time. The median of the
rounds is the value; the smallest and the largest round are its spread. `report` makes tables of
these figures, `pictures` draws them, and `check` compares them with a baseline.

Pure: it reads no file and starts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.rows import DIRECT, YARDSTICK

SUBJECT = "rawproxy"
LOAD_FULL = 0.9  # load and origin had no more to give ...
PROXY_FREE = 0.9  # ... while the proxy still had: the rate is theirs, its CPU time tells
IDLE_CORES = 0.8  # neither core got this much of its time: something else had it
SATURATING = (
    "requests",
    "wrk",
    "h2load",
    "websocket",
)  # measures that keep one core or the other full
NAMES = {
    "nginx": "nginx",
    "nginx-big": "nginx, big buffers",
    "haproxy": "HAProxy",
    "envoy": "Envoy",
    "caddy": "Caddy",
    "aiohttp": "aiohttp",
    "mitmproxy": "mitmproxy",
    "rawproxy": "rawproxy",
    "rawproxy-plain": "rawproxy, plain",
    "rawproxy-h11": "rawproxy --parser h11",
    "rawproxy-before": "rawproxy, the other build",
    "rawproxy-bare": "rawproxy without either",
    "rawproxy-log": "rawproxy, access log",
    "rawproxy-admin": "rawproxy, metrics",
    "rawproxy-both": "rawproxy, access log and metrics",
    "rawproxy-2w": "rawproxy, two workers",
    "rawproxy-watched": "rawproxy, its pauses noted",
    "nginx-2w": "nginx, two workers",
    DIRECT: "no proxy",
}


@dataclass(frozen=True)
class Cell:
    """The figures of one peer in one row, over all rounds."""

    rate: float
    low: float
    high: float
    cpu_us: float | None
    peak_mib: float | None
    errors: int
    load_limited: bool
    disturbed: bool


@dataclass(frozen=True)
class Ratio:
    """A peer compared with the yardstick: the median, the smallest and the largest round."""

    value: float
    low: float
    high: float


def cell(row: dict[str, Any], peer: str) -> Cell | None:
    """The peer's figures in the row; None if it did not take part."""
    samples = row["peers"].get(peer)
    if not samples:
        return None
    rates = [sample["rate"] for sample in samples]
    cpu = [sample["cpu_us"] for sample in samples if "cpu_us" in sample]
    peaks = [sample["peak_kib"] for sample in samples if "peak_kib" in sample]
    limited = [
        sample.get("load_busy", 0) >= LOAD_FULL and sample.get("busy", 1) < PROXY_FREE
        for sample in samples
    ]
    starved = [
        max(sample.get("load_busy", 1), sample.get("busy", 0)) < IDLE_CORES
        for sample in samples
        if row.get("measure") in SATURATING
    ]
    return Cell(
        median(rates),
        min(rates),
        max(rates),
        median(cpu) if cpu else None,
        max(peaks) / 1024 if peaks else None,
        sum(sample.get("errors", 0) for sample in samples),
        sum(limited) * 2 > len(limited),
        sum(starved) * 2 > len(starved),
    )


def ratio(row: dict[str, Any], peer: str, key: str = "rate") -> Ratio | None:
    """The peer ÷ yardstick by `rate`; by `cpu_us` the yardstick ÷ peer, so more is better."""
    mine, yard = row["peers"].get(peer, []), row["peers"].get(YARDSTICK, [])
    found = []
    for one, other in zip(mine, yard, strict=False):
        above, below = one.get(key), other.get(key)
        if key == "cpu_us":
            above, below = below, above
        if above and below:
            found.append(above / below)
    return Ratio(median(found), min(found), max(found)) if found else None


def valid(row: dict[str, Any], peer: str) -> bool:
    """Whether the peer was measured in the row, without an error in any round."""
    found = cell(row, peer)
    return found is not None and not found.errors
