"""`python -m tests.fuzz`: fuzz for a while, save what breaks, say how much was done.

    --seconds N    for all targets together; each gets its part (60)
    --count N      inputs for each target instead
    --target T     one of them; repeatable (all)
    --seed S       printed, so that a run can be repeated (random)
    -j N           processes, each with a seed of its own (1)
    --report FILE  the figures as JSON

Exit code 1 where anything was found.
"""

import argparse
import collections
import json
import multiprocessing
import pathlib
import random
import sys
import time

from . import harness
from .harness import ALL


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--target", action="append", choices=sorted(ALL))
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("-j", type=int, default=1)
    parser.add_argument("--report", type=pathlib.Path)
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    names = options.target or list(ALL)
    seconds = 0.0 if options.count else options.seconds / len(names)
    failed, figures = 0, {}
    for name in names:
        began = time.monotonic()
        jobs = [
            (name, f"{seed}/{name}/{number}", seconds, -(-options.count // options.j))
            for number in range(options.j)
        ]
        if options.j == 1:
            results = [harness.fuzz(*jobs[0])]
        else:
            with multiprocessing.get_context("spawn").Pool(options.j) as workers:
                results = workers.starmap(harness.fuzz, jobs)
        verdicts: collections.Counter[str] = collections.Counter()
        for counted, found in results:
            verdicts += counted
            failed += found
        total, spent = verdicts.total(), time.monotonic() - began
        shown = ", ".join(f"{count:,} {what}" for what, count in verdicts.most_common())
        print(f"{name}: {total:,} in {spent:.0f} s ({total / spent:,.0f}/s): {shown}", flush=True)
        figures[name] = {"inputs": total, "seconds": round(spent), "verdicts": dict(verdicts)}
    if options.report is not None:
        options.report.write_text(json.dumps({"seed": seed, "targets": figures}, indent=1) + "\n")
    if failed:
        print(f"{failed} failures; their inputs are in {harness.CORPUS}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
