"""What `rawproxy top` shows, and how it writes numbers.

    frame   a /status.json and the size of the terminal ──► lines

This module never asks for a status and never prints. Invariants: no line is wider than the
terminal, not counting escape sequences, and there are no more lines than rows. The name of an
upstream reaches the terminal without control characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

BLOCKS = "▁▂▃▄▅▆▇█"
NARROW = 40  # columns; a terminal that has fewer wraps
_STYLES = {"bold": "1", "dim": "2", "good": "32", "bad": "1;31", "warn": "33", "title": "1;36"}
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
Status = dict[str, Any]
Paint = Callable[[str, str], str]
Form = Callable[[float], str]


def frame(status: Status, columns: int, rows: int, colour: bool) -> list[str]:
    """The lines of the screen."""
    paint = _painter(colour)
    wide = max(columns, NARROW)
    lines = [_header(status, wide, paint), ""]
    lines += _charts(status["series"], wide, paint)
    lines += _access(status.get("counters", {}).get("access"), wide)
    lines += ["", paint("dim", _row(_UPSTREAM_HEAD, wide))]
    upstreams = status["upstreams"]
    workers = status["workers"]
    room = max(rows - len(lines) - min(len(workers), 4) - 3, 1)
    lines += [_upstream(one, wide, paint) for one in upstreams[:room]]
    if len(upstreams) > room:
        lines.append(paint("dim", f"  and {len(upstreams) - room} more: make the window taller"))
    lines += ["", paint("dim", _row(_WORKER_HEAD, wide))]
    lines += [_worker(one, wide, paint) for one in workers[: max(rows - len(lines), 1)]]
    return lines[: max(rows, 1)]


def _painter(colour: bool) -> Paint:
    def paint(style: str, text: str) -> str:
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if colour else text

    return paint


def _header(status: Status, wide: int, paint: Paint) -> str:
    gauges = status["gauges"]
    why = plain(status["unready"])
    state = paint("bad", why) if why else paint("good", "ready")
    draining = f", {gauges['draining']} draining" if gauges.get("draining") else ""
    workers = gauges.get("workers", 0)
    up = span(status["now"] - status["began"])
    rest = f"{workers} worker{'s' * (workers != 1)}{draining}, up {up}"
    left = f"rawproxy {status['version']}  {why or 'ready'}  "
    if len(left) + len(rest) > wide:
        rest = rest[: max(wide - len(left), 0)]
    return f"{paint('title', 'rawproxy')} {status['version']}  {state}  {paint('dim', rest)}"


def _charts(series: dict[str, list[float]], wide: int, paint: Paint) -> list[str]:
    """A line for each figure: its name, the last minutes as bars, its value now, and more."""

    def last(name: str, form: Form) -> str:
        column = series.get(name, [])
        return form(column[-1] if column else 0.0)

    figures: tuple[tuple[str, str, Form, str], ...] = (
        ("requests", "Requests/s", count, f"5xx {last('errors5', count)}/s"),
        ("p50", "Latency, median", seconds, f"99 % {last('p99', seconds)}"),
        ("p95", "Latency, 95 %", seconds, ""),
        ("busy", "Upstream busy", count, f"idle {last('idle', count)}"),
        ("waiting", "Requests waiting", count, ""),
        ("tunnels", "WebSockets", count, ""),
        ("connections", "Connections", count, ""),
        ("out", "Bytes out/s", size_of, f"in {last('in', size_of)}"),
        ("cpu", "Cores in use", share, ""),
    )
    lines = []
    for name, label, form, beside in figures:
        bars = sparkline(series.get(name, []), max(wide - 44, 8))
        shown = paint("bold", f"{last(name, form):>8}")
        lines.append(_cut(f"{label:<17}{paint('title', bars)} {shown}  {beside}".rstrip(), wide))
    return lines


def _access(counts: dict[str, Any] | None, wide: int) -> list[str]:
    """How many requests were allowed, and what refused the others; nothing if no route asks."""
    if counts is None:
        return []
    refused = [
        f"{name} {count(n)}" for name, n in counts["results"].items() if name != "passed" and n
    ]
    why = f"refused: {', '.join(refused)}" if refused else "nobody refused"
    return [_cut(f"{'Let pass':<17}{count(counts['results']['passed'])}, {why}", wide)]


_UPSTREAM_HEAD = ("Upstream", "health", "req/s", "5xx", "p50", "p95", "busy", "idle", "wait")
_WORKER_HEAD = ("Worker", "state", "requests", "conns", "memory", "cpu", "late", "", "")
_WIDTHS = (6, 8, 6, 7, 7, 6, 5, 4)


def _row(cells: Sequence[str], wide: int) -> str:
    name = max(wide - sum(_WIDTHS) - len(_WIDTHS), 12)
    # The end of a name tells more than its beginning, which is https:// for all of them.
    first = cells[0] if len(cells[0]) <= name else "…" + cells[0][1 - name :]
    rest = "".join(f" {cell:>{width}}" for cell, width in zip(cells[1:], _WIDTHS, strict=True))
    return f"{first:<{name}}{rest}"[:wide].rstrip()


def _upstream(one: dict[str, Any], wide: int, paint: Paint) -> str:
    well = one["up"] == one["views"]
    health = "ok" if well else "down" if not one["up"] else f"{one['up']}/{one['views']}"
    failing = share(one["errors5"] / one["requests"]) if one["requests"] else "-"
    line = _row((
        plain(one["name"]), health, count(one["requests"]), failing, seconds(one["p50"]),
        seconds(one["p95"]), count(one["busy"]), count(one["idle"]), count(one["waiting"]),
    ), wide)  # fmt: skip
    return line if well and not one["errors5"] else paint("warn" if well else "bad", line)


def _worker(one: dict[str, Any], wide: int, paint: Paint) -> str:
    line = _row((
        str(one["pid"]), "drains" if one["draining"] else "serves", count(one["requests"]),
        count(one["connections"]), size_of(one["memory"]), span(one["cpu"]), seconds(one["lag"]),
        "", "",
    ), wide)  # fmt: skip
    return paint("warn", line) if one["draining"] else line


def _cut(line: str, wide: int) -> str:
    """The line, cut to `wide` visible characters. A line that is cut ends in plain text."""
    return line[: wide + len(line) - len(_ANSI.sub("", line))]


def plain(text: str) -> str:
    """The text without control characters."""
    return "".join(c if c.isprintable() else "?" for c in text)


def sparkline(values: Sequence[float], width: int) -> str:
    """The last `width` values as bars, from zero to the largest value. Zero is a blank."""
    shown = list(values[-width:])
    most = max(shown, default=0.0)
    bars = "".join(
        BLOCKS[min(int(value / most * len(BLOCKS)), len(BLOCKS) - 1)] if value > 0 else " "
        for value in shown
    )
    return bars.rjust(width)


# ── numbers as people read them ─────────────────────────────────────────────────────────────────


def count(value: float) -> str:
    """A number of things: 1,234 or 12.3k."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.1f}{unit}"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def seconds(value: float) -> str:
    """A latency: 2.5ms, 120ms or 1.2s."""
    if not value:
        return "-"
    if value < 1:
        return f"{value * 1000:.{1 if value < 0.01 else 0}f}ms"
    return f"{value:.1f}s"


def size_of(value: float) -> str:
    """A number of bytes: 512B, 1.5KiB, 20MiB."""
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.{0 if unit == 'B' or value >= 10 else 1}f}{unit}"
        value /= 1024
    return f"{value:.1f}GiB"


def share(value: float) -> str:
    """A fraction in per cent."""
    return f"{value * 100:.{1 if 0 < value < 0.1 else 0}f}%"


def span(value: float) -> str:
    """A length of time in its two largest units: 3d4h, 12m5s."""
    minutes, hours, days = int(value // 60), int(value // 3600), int(value // 86400)
    if days:
        return f"{days}d{hours % 24}h"
    if hours:
        return f"{hours}h{minutes % 60}m"
    return f"{minutes}m{int(value % 60)}s" if minutes else f"{int(value)}s"
