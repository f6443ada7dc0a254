"""A run: for each row start its peers, measure them in interleaved rounds, stop them, save.

Each row starts fresh processes. So the peak memory is that of the row, and a peer that fails in one
row still takes part in the next. Rounds go A B C A B C …, so that the ratio of a round compares
neighbours in time. The results file is written after every row.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench import load, machine
from bench.origins import Origins, prepare, start_origins
from bench.peers import PEERS, Lab, Setup, builds
from bench.procs import BenchError, Proc, raise_file_limit
from bench.rows import DIRECT, PAIR, ROWS, WARM_ROUND, YARDSTICK, Row, minutes
from bench.same_work import negotiated, same_work

OUT = Path(__file__).parent / "out"  # not committed
RESULTS = Path(__file__).parent / "results"
SCHEMA = 1
DIRECT_ROUNDS = 2  # the way without a proxy only shows where the ceiling is
CALIBRATE_SECONDS = 2.0
BUSY = 0.7  # load average at the start from which on a warning is due


@dataclass
class Plan:
    """What to run."""

    rows: list[Row]
    peers: tuple[str, ...]  # empty: those of each row
    rounds: int
    quick: bool
    output: Path
    seconds: float | None = None  # overrides each row's own


@dataclass
class Runner:
    """The running proxy of one row, or the way straight to the origin."""

    name: str
    port: int
    proc: Proc | None


def say(text: str) -> None:
    print(text, flush=True)


def cores() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The core of the proxy, and the other cores for load and origin."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        say("warning: only one core is usable; proxy and load share it, the figures mean little")
        return (usable[0],), (usable[0],)
    return (usable[0],), tuple(usable[1:])


class Bench:
    """The state of one run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.results: dict[str, Any] = {}
        self.versions: dict[str, str] = {}
        self.missing: set[str] = set()
        self.tls: dict[str, str] = {}
        self.peak = 0.0
        self.lab: Lab
        self.origins: Origins

    def execute(self) -> dict[str, Any]:
        """Do everything and return the results."""
        raise_file_limit()
        proxy_cores, load_cores = cores()
        work = Path(tempfile.mkdtemp(prefix="rawproxy-bench-"))
        work.chmod(0o711)  # nginx's worker, another user when started by root, reads files below
        began, steal = time.monotonic(), machine.steal_ticks()
        try:
            cert, key = prepare(work)
            self.lab = Lab(work, cert, key, proxy_cores, load_cores)
            self._find_peers()
            self.origins = start_origins(self.lab)
            try:
                os.sched_setaffinity(0, load_cores)
                self._rows()
            finally:
                os.sched_setaffinity(0, {*proxy_cores, *load_cores})
                self.origins.close()
        finally:
            shutil.rmtree(work, ignore_errors=True)
        self.results["minutes"] = round((time.monotonic() - began) / 60, 1)
        self.results["steal_ticks"] = machine.steal_ticks() - steal
        self._save()
        return self.results

    def _find_peers(self) -> None:
        wanted = self.plan.peers or tuple({name for row in self.plan.rows for name in row.peers})
        for name in PEERS:
            if name in wanted or name == YARDSTICK:
                version = PEERS[name].version()
                if version is None:
                    self.missing.add(name)
                    say(f"{name}: not installed, skipped")
                else:
                    self.versions[name] = version
        if YARDSTICK in self.missing:
            raise BenchError("nginx is the yardstick and the origin: install it first")
        for tool in sorted({load.TOOLS.get(row.measure, "") for row in self.plan.rows} - {""}):
            if not shutil.which(tool):
                raise BenchError(f"{tool} is not installed")
        say("peers: " + ", ".join(f"{name} {v}" for name, v in self.versions.items()))

    def _header(self) -> None:
        now = datetime.datetime.now(datetime.UTC)
        if machine.load_average() > BUSY:
            say(f"warning: load average {machine.load_average()}: other work will disturb this")
        self.results |= {
            "schema": SCHEMA,
            "taken": now.strftime("%Y-%m-%d %H:%M UTC"),
            "quick": self.plan.quick,
            "rounds": self.plan.rounds,
            "machine": machine.facts(),
            "load_average_at_start": machine.load_average(),
            "peers": self.versions,
            "builds": builds(),
            "missing": sorted(self.missing),
            "tls": self.tls,
            "rows": {},
        }

    def _rows(self) -> None:
        self._header()
        total = len(self.plan.rows)
        if not self.plan.peers and not self.plan.seconds:
            count = len(PAIR) if self.plan.quick else 0
            say(f"about {minutes(self.plan.rows, self.plan.rounds, count):.0f} minutes")
        for number, row in enumerate(self.plan.rows, 1):
            say(f"[{number}/{total}] {row.id}: {row.title}")
            began = time.monotonic()
            with self._spread() if row.shared else contextlib.nullcontext():
                self.results["rows"][row.id] = self._row(row)
            self._save()
            say(f"    {time.monotonic() - began:.0f} s")

    @contextlib.contextmanager
    def _spread(self) -> Iterator[None]:
        """Give all cores to everybody, for rows whose proxies have more workers than one core."""
        before = self.lab
        every = (*before.proxy_cores, *before.load_cores)
        self.lab = dataclasses.replace(before, proxy_cores=every, load_cores=every)
        for proc in self.origins.procs:
            proc.pin(every)
        try:
            yield
        finally:
            self.lab = before
            for proc in self.origins.procs:
                proc.pin(before.load_cores)

    def _row(self, row: Row) -> dict[str, Any]:
        entry: dict[str, Any] = {"title": row.title, "measure": row.measure, "unit": row.unit}
        entry |= {"peers": {}, "skipped": {}}
        rounds = row.turns(self.plan.rounds)
        if row.measure == "latency" and not self.peak:
            self.peak = self._calibrate()
        runners = self._start(row, entry["skipped"])
        try:
            if WARM_ROUND.get(row.measure, 1.0):
                self._warm(row, runners, entry)
            for turn in range(1, rounds + 1):
                for runner in runners:
                    if runner.proc is None and turn > DIRECT_ROUNDS:
                        continue
                    self._measure(row, runner, entry, f"{turn}/{rounds}")
        finally:
            for runner in runners:
                if runner.proc:
                    runner.proc.close()
        samples = entry["peers"].get(YARDSTICK, [])
        if row.id == "mix-plain" and samples:
            self.peak = median(sample["rate"] for sample in samples)
        if row.measure == "latency":
            entry["peak"] = round(self.peak)
        return entry

    def _start(self, row: Row, skipped: dict[str, str]) -> list[Runner]:
        runners = []
        upstream = self.origins.port(row.origin, row.tls)
        setup = Setup(upstream, row.tls, row.log, row.eyes, row.page, row.guard)
        names = self.plan.peers or (PAIR if self.plan.quick else row.peers)
        for name in names:
            if name in self.missing:
                skipped[name] = "not installed"
                continue
            runner = None
            try:
                proc, port = PEERS[name].start(self.lab, setup)
                runner = Runner(name, port, proc)
                self._check(row, runner, setup)
                runners.append(runner)
            except BenchError as error:
                skipped[name] = str(error)
                say(f"    {name}: left out of this row: {error}")
                if runner and runner.proc:
                    runner.proc.close()
        if row.direct and not self.plan.peers:
            runners.append(Runner(DIRECT, upstream, None))
        return runners

    def _check(self, row: Row, runner: Runner, setup: Setup) -> None:
        """Check that a proxy does the same work with the same TLS, and speaks HTTP/2 if it must."""
        if row.origin == "nginx":
            same_work(runner.port, self._own(runner.name, setup))
        if row.tls:
            version, cipher, alpn = negotiated(self.lab, runner.port)
            self.tls[runner.name] = f"{version} {cipher}"
            if row.measure == "h2load" and alpn != "h2":
                raise BenchError(f"no HTTP/2: ALPN chose {alpn}")

    @staticmethod
    def _own(name: str, setup: Setup) -> Setup:
        """What a peer was really started with."""
        return dataclasses.replace(setup, guard=setup.guard and not name.endswith("-open"))

    def _warm(self, row: Row, runners: list[Runner], entry: dict[str, Any]) -> None:
        """One round that is not counted: it fills caches, heaps, branch predictors and pools."""
        seconds = WARM_ROUND.get(row.measure, 1.0)
        for runner in [runner for runner in runners if runner.proc]:
            target = self._target(row, runner, seconds)
            with contextlib.suppress(BenchError):  # a machine that hiccups gets a second chance
                load.MEASURES[row.measure](target)
                continue
            try:
                load.MEASURES[row.measure](target)
            except BenchError as error:
                entry["skipped"][runner.name] = str(error)
                say(f"    {runner.name}: left out of this row: {error}")
                runners.remove(runner)
                runner.proc.close()

    def _target(self, row: Row, runner: Runner, seconds: float) -> load.Target:
        origins = tuple(self.origins.procs)
        answers = self.origins.client if row.origin == "client" else 0
        return load.Target(
            self.lab, row, runner.port, runner.proc, seconds, self.peak, origins, answers
        )

    def _measure(self, row: Row, runner: Runner, entry: dict[str, Any], turn: str) -> None:
        seconds = self.plan.seconds or row.seconds
        try:
            sample = load.MEASURES[row.measure](self._target(row, runner, seconds))
        except BenchError as error:
            # An attempt without a figure still counts: the row shows it and is not valid.
            sample = load.Sample(rate=0.0, errors=1, note=str(error)[:300])
        entry["peers"].setdefault(runner.name, []).append(sample.as_json())
        cpu = f"{sample.cpu_us:9.1f} µs" if sample.cpu_us is not None else " " * 12
        busy = f"{sample.busy:5.0%}" if sample.busy is not None else "     "
        busy += f" {sample.load_busy:5.0%}" if sample.load_busy is not None else ""
        trouble = f"  ERRORS {sample.errors}: {sample.note}" if sample.errors else sample.note
        say(
            f"    {turn} {runner.name:<13}{sample.rate:>12,.2f} {row.unit:<9}{cpu} {busy} {trouble}"
        )

    def _calibrate(self) -> float:
        """Measure the yardstick's peak rate, if this run has not measured it."""
        row = ROWS["mix-plain"]
        setup = Setup(self.origins.port("nginx", tls=False))
        proc, port = PEERS[YARDSTICK].start(self.lab, setup)
        try:
            runner = Runner(YARDSTICK, port, proc)
            return load.requests(self._target(row, runner, CALIBRATE_SECONDS)).rate
        finally:
            proc.close()

    def _save(self) -> None:
        self.plan.output.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.results, indent=1, ensure_ascii=False)
        temporary = self.plan.output.with_suffix(".tmp")
        temporary.write_text(text + "\n")
        temporary.replace(self.plan.output)


def execute(plan: Plan) -> dict[str, Any]:
    """Run the plan; on Ctrl-C what was measured so far is in the results file."""
    bench = Bench(plan)
    try:
        return bench.execute()
    except KeyboardInterrupt:
        say(f"interrupted; what was measured is in {plan.output.name}")
        sys.exit(130)


def validate_peers(names: Sequence[str]) -> tuple[str, ...]:
    """The peers asked for, in their order. The yardstick is always among them."""
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise ValueError(f"unknown peer: {', '.join(unknown)}; known: {', '.join(PEERS)}")
    return tuple(dict.fromkeys((YARDSTICK, *names))) if names else ()
