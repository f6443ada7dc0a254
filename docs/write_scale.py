"""Writes the figures of docs/scale.md from bench/results/latest.json: `make docs`.

What is reckoned is said in the page: the measured CPU time of a request, times the requests, times
what a second worker adds, over the load that a core is to have. A test holds the page current.
"""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE / "scale.md"
RESULTS = HERE.parent / "bench" / "results" / "latest.json"
BEGIN, END = "<!-- scale:begin -->", "<!-- scale:end -->"
LOAD = 0.6  # of a core: what is left is for peaks, handshakes, and for a machine that has gone
CORES = 16  # of the machine that is reckoned with
RATES = (10_000, 1_000_000, 100_000_000)
ROWS = {
    "mix-tls": "small GET of browsers, HTTP/1.1 over TLS",
    "h2-10": "small GET, HTTP/2",
    "get-16k-tls": "16 KiB response over TLS",
}
KIB = 16
GIB = 1 << 20  # KiB


def median(results: dict[str, Any], row: str, what: str, peer: str = "rawproxy") -> float:
    """Of the rounds of a row."""
    rounds = results["rows"][row]["peers"][peer]
    return statistics.median(one[what] for one in rounds)


def cores(rate: float, cpu_us: float, more: float) -> int:
    """Cores for so many requests a second."""
    return math.ceil(rate * cpu_us * more / 1e6 / LOAD)


def machines(wanted: int) -> str:
    """Machines for so many cores, and one more that may be missing."""
    return f"{math.ceil(wanted / CORES) + 1:,}"


def figures(results: dict[str, Any]) -> str:
    """What stands between the marks."""
    second = median(results, "workers-plain", "cpu_us", "rawproxy-2w")
    second /= median(results, "workers-plain", "cpu_us")
    eyes = median(results, "eyes-plain", "cpu_us", "rawproxy-both")
    eyes /= median(results, "eyes-plain", "cpu_us", "rawproxy-bare")
    more = second * eyes
    head = " | ".join(f"{rate:,} req/s" for rate in RATES)
    lines = [
        f"Measured {results['taken']} on {results['machine']['cpu']},"
        f" {results['builds']['rawproxy']}. Several workers cost {second:.2f} times the"
        " CPU time of one for each request, access log"
        f" and metrics {eyes:.2f} times that; a core is planned to {LOAD:.0%}. In each cell: cores,"
        f" and machines of {CORES} cores with one to spare.",
        "",
        f"| | a core serves | CPU time | {head} |",
        "|---|--:|--:|" + "--:|" * len(RATES),
    ]
    for row, title in ROWS.items():
        cpu_us = median(results, row, "cpu_us")
        cells = []
        for rate in RATES:
            wanted = cores(rate, cpu_us, more)
            cells.append(f"{wanted:,} ({machines(wanted)})")
        rate = median(results, row, "rate")
        lines.append(f"| {title} | {rate:,.0f} req/s | {cpu_us:.1f} µs | {' | '.join(cells)} |")
    full = median(results, "handshake-full", "rate")
    again = median(results, "handshake-resumed", "rate")
    plain, tls = (median(results, f"idle-ws-{kind}", "rate") for kind in ("plain", "tls"))
    gbit = [rate * KIB * 1024 * 8 / 1e9 for rate in RATES]
    lines += [
        "",
        "| what else | measured | for |",
        "|---|--:|---|",
        f"| TLS handshakes of a core, full | {full:,.0f} a second | a million new clients a second:"
        f" {cores(1e6, 1e6 / full, 1.0):,} cores |",
        f"| resumed | {again:,.0f} a second | the same: {cores(1e6, 1e6 / again, 1.0):,} cores |",
        f"| an idle WebSocket over TLS | {tls:.1f} KiB | a million:"
        f" {math.ceil(1e6 * tls / GIB)} GiB, on all machines together |",
        f"| an idle WebSocket, plain | {plain:.2f} KiB | a million:"
        f" {math.ceil(1e6 * plain / GIB)} GiB |",
        f"| the network, for {KIB} KiB responses | |"
        f" {', '.join(f'{one:,.1f}' for one in gbit)} Gbit/s in each direction that they pass |",
    ]
    return "\n".join(lines)


def page(text: str) -> str:
    """The page, with the figures of now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{figures(json.loads(RESULTS.read_text()))}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
