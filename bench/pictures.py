"""The pictures of a results file, as SVG that is the same for the same results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from bench.figures import NAMES, SUBJECT, cell, ratio, valid
from bench.rows import DIRECT, ROWS, YARDSTICK

COLOURS = {
    "rawproxy": "#c2410c",
    "nginx": "#166534",
    "nginx-big": "#4d7c0f",
    "haproxy": "#1d4ed8",
    "envoy": "#7e22ce",
    "caddy": "#0e7490",
    "aiohttp": "#a16207",
    "mitmproxy": "#6b7280",
    "rawproxy-plain": "#ea8a5b",
    "rawproxy-h11": "#fb923c",
    DIRECT: "#9ca3af",
}
STYLE = {
    "svg.hashsalt": "rawproxy",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw_all(results: dict[str, Any], folder: Path) -> list[str]:
    """Draw what the results hold; the names of the files written."""
    written = []
    with plt.rc_context(STYLE):
        for name, draw in (
            ("ratios", ratios),
            ("cpu", cpu),
            ("latency", latency),
            ("memory", memory),
        ):
            figure = draw(results["rows"])
            if figure is None:
                continue
            figure.savefig(folder / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
            plt.close(figure)
            written.append(f"{name}.svg")
    return written


def ratios(rows: dict[str, Any]) -> Figure | None:
    """Throughput against nginx, row by row, with the rounds' spread and what is wanted."""
    found = [
        (row["title"], ratio(row, SUBJECT), ROWS[key].wanted)
        for key, row in rows.items()
        if key in ROWS and not ROWS[key].lower_is_better
        if valid(row, SUBJECT) and valid(row, YARDSTICK)
    ]
    bars = [(title, value, wanted) for title, value, wanted in found if value is not None][::-1]
    if not bars:
        return None
    # One wild round must not squeeze the rest: a spread may leave the picture, no bar or goal does.
    right = 1.12 * max(max(value.value, wanted) for _title, value, wanted in bars)
    figure, axes = plt.subplots(figsize=(8.5, 0.27 * len(bars) + 1.2))
    for place, (_title, value, wanted) in enumerate(bars):
        colour = COLOURS[SUBJECT] if value.value >= 1 else "#fdba74"
        axes.barh(place, value.value, color=colour, height=0.7)
        axes.plot([value.low, value.high], [place, place], color="#111827", linewidth=1)
        if wanted:
            axes.plot([wanted, wanted], [place - 0.4, place + 0.4], color="#1d4ed8", linewidth=2)
        weight = "bold" if value.value >= 1 else "normal"
        axes.text(right * 1.02, place, f"{value.value:.2f}", va="center", fontsize=8, weight=weight)
    axes.axvline(1.0, color=COLOURS[YARDSTICK], linewidth=1.2)
    axes.text(1.0, len(bars) - 0.35, "nginx", color=COLOURS[YARDSTICK], ha="center", fontsize=8)
    axes.set_yticks(range(len(bars)), [title for title, _value, _wanted in bars], fontsize=8)
    axes.set_xlabel("rate, rawproxy ÷ nginx (thin line: smallest to largest round; blue: the goal)")
    axes.set_xlim(0, right)
    axes.set_ylim(-0.6, len(bars) - 0.4)
    return figure


def cpu(rows: dict[str, Any]) -> Figure | None:
    """CPU time for each request of the browser mix, plain and TLS, all proxies."""

    def cost(row: dict[str, Any], peer: str) -> float | None:
        one = cell(row, peer)
        return one.cpu_us if one and valid(row, peer) else None

    shown = {key: rows[key] for key in ("mix-plain", "mix-tls") if key in rows}
    shown = {key: row for key, row in shown.items() if valid(row, YARDSTICK)}
    return _plain_and_tls(shown, cost, "CPU µs for each request", 2.6)


def memory(rows: dict[str, Any]) -> Figure | None:
    """KiB for each idle WebSocket."""

    def size(row: dict[str, Any], peer: str) -> float | None:
        one = cell(row, peer)
        return one.rate if one else None

    shown = {key: rows[key] for key in ("idle-ws-plain", "idle-ws-tls") if key in rows}
    shown = {key: row for key, row in shown.items() if row["peers"]}
    return _plain_and_tls(shown, size, "KiB for each idle WebSocket", 2.4)


def _plain_and_tls(
    rows: dict[str, Any],
    figure_of: Callable[[dict[str, Any], str], float | None],
    title: str,
    height: float,
) -> Figure | None:
    """A chart for each row, side by side, with the peers from the largest figure to the least."""
    if not rows:
        return None
    figure, all_axes = plt.subplots(1, len(rows), figsize=(4.4 * len(rows), height), squeeze=False)
    for axes, (key, row) in zip(all_axes[0], rows.items(), strict=True):
        bars = [(value, peer) for peer in row["peers"] if (value := figure_of(row, peer))]
        bars.sort(reverse=True)
        _named_bars(axes, [(peer, value) for value, peer in bars])
        axes.set_title(f"{title}, {'TLS' if key.endswith('tls') else 'plain'}")
    figure.tight_layout()
    return figure


def latency(rows: dict[str, Any]) -> Figure | None:
    """p50 and p99 over the offered load, as a share of nginx's peak."""
    points: dict[str, list[tuple[int, float, float]]] = {}
    for key, row in rows.items():
        if key != "latency" and not key.startswith("latency-"):
            continue
        share = int(ROWS[key].args["percent"]) if key in ROWS else 0
        for peer, samples in row["peers"].items():
            good = [sample for sample in samples if sample.get("p99_ms")]
            if good:
                middle = sorted(good, key=lambda sample: float(sample["p99_ms"]))[len(good) // 2]
                points.setdefault(peer, []).append((share, middle["p50_ms"], middle["p99_ms"]))
    if not points:
        return None
    figure, axes = plt.subplots(figsize=(6.4, 3.4))
    for peer, values in points.items():
        values.sort()
        shares = [share for share, _p50, _p99 in values]
        colour = COLOURS.get(peer, "#000000")
        p99s = [p99 for _share, _p50, p99 in values]
        p50s = [p50 for _share, p50, _p99 in values]
        look = {"color": colour, "marker": "o", "markersize": 4}
        axes.plot(shares, p99s, label=NAMES.get(peer, peer), **look)
        axes.plot(shares, p50s, linestyle=":", **look)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color="#e5e7eb", linewidth=0.8)
    axes.set_xticks(sorted({share for values in points.values() for share, _p50, _p99 in values}))
    axes.set_xlabel("requests offered, % of nginx's peak (solid: p99, dotted: p50)")
    axes.set_ylabel("ms since it was due")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _named_bars(axes: Any, values: list[tuple[str, float]]) -> None:
    """Bars with their values beside them, which makes an axis of numbers superfluous."""
    for place, (peer, value) in enumerate(values):
        axes.barh(place, value, color=COLOURS.get(peer, "#000000"), height=0.7)
        at = {"xytext": (4, 0), "textcoords": "offset points"}
        axes.annotate(f"{value:.3g}", (value, place), **at, va="center", fontsize=8)
    names = [NAMES.get(peer, peer) for peer, _value in values]
    axes.set_yticks(range(len(values)), names)
    for name in axes.get_yticklabels():
        name.set_fontweight("bold" if name.get_text() == NAMES[SUBJECT] else "normal")
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.18)
