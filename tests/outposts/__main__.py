"""`python -m tests.outposts [beside] [failing] [rates]`: guards beside nginx and Caddy, with figures.

It writes `results.json`, tests/GUARDS.md and two tables of docs/access.md. With names only those
parts are run, and the others stay as they are; so do the rows of proxies that are not installed.
"""

from __future__ import annotations

import argparse
import sys

from rawproxy.proxy import exchange

from . import beside, counted, failing
from .fronts import versions
from .page import known, write

PARTS = ("beside", "failing", "rates")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.outposts")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each failing guard")
    parser.add_argument("--addresses", type=int, default=1_000_000, help="that ask once each")
    options = parser.parse_args()
    parts = options.parts or PARTS
    there = versions()
    results = known()
    results["versions"] |= there
    plain = str(exchange.__file__).endswith(".py")
    results["build"] = "plain Python" if plain else "compiled by mypyc"
    if "beside" in parts:
        for name in there:
            results["beside"][name] = beside.verdicts(name)
            print(f"{name}: {len(beside.CASES)} cases", flush=True)
    if "failing" in parts:
        results["failing_seconds"] = options.seconds
        for name in there:
            results["failing"][name] = failing.figures(name, options.seconds)
    if "rates" in parts:
        results["rates"] = {
            "addresses": counted.addresses(options.addresses),
            "workers": counted.workers(),
            "flood": counted.flood(),
        }
        print(results["rates"], flush=True)
    write(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
