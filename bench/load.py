"""One measurement of one row: run the load, and read the proxy's CPU time and memory around it.

Each function of `MEASURES` takes a `Target` and returns a `Sample`. None starts or stops a proxy.
Invariant: CPU time is divided by the requests that were answered while it was spent. Our own load
clients say when they begin and stop to count, and the CPU time is taken at these moments. For wrk
and h2load it is that of the whole run with its connection set-up, for every peer alike.
"""

from __future__ import annotations

import contextlib
import json
import re
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from bench import client, pauses, payloads
from bench.peers import Lab
from bench.procs import BenchError, Proc, cpu_of, run, spawn
from bench.rows import Row

SLACK = 30.0  # seconds beyond the planned ones before a load generator is given up
SETTLE = 1.5  # seconds of quiet before idle memory is read: sweeps and frees have happened


@dataclass
class Sample:
    """What one measurement found. `rate` is in the row's unit."""

    rate: float
    cpu_us: float | None = None  # of the proxy's process tree, for each request
    busy: float | None = None  # share of the wall time that the proxy was on its core
    load_busy: float | None = None  # the same of load generator and origins on theirs
    p50_ms: float | None = None
    p99_ms: float | None = None
    peak_kib: int | None = None  # peak resident memory of the tree so far in this row
    errors: int = 0
    note: str = ""
    more: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        return {key: value for key, value in asdict(self).items() if value not in (None, "", {})}


@dataclass
class Target:
    """Where to send the load, and whose CPU time to read; None if the load goes to the origin."""

    lab: Lab
    row: Row
    port: int
    proc: Proc | None
    seconds: float
    peak: float = 0.0  # the yardstick's requests/s, for rows at a share of it
    origins: tuple[Proc, ...] = ()  # they share the load's core: their time is told too
    answers: int = 0  # the port on which the load client is the origin itself

    @property
    def scheme(self) -> str:
        return "https" if self.row.tls else "http"

    def arg(self, name: str) -> int:
        return int(self.row.args[name])

    def client(self, module: str, *args: object) -> list[str]:
        return [sys.executable, "-m", f"bench.{module}", *(str(arg) for arg in args)]


@dataclass
class Spent:
    """What a load run printed, and the CPU seconds and seconds that it took."""

    out: str
    cpu: float
    load: float
    wall: float


@dataclass
class Clocks:
    """Readings at one moment, in seconds."""

    proxy: float
    load: float
    wall: float


def _read(target: Target, client_pid: int | None = None) -> Clocks:
    """Read all clocks.

    The load's side is the origins, all ended generators, and the one that runs.
    """
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    load = children.ru_utime + children.ru_stime + (cpu_of(client_pid) if client_pid else 0.0)
    load += sum(proc.cpu_seconds() for proc in target.origins)
    proxy = target.proc.cpu_seconds() if target.proc else 0.0
    return Clocks(proxy, load, time.perf_counter())


def _around(target: Target, argv: list[str]) -> Spent:
    """Run the load; read the clocks at the marks it prints, else before and after it."""
    seen = {"": _read(target)}

    def on_mark(mark: str, pid: int) -> None:
        seen[mark] = _read(target, pid)

    out = run(argv, target.lab.load_cores, target.seconds + SLACK, target.lab.load_env, on_mark)
    if target.proc:
        target.proc.check()
    first = seen.get("WARM", seen[""])
    last = seen["END"] if "END" in seen else _read(target)
    return Spent(out, last.proxy - first.proxy, last.load - first.load, last.wall - first.wall)


def _result(out: str) -> dict[str, float]:
    for line in out.splitlines():
        if line.startswith("BENCH "):
            found: dict[str, float] = json.loads(line[6:])
            return found
    raise BenchError(f"the load generator printed no result: {out[-300:]!r}")


