"""The Autobahn test-suite, straight to a WebSocket server and through a proxy to it.

The verdict of each case has to be the same both ways, over ws and over wss.
Exit 0: it is, or the suite cannot run here (SKIPPED); 1: it is not; 2: something failed.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import trustme

from . import peers, suite, verdicts
from .suite import Verdict

REPORTS = Path(__file__).parent / "reports"
SCHEMES = ("ws", "wss")
QUICK = [
    "1.*", "2.*", "3.*", "4.*", "5.*", "6.4.*", "7.*", "10.*", "9.1.1", "9.1.6", "9.2.6", "9.3.1", "9.5.2",
    "9.7.1", "12.1.1", "12.1.10", "12.2.11", "13.1.1", "13.2.1", "13.3.1", "13.4.1", "13.5.1", "13.6.1", "13.7.1",
]  # fmt: skip


class Runner:
    """Runs cases against fresh processes."""

    def __init__(self, client: suite.Client, kind: str, proxy: str, folder: Path) -> None:
        self.client = client
        self.kind = kind
        self.proxy = proxy
        self.folder = folder
        authority = trustme.CA()
        leaf = authority.issue_cert("localhost", peers.HOST)
        self.certificate = peers.Certificate(folder / "cert.pem", folder / "key.pem")
        leaf.cert_chain_pems[0].write_to_path(self.certificate.cert)
        leaf.private_key_pem.write_to_path(self.certificate.key)

    def run(self, scheme: str, way: str, part: str, cases: Sequence[str]) -> dict[str, Verdict]:
        """`cases` over `scheme`, direct or through the proxy."""
        folder = self.folder / f"{scheme}-{way}-{part}"
        folder.mkdir()
        started = time.monotonic()
        with ExitStack() as stack:
            ports = stack.enter_context(peers.echo(self.kind, self.certificate, folder))
            port = ports[scheme]
            if way != "direct":
                port = stack.enter_context(
                    peers.proxy(self.proxy, scheme, port, self.certificate, folder)
                )
            found = self.client.run(folder, f"{scheme}://{peers.HOST}:{port}", cases)
        took = time.monotonic() - started
        print(f"{folder.name:28} {len(found):4} cases {took:7.1f} s", flush=True)
        return found


def parts(cases: Iterable[str]) -> dict[str, list[str]]:
    """Cases in shares of comparable duration, to be run side by side; the longest first."""
    shares: dict[str, list[str]] = {}
    for case in cases:
        first, second = (int(number) for number in case.split(".")[:2])
        name = f"{first}.{second}" if first == 12 else str(first) if first in (9, 13) else "basic"
        shares.setdefault(name, []).append(case)
    return dict(sorted(shares.items(), key=lambda item: not item[0].startswith("12")))


def main(arguments: Sequence[str] | None = None) -> int:
    args = options(arguments)
    started = time.monotonic()
    python = suite.find_python()
    if python is None:
        where = "$PYTHON27, the PATH and pyenv's versions were looked at"
        print(f"SKIPPED: the Autobahn test-suite needs a Python 2.7, and there is none ({where})")
        return 0
    REPORTS.mkdir(exist_ok=True)
    try:
        library = suite.install(python, REPORTS)
        client = suite.Client(python, library, args.html, args.timeout)
        cases = select(client.known_cases(), args.cases or (QUICK if args.quick else ["*"]))
        folder = REPORTS / "last"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        runner = Runner(client, args.server, args.proxy, folder)
        return compare(runner, args, cases, started)
    except (suite.UnavailableError, peers.PeerError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 2


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few cases of each kind")
    parser.add_argument("--cases", nargs="+", metavar="PATTERN", help="these only: 1.* 6.4.1")
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=SCHEMES)
    parser.add_argument("--server", choices=("strict", "websockets"), default="strict")
    parser.add_argument("--proxy", choices=peers.PROXIES, default="rawproxy")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs side by side")
    parser.add_argument("--again", type=int, default=3, help="further tries where verdicts differ")
    parser.add_argument("--html", action="store_true", help="keep the suite's own pages, too")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for one run")
    return parser.parse_args(arguments)


def select(known: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The cases that a pattern names: a number, or its beginning and a star."""
    chosen = [
        case
        for case in known
        if any(case.startswith(one[:-1]) if one.endswith("*") else case == one for one in patterns)
    ]
    if not chosen:
        raise suite.UnavailableError(f"no case is called {' '.join(patterns)}")
    return chosen


def compare(runner: Runner, args: argparse.Namespace, cases: Sequence[str], started: float) -> int:
    ways = ("direct", args.proxy)
    runs: dict[str, dict[str, Verdict]] = {f"{s} {w}": {} for s in args.schemes for w in ways}
    todo = [
        (scheme, way, part, share)
        for part, share in parts(cases).items()
        for scheme in args.schemes
        for way in ways
    ]
    print(f"{len(cases)} cases, {len(runs)} ways, {args.jobs} runs at a time", flush=True)
    with ThreadPoolExecutor(args.jobs) as pool:
        for job, found in zip(todo, pool.map(lambda one: runner.run(*one), todo), strict=True):
            runs[f"{job[0]} {job[1]}"].update(found)
    found = [
        difference
        for scheme in args.schemes
        for difference in verdicts.differences(
            scheme, cases, runs[f"{scheme} direct"], runs[f"{scheme} {args.proxy}"]
        )
    ]
    try_again(runner, args, found)
    counted = [one for one in found if not one.by_itself]
    took = time.monotonic() - started
    report(args, cases, runs, found, took)
    return 1 if counted else 0


def try_again(
    runner: Runner, args: argparse.Namespace, found: Sequence[verdicts.Difference]
) -> None:
    """Some cases race by themselves: what do further tries of both ways say?"""
    for scheme in args.schemes:
        mine = [one for one in found if one.scheme == scheme]
        for turn in range(1, args.again + 1 if mine else 0):
            for way in ("direct", args.proxy):
                said = runner.run(scheme, way, f"again{turn}", [one.case for one in mine])
                for one in mine:
                    (one.direct if way == "direct" else one.proxied).append(said.get(one.case))


def report(
    args: argparse.Namespace,
    cases: Sequence[str],
    runs: dict[str, dict[str, Verdict]],
    found: Sequence[verdicts.Difference],
    took: float,
) -> None:
    print()
    for line in verdicts.table(runs, cases):
        print(line)
    print()
    for difference in found:
        for line in difference.lines():
            print(line)
    counted = sum(not one.by_itself for one in found)
    print(
        f"{len(cases)} cases x {len(args.schemes)} schemes: "
        f"{counted or 'no'} verdict{'s differ' if counted != 1 else ' differs'} "
        f"through {args.proxy}; {took:.0f} s"
    )
    summary = {
        "suite": suite.RELEASE,
        "server": args.server,
        "proxy": args.proxy,
        "python": platform.python_version(),
        "cases": len(cases),
        "seconds": round(took, 1),
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "verdicts": {name: verdicts.counts(run, cases) for name, run in runs.items()},
        "differences": [one.as_json() for one in found],
        "each": {
            case: {name: verdicts.show(run.get(case)) for name, run in runs.items()}
            for case in cases
        },
    }
    path = REPORTS / "summary.json"
    path.write_text(json.dumps(summary, indent=1) + "\n")
    print(f"summary: {os.path.relpath(path)}")


if __name__ == "__main__":
    sys.exit(main())
