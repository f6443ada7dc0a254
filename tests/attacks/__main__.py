"""`python -m tests.attacks [NAME ...]`: mount the attacks, print a table, write tests/ATTACKS.md.

With names only those are mounted, and the rows of the others stay as they are. So do the rows of
proxies that are not installed.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import threading
import time
from typing import Any

from .bystander import Met
from .mounts import Attack, load
from .stage import NAMES, Target, descriptors, running, versions

FIGURES = pathlib.Path(__file__).with_name("figures.json")
TABLE = pathlib.Path(__file__).parents[1] / "ATTACKS.md"
WARM = 0.5  # seconds of the bystander alone


def measure(one: Attack | None, target: Target, seconds: float) -> dict[str, Any]:
    """Mount `one`, or nothing, for so long; what a bystander met, and what it cost."""
    command = [sys.executable, "-m", "tests.attacks.bystander", str(target.plain)]
    pipe = subprocess.PIPE
    before = most = target.rss()
    cpu = target.cpu()
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as bystander:
        time.sleep(WARM)
        end = time.monotonic() + seconds
        thread = threading.Thread(target=one.mount, args=(target, end)) if one else None
        if thread is not None:
            thread.start()
        while time.monotonic() < end or (thread is not None and thread.is_alive()):
            most = max(most, target.rss())
            time.sleep(0.05)
        out, _ = bystander.communicate()
    met = Met(*json.loads(out))
    return met._asdict() | {"grown": (most - before) / 1e6, "cpu": target.cpu() - cpu}


def render(figures: dict[str, Any]) -> str:
    """The table as people read it."""
    lines = [
        "# Attacks by one client, and what others notice\n",
        "`python -m tests.attacks` writes this. Each attack is mounted against each proxy, with the",
        "configurations in [attacks/configs](attacks/configs); a bystander in a process of its own",
        "asks a small thing every five milliseconds. Attacker, bystander, upstream and proxy share",
        "one machine of two cores, and other work with them: hold the figures against the rows",
        "without an attack. What a proxy answers itself is a redirect, and for rawproxy a 421 (both",
        "are as cheap, and so the bystander asks the same process). `refused`: answers other than 200, and cut connections. `grown`: the",
        "proxy's resident memory at the worst moment.\n",
        "; ".join(f"{name} {text}".strip() for name, text in figures["versions"].items()) + ".\n",
    ]
    for name, rows in figures["attacks"].items():
        lines += [
            f"## {name}\n", f"{figures['what'][name]}.\n",
            "| proxy | requests | refused | p50 ms | longest ms | grown by MB | CPU s |",
            "|---|--:|--:|--:|--:|--:|--:|",
        ]  # fmt: skip
        for proxy in NAMES:
            if proxy in rows:
                row = rows[proxy]
                lines.append(
                    f"| {proxy} | {row['requests']:,} | {row['refused']:,} | {row['p50']:.1f}"
                    f" | {row['most']:.0f} | {row['grown']:.1f} | {row['cpu']:.1f} |"
                )
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    attacks: dict[str, Attack | None] = {"none": None, **load()}
    parser = argparse.ArgumentParser(prog="python -m tests.attacks")
    parser.add_argument("names", nargs="*", choices=[*attacks, []], metavar="NAME")
    parser.add_argument("--proxy", action="append", choices=NAMES, help="only these")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each attack")
    parser.add_argument("--dry", action="store_true", help="write nothing")
    options = parser.parse_args()
    descriptors()
    there = versions()
    empty: dict[str, Any] = {"versions": {}, "what": {}, "attacks": {}}
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else empty
    figures["versions"] |= there
    for name in options.names or attacks:
        one = attacks[name]
        figures["what"][name] = one.what if one else "A bystander alone"
        rows = figures["attacks"].setdefault(name, {})
        for proxy in options.proxy or there:
            with running(proxy) as target:
                rows[proxy] = row = measure(one, target, options.seconds)
            print(
                f"{name:18} {proxy:10} requests {row['requests']:6} refused {row['refused']:5}"
                f" p50 {row['p50']:7.1f} ms longest {row['most']:8.0f} ms"
                f" grown {row['grown']:8.1f} MB cpu {row['cpu']:5.1f} s",
                flush=True,
            )
        if options.dry:
            continue
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
        TABLE.write_text(render(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