def _sample(target: Target, found: dict[str, float], spent: Spent) -> Sample:
    """The common part: a rate over the generator's own clock, CPU over the answers in it."""
    requests = found["requests"]
    if not requests:
        raise BenchError(f"no request was answered: {found.get('why', '')}")
    sample = Sample(
        rate=round(requests / found["micros"] * 1e6, 2),
        p50_ms=round(found.get("p50", 0) / 1000, 3),
        p99_ms=round(found.get("p99", 0) / 1000, 3),
        errors=int(found.get("errors", 0)),
        note=str(found.get("why", "")),
        load_busy=round(spent.load / spent.wall / len(target.lab.load_cores), 3),
    )
    if target.proc:
        sample.cpu_us = round(spent.cpu / requests * 1e6, 2)
        sample.busy = round(spent.cpu / spent.wall, 3)
        sample.peak_kib = target.proc.memory_kib("VmHWM")
    return sample


def requests(target: Target) -> Sample:
    """Small requests over HTTP/1.1, one in flight on each connection.

    All connections are open before.
    """
    row, lab = target.row, target.lab
    argv = client.command(
        lab.work,
        target.port,
        str(row.args["templates"]),
        tls=row.tls,
        connections=target.arg("connections"),
        seconds=target.seconds,
        warm=row.warm,
    )
    spent = _around(target, argv)
    return _sample(target, _result(spent.out), spent)


def wrk(target: Target) -> Sample:
    """Bodies over HTTP/1.1, one request in flight on each of the connections."""
    url = f"{target.scheme}://127.0.0.1:{target.port}/"
    script = str(target.lab.work / f"{target.row.args['script']}.lua")
    argv = ["wrk", "-t1", f"-c{target.arg('connections')}", f"-d{max(1, int(target.seconds))}s"]
    spent = _around(target, [*argv, "--timeout", "8s", "-s", script, url])
    found = _result(spent.out)
    errors = {key: int(found[key]) for key in ("connect", "read", "write", "timeout", "status")}
    found["errors"] = sum(errors.values())
    sample = _sample(target, found, spent)
    sample.note = ", ".join(f"{count} {key}" for key, count in errors.items() if count)
    if target.row.body and found["bytes"] < target.row.body * found["requests"] * 0.99:
        sample.errors += 1
        sample.note += " answers are shorter than the body"
    return sample


