"""The guard against losses: a run's ratios against the committed baseline.

A row is judged by its CPU time, which hardly depends on what else the machine does. A row without
CPU times is judged by its rate. A rate that fell by half is a loss in any case: then something
waits. Both sides are medians of ratios to nginx, taken in the same rounds, so a slower machine is
no loss.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.figures import SUBJECT, ratio, valid
from bench.rows import ROWS, YARDSTICK

TOLERANCE = 0.15
RATE_TOLERANCE = 0.5  # of the rate of a row whose CPU time was counted: other work moves it freely


def ratios_of(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """What a baseline keeps of a run: rate and CPU ratio of each valid row; more is better."""
    kept = {}
    for key, row in results["rows"].items():
        if not valid(row, SUBJECT) or not valid(row, YARDSTICK):
            continue
        entry = {}
        rate, cpu = ratio(row, SUBJECT), ratio(row, SUBJECT, "cpu_us")
        if rate and key in ROWS:
            better = 1 / rate.value if ROWS[key].lower_is_better else rate.value
            entry["rate"] = round(better, 3)
        # At a fixed rate or at rest CPU time is another question than the row's.
        if cpu and key in ROWS and not ROWS[key].lower_is_better:
            entry["cpu"] = round(cpu.value, 3)
        if entry and not key.startswith("latency-"):
            kept[key] = entry
    return kept


def compare(now: dict[str, float], then: dict[str, float]) -> str | None:
    """Why this row is a loss; None if it is not."""
    if "cpu" in now and "cpu" in then:
        if now["cpu"] < then["cpu"] * (1 - TOLERANCE):
            return f"CPU time {now['cpu'] / then['cpu'] - 1:+.0%}"
        if now["rate"] < then["rate"] * (1 - RATE_TOLERANCE):
            return f"rate {now['rate'] / then['rate'] - 1:+.0%}"
        return None
    if now["rate"] < then["rate"] * (1 - TOLERANCE):
        return f"{now['rate'] / then['rate'] - 1:+.0%}"
    return None


def judge(results_path: Path, baseline_path: Path, accept: bool = False) -> int:
    """Print each row and return the exit code: 1 for a loss or an invalid row."""
    results = json.loads(results_path.read_text())
    current = ratios_of(results)
    if accept:
        kept = json.loads(baseline_path.read_text())["rows"] if baseline_path.exists() else {}
        entry = {"taken": results["taken"], "rows": kept | current}
        baseline_path.parent.mkdir(parents=True, exist_ok=True)
        baseline_path.write_text(json.dumps(entry, indent=1) + "\n")
        print(f"{len(current)} rows are now the baseline")
        return 0
    if not baseline_path.exists():
        print("there is no baseline yet: `python -m bench check --results FILE --accept` makes one")
        return 1
    baseline = json.loads(baseline_path.read_text())["rows"]
    failed = 0
    for key in results["rows"]:
        if key not in baseline:
            continue
        if key not in current:
            failed += 1
            print(f"{key:<20} FAILED: no valid figure in this run")
            continue
        now, then = current[key], baseline[key]
        loss = compare(now, then)
        failed += loss is not None
        text = ", ".join(f"{name} {now[name]:.2f} (was {then[name]:.2f})" for name in now)
        print(f"{key:<20} {text}{'  FAILED: ' + loss if loss else ''}")
    print(f"{failed} of {len(results['rows'])} rows lost more than {TOLERANCE:.0%}")
    return 1 if failed else 0
