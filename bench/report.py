"""Makes tables, pictures, docs/performance.md and the README's block of a results file.

Pure but for `update` and `write_all`: the same results give the same bytes. `figures` says what a
figure means.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from bench import pauses
from bench.figures import NAMES, SUBJECT, cell, ratio, valid
from bench.rows import DIRECT, ROWS, YARDSTICK

MARKS = "<!-- {}:begin -->", "<!-- {}:end -->"
# What the README has room for: some of what we lose, some of what we win.
README_ROWS = ("mix-tls", "get-16k-tls", "h2-10", "page-64", "idle-ws-tls")
PICTURES = (
    ("ratios", "Ratios to nginx, row by row"),
    ("cpu", "CPU time for each request, browser mix"),
    ("latency", "Latency under rising load"),
    ("memory", "Memory of an idle WebSocket"),
)
NONE = "\u2013"  # an en dash: no figure
OTHERS = (
    "haproxy",
    "envoy",
    "caddy",
    "nginx-big",
    "aiohttp",
    "mitmproxy",
    "rawproxy-plain",
    "rawproxy-h11",
    "rawproxy-before",
)


def number(value: float) -> str:
    """About three digits: 31,200 · 892 · 17.8."""
    if value >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _rate(row: dict[str, Any], peer: str) -> str:
    found = cell(row, peer)
    if found is None:
        return NONE
    if found.errors:
        return f"*invalid: {found.errors} errors*"
    spread = (found.high - found.low) / 2 / found.rate if found.rate else 0.0
    text = number(found.rate)
    if found.high > found.low:
        text += f" ± {spread:.0%}"
    return text + " ᴸ" * found.load_limited + " ᴰ" * found.disturbed


def _versus(row: dict[str, Any], peer: str, key: str = "rate") -> str:
    if not valid(row, peer) or not valid(row, YARDSTICK):
        return NONE
    found = ratio(row, peer, key)
    return f"{found.value:.2f}" if found else NONE


def _verdict(row_id: str, row: dict[str, Any]) -> str:
    """How the row compares with the ratio that is wanted of it."""
    spec = ROWS.get(row_id)
    if spec is None or not spec.wanted:
        return NONE
    found = ratio(row, SUBJECT, "rate" if spec.lower_is_better else "cpu_us")
    if found is None or not valid(row, SUBJECT) or not valid(row, YARDSTICK):
        return NONE
    met = (
        found.value <= spec.wanted if spec.lower_is_better else round(found.value, 2) >= spec.wanted
    )
    return f"{spec.wanted:g}{' ✓' if met else ''}"


def table(results: dict[str, Any], *, brief: bool = False) -> str:
    """The markdown table. `brief` leaves out the columns that only the full table has."""
    rows = {
        key: row
        for key, row in results["rows"].items()
        if row["peers"] and not (key in ROWS and (ROWS[key].aside or (brief and ROWS[key].curve)))
    }
    present = [p for p in OTHERS if any(p in row["peers"] for row in rows.values())]
    head = ["row", "nginx", "rawproxy", "unit", "ratio", "by CPU time"]
    head += [] if brief else ["rounds", "wanted", "CPU µs nginx", "CPU µs rawproxy"]
    head += [NAMES[peer] for peer in present] + ([] if brief else [NAMES[DIRECT]])
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    for key, row in rows.items():
        found = ratio(row, SUBJECT) if valid(row, SUBJECT) and valid(row, YARDSTICK) else None
        cells = [row["title"], _rate(row, YARDSTICK), _rate(row, SUBJECT), row["unit"]]
        cells += [f"**{found.value:.2f}**" if found else NONE, _versus(row, SUBJECT, "cpu_us")]
        if not brief:
            cells.append(f"{found.low:.2f} to {found.high:.2f}" if found else NONE)
            cells.append(_verdict(key, row))
            for peer in (YARDSTICK, SUBJECT):
                one = cell(row, peer)
                cells.append(number(one.cpu_us) if one and one.cpu_us else NONE)
        cells += [_versus(row, peer) for peer in present]
        cells += [] if brief else [_rate(row, DIRECT)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *_notes(rows), *_asides(results["rows"])])


def _notes(rows: dict[str, dict[str, Any]]) -> Iterable[str]:
    yield (
        "Ratios are ÷ nginx, the median over interleaved rounds: of the rate, and of the proxy's "
        "own CPU time for each request (more is better in both; where the unit is ms or KiB, "
        "less is better). What is wanted (✓: reached) is the latter where there is one. The other "
        "proxies' columns are ratios of the rate."
    )
    if any(
        (one := cell(row, peer)) and one.load_limited for row in rows.values() for peer in NAMES
    ):
        yield (
            "\nᴸ: the load generator and the origin were at their limit before the proxy was: "
            "go by CPU time."
        )
    if any((one := cell(row, peer)) and one.disturbed for row in rows.values() for peer in NAMES):
        yield (
            "\nᴰ: disturbed: in most rounds neither core was busy with this, so other work had "
            "them. Take it again on a quiet machine."
        )
    left_out = [
        f"{NAMES.get(peer, peer)} in `{key}`: {why[:120]}"
        for key, row in rows.items()
        for peer, why in row["skipped"].items()
        if why != "not installed"
    ]
    if left_out:
        yield "\nLeft out: " + "; ".join(left_out) + "."


def _cpu_gap(row: dict[str, Any], peer: str, other: str) -> float | None:
    """How many CPU µs more a request costs `peer` than `other`: the median over rounds."""
    gaps = [
        one["cpu_us"] - two["cpu_us"]
        for one, two in zip(row["peers"].get(peer, []), row["peers"].get(other, []), strict=False)
        if "cpu_us" in one and "cpu_us" in two
    ]
    return median(gaps) if gaps else None


def _asides(rows: dict[str, dict[str, Any]]) -> Iterable[str]:
    """What a sentence tells better than a row: the cost of log and metrics, and a second worker."""
    eyes = rows.get("eyes-plain", {"peers": {}})
    bare = cell(eyes, "rawproxy-bare")
    costs = [
        f"{name} {gap:+.1f} µs ({gap / bare.cpu_us:+.0%})"
        for peer, name in (
            ("rawproxy-log", "the combined access log"),
            ("rawproxy-admin", "metrics"),
            ("rawproxy-both", "both"),
            (SUBJECT, "metrics and a JSON access log"),
        )
        if bare and bare.cpu_us and (gap := _cpu_gap(eyes, peer, "rawproxy-bare")) is not None
    ]
    if costs and bare:
        yield (
            f"\nEyes, in rawproxy's CPU time for each small GET ({number(bare.cpu_us)} µs without "
            f"any): {', '.join(costs)}."
        )
    yield from _guard(rows.get("guarded-plain", {"peers": {}}))
    yield from _pauses(rows)
    workers = rows.get("workers-plain", {"peers": {}})
    told = []
    for one, two in ((SUBJECT, "rawproxy-2w"), (YARDSTICK, "nginx-2w")):
        first, second = cell(workers, one), cell(workers, two)
        if first and second and first.cpu_us and second.cpu_us and first.rate:
            told.append(
                f"{NAMES[one]} serves {second.rate / first.rate:.2f} times as much, at "
                f"{second.cpu_us / first.cpu_us:.2f} times the CPU time for each request"
            )
    if told:
        yield (
            "\nTwo workers against one, small GET, on two cores that they share with load and "
            f"origin, so that twice as much is out of reach: {'; '.join(told)}. Twice as much, "
            "divided by the second figure, is what a machine with cores to spare would give."
        )


def _guard(row: dict[str, Any]) -> Iterable[str]:
    """What it costs each of them to ask a guard."""
    costs = [
        f"{NAMES[peer]} {gap:+.1f} µs ({gap / bare.cpu_us:+.0%})"
        for peer in (SUBJECT, YARDSTICK, "caddy")
        if (bare := cell(row, f"{peer}-open"))
        and bare.cpu_us
        and (gap := _cpu_gap(row, peer, f"{peer}-open")) is not None
    ]
    if costs:
        yield f"\nTo ask a guard about a small GET costs, in CPU time: {', '.join(costs)}."


def _pauses(rows: dict[str, dict[str, Any]]) -> Iterable[str]:
    """How long the garbage collector and the sweep stopped everything else."""
    for key, row in rows.items():
        spec = ROWS.get(key)
        if spec is not None and (samples := row["peers"].get("rawproxy-watched")):
            told = pauses.sentence(samples, int(spec.args["percent"]))
            yield f"\n{told}" if told else ""


def build(results: dict[str, Any]) -> str:
    """How the Python that ran rawproxy was compiled."""
    facts = results["machine"].get("build")
    if not facts:
        return ""
    pgo = {True: "PGO", False: "no PGO", None: "PGO not stated"}[facts["pgo"]]
    lto = {True: "LTO", False: "no LTO", None: "LTO not stated"}[facts["lto"]]
    return f" ({facts['origin']}; {facts['compiler']}, {facts['optimisation']}, {pgo}, {lto})"


def heading(results: dict[str, Any]) -> str:
    """When the results were taken, on which machine, with which versions."""
    facts = results["machine"]
    seen: dict[str, str] = {}  # a peer in several shapes is named once
    for name, text in results["peers"].items():
        seen.setdefault(NAMES[name.split("-")[0]], text)
    told = "".join(f"{NAMES[name]}: {how}.\n" for name, how in results.get("builds", {}).items())
    versions = ", ".join(f"{name} {text}" for name, text in seen.items())
    return (
        f"{results['taken']}; {facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB, "
        f"Linux {facts['kernel']}, {facts['system']}; Python {facts['python']}"
        f"{build(results)}, {facts['openssl']}.\n{versions}.\n{told}"
        f"{results['rounds']} interleaved rounds; each proxy has one worker on one core, the load "
        "and the origin have the other."
    )


def page_block(results: dict[str, Any], folder: str = "../bench/results") -> str:
    """The text between the marks of docs/performance.md: all rows and all pictures."""
    pictures = "\n".join(f"![{title}]({folder}/{name}.svg)" for name, title in PICTURES)
    return f"{heading(results)}\n\n{table(results, brief=True)}\n\n{pictures}\n"


def readme_block(results: dict[str, Any], folder: str = "bench/results") -> str:
    """The text between the README's marks: five rows and one picture."""
    lines = [
        "| | nginx | rawproxy | unit | rawproxy ÷ nginx | by CPU time |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for key in README_ROWS:
        row = results["rows"].get(key)
        if row is not None and row["peers"]:
            cells = [row["title"], _rate(row, YARDSTICK), _rate(row, SUBJECT), row["unit"]]
            cells += [f"**{_versus(row, SUBJECT)}**", _versus(row, SUBJECT, "cpu_us")]
            lines.append("| " + " | ".join(cells) + " |")
    name, title = PICTURES[0]
    facts = results["machine"]
    how = results.get("builds", {}).get(SUBJECT, "")
    told = (
        f"{results['taken']}; {facts['cpu']}, {facts['system']}; nginx "
        f"{results['peers'].get(YARDSTICK, '')}; rawproxy {how}. Of req/s more is better, of KiB "
        "less."
    )
    return f"{told}\n\n" + "\n".join(lines) + f"\n\n![{title}]({folder}/{name}.svg)\n"


def update(page: Path, block: str, name: str = "bench") -> bool:
    """Rewrite the text between the marks of that name; False if the page has none."""
    begin, end = (mark.format(name) for mark in MARKS)
    text = page.read_text()
    start, stop = text.find(begin), text.find(end)
    if start < 0 or stop < start:
        return False
    page.write_text(f"{text[:start]}{begin}\n{block}{text[stop:]}")
    return True


def write_all(source: Path, top: Path | None = None) -> list[str]:
    """Table and pictures beside the results file; the blocks of the pages below `top`.

    Pages tell of `bench/results` alone: of results elsewhere only if `top` is given.
    """
    results = json.loads(source.read_text())
    folder = source.parent
    (folder / "TABLE.md").write_text(f"# Bench results\n\n{heading(results)}\n\n{table(results)}\n")
    said = ["TABLE.md"]
    from bench import pictures  # matplotlib comes with the extra `bench` alone

    said += pictures.draw_all(results, folder)
    if top is None:
        top = Path(__file__).parent.parent
        if folder.resolve() != (top / "bench" / "results").resolve():
            return [f"wrote {name}" for name in said]
    for name, block in (("README.md", readme_block), ("docs/performance.md", page_block)):
        if (top / name).exists() and update(top / name, block(results)):
            said.append(name)
    return [f"wrote {name}" for name in said]