H2_TIMES = re.compile(r"finished in ([\d.]+)(us|ms|s)")
H2_COUNTS = re.compile(
    r"(\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed, "
    r"(\d+) errored, (\d+) timeout"
)
H2_STATUS = re.compile(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx")
H2_REPORT = (H2_COUNTS, H2_TIMES, H2_STATUS)
H2_FIELDS = (
    f"user-agent: {payloads.AGENTS[0]}",
    f"accept: {payloads.ACCEPTS[0]}",
    f"accept-language: {payloads.LANGUAGES[0]}",
    "accept-encoding: gzip, deflate, br",
    "cookie: authentik_csrf=5f1c0e1f8d2b4a6c; authentik_session=9b8a7c6d5e4f30211203f4e5d6c7b8a9",
    "sec-fetch-dest: document",
    "sec-fetch-mode: navigate",
    "sec-fetch-site: same-origin",
)


def h2load(target: Target) -> Sample:
    """HTTP/2 over TLS; paths differ, the other fields are the same on every request."""
    argv = ["h2load", "-t1", "-c", str(target.arg("connections"))]
    argv += ["-m", str(target.arg("streams")), "-D", str(max(1, int(target.seconds)))]
    argv += ["-i", str(target.lab.work / "h2-paths.txt")]
    argv += ["-B", f"https://{payloads.HOST}:{target.port}"]
    argv += ["--connect-to", f"127.0.0.1:{target.port}"]
    for item in H2_FIELDS:
        argv += ["-H", item]
    spent = _around(target, argv)
    counts, times, status = (p.search(spent.out) for p in H2_REPORT)
    if not counts or not times or not status:
        raise BenchError(f"h2load's report was not understood: {spent.out[-300:]!r}")
    scale = {"us": 1.0, "ms": 1e3, "s": 1e6}[times[2]]
    failed = int(counts[5]) + int(counts[6]) + int(counts[7])
    found = {"requests": float(status[1]), "micros": float(times[1]) * scale}
    found["errors"] = failed + sum(int(status[i]) for i in (2, 3, 4))
    sample = _sample(target, found, spent)
    sample.p50_ms = sample.p99_ms = None
    return sample


def websocket(target: Target) -> Sample:
    """Echo: every connection has one message in flight."""
    mode = "tls" if target.row.tls else "plain"
    connections, size = target.arg("connections"), target.arg("size")
    argv = target.client("wsload", "echo", target.port, mode, connections, size, target.seconds)
    spent = _around(target, argv)
    return _sample(target, _result(spent.out), spent)


def handshakes(target: Target) -> Sample:
    """TLS connections, each with one GET and an orderly end.

    An OpenSSL client spends twice as long on a handshake as a server. So the client is the
    bottleneck if each has one core. The `rate` is therefore connections for each CPU second of the
    proxy. What was reached each second stands beside it.
    """
    connections, resume = target.arg("connections"), target.arg("resume")
    argv = target.client("tlsload", target.port, connections, resume, target.seconds)
    spent = _around(target, argv)
    sample = _sample(target, _result(spent.out), spent)
    if not sample.cpu_us:
        raise BenchError("no CPU time was counted")
    sample.more = {"on_the_clock": sample.rate}
    sample.rate = round(1e6 / sample.cpu_us, 1)
    return sample


def latency(target: Target) -> Sample:
    """p99 at a share of the yardstick's peak rate, the same rate for all.

    The `rate` is in milliseconds.
    """
    if not target.peak:
        raise BenchError("the yardstick's peak is not known")
    rate = target.peak * target.arg("percent") / 100
    argv = client.command(
        target.lab.work,
        target.port,
        "mix",
        tls=target.row.tls,
        connections=target.arg("connections"),
        seconds=target.seconds,
        warm=target.row.warm,
        rate=rate,
        origin=target.answers,
    )
    began = time.monotonic()
    spent = _around(target, argv)
    found = _result(spent.out)
    sample = _sample(target, found, spent)
    sample.rate = sample.p99_ms or 0.0
    sample.more = {
        "target_rate": round(rate),
        "answered_rate": round(found["requests"] / found["micros"] * 1e6),
        "p90_ms": round(found["p90"] / 1000, 3),
        "p999_ms": round(found["p999"] / 1000, 3),
        "generator_late_p99_ms": round(found["late_p99"] / 1000, 3),
        **pauses.between(
            pauses.file_for(target.lab.work, target.port), began + target.row.warm, time.monotonic()
        ),
    }
    if found["lost"]:
        sample.note = f"{found['lost']:.0f} not answered in time: the rate is beyond it"
    return sample


def idle_websockets(target: Target) -> Sample:
    """Memory that each open, quiet WebSocket costs the proxy. The `rate` is KiB."""
    if not target.proc:
        raise BenchError("memory is the proxy's: there is no direct sample")
    mode = "tls" if target.row.tls else "plain"
    wanted = target.arg("connections")
    before = target.proc.private_kib()
    argv = target.client("wsload", "idle", target.port, mode, wanted)
    log = target.lab.work / f"idle-{target.port}.log"
    client = spawn("idle", argv, target.lab.load_cores, log, target.lab.load_env)
    try:
        found = _await_result(client, 90.0)
        time.sleep(SETTLE)
        after = target.proc.private_kib()
    finally:
        client.close()
    if found["open"] < wanted * 0.99:
        raise BenchError(f"only {found['open']:.0f} of {wanted} opened: {found.get('why')}")
    return Sample(
        rate=round((after - before) / found["open"], 2),
        peak_kib=target.proc.memory_kib("VmHWM"),
        errors=int(found["errors"]),
        note=str(found["why"] or ""),
        more={"before_kib": before, "open_kib": after, "connections": found["open"]},
    )


def _await_result(client: Proc, seconds: float) -> dict[str, float]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        client.check()
        with contextlib.suppress(BenchError):
            return _result(client.log.read_text(errors="replace"))
        time.sleep(0.1)
    raise BenchError(f"the connections were not open within {seconds:.0f} s")


MEASURES: dict[str, Callable[[Target], Sample]] = {
    "requests": requests,
    "wrk": wrk,
    "h2load": h2load,
    "websocket": websocket,
    "handshakes": handshakes,
    "latency": latency,
    "idle_websockets": idle_websockets,
}
TOOLS = {"wrk": "wrk", "h2load": "h2load"}  # what a measure needs installed
