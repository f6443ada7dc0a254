"""`python -m tests.attacks [NAME ...]`: mount the attacks, print a table, write tests/ATTACKS.md.

What docs/threats.md quotes of it is written as well. With names only those are mounted, and the
rows of the others stay as they are. So do the rows of proxies that are not installed, and of an
attack that could not be mounted.
"""

import argparse
import json
import subprocess
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .bystander import Met
from .mounts import Attack, load
from .page import known, write
from .stage import NAMES, Target, descriptors, running, versions

WARM = 0.5  # seconds of the bystander alone


def measure(one: Attack | None, target: Target, seconds: float) -> dict[str, Any]:
    """Mount `one`, or nothing, for so long; what a bystander met, and what it cost."""
    command = [sys.executable, "-m", "tests.attacks.bystander", str(target.plain)]
    pipe = subprocess.PIPE
    before = most = target.rss()
    cpu = target.cpu()
    with (
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as bystander,
        ThreadPoolExecutor(1) as pool,
    ):
        time.sleep(WARM)
        end = time.monotonic() + seconds
        mounted = pool.submit(one.mount, target, end) if one is not None else None
        while time.monotonic() < end or not (mounted is None or mounted.done()):
            most = max(most, target.rss())
            time.sleep(0.05)
        out, _ = bystander.communicate()
        if mounted is not None:
            mounted.result()
    met = Met(*json.loads(out))
    return met._asdict() | {"grown": (most - before) / 1e6, "cpu": target.cpu() - cpu}


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
    figures = known()
    figures["versions"] |= there
    failed = 0
    for name in options.names or attacks:
        one = attacks[name]
        figures["what"][name] = one.what if one else "A bystander alone"
        rows = figures["attacks"].setdefault(name, {})
        for proxy in options.proxy or there:
            try:
                with running(proxy) as target:
                    row = measure(one, target, options.seconds)
            except (OSError, AssertionError):
                failed = 1
                traceback.print_exc()
                continue
            rows[proxy] = row | {"version": there[proxy]}
            print(
                f"{name:18} {proxy:10} requests {row['requests']:6} refused {row['refused']:5}"
                f" p50 {row['p50']:7.1f} ms longest {row['most']:8.0f} ms"
                f" grown {row['grown']:8.1f} MB cpu {row['cpu']:5.1f} s",
                flush=True,
            )
        if options.dry:
            continue
        write(figures)
    return failed


if __name__ == "__main__":
    sys.exit(main())
