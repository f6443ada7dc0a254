"""Instructions and system calls for each request: figures that repeat where seconds do not.

    `python -m bench counts`                       the main rows, nginx and rawproxy
    `python -m bench counts --rows ws-1k,h2-1`     only these

A proxy starts under `valgrind --tool=callgrind`, or is attached to by `strace -c`. Connections are
opened and used a few times first. Then so many requests are counted exactly: the load stands still
while counting begins and ends. Instructions are those of user space, OpenSSL's among them; the
kernel's work shows as calls.

The clients live in this process. So it starts anew with the OpenSSL configuration that the bench
gives to its load generators: all peers do the same work then.

It never measures time. Invariant: what is counted is the work of `COUNTED` requests on each
connection, and nothing of how they were opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from bench import origins, payloads, tlsload
from bench.figures import NAMES, SUBJECT
from bench.machine import facts
from bench.peers import PEERS, ROOT, Lab, Setup, builds
from bench.procs import BenchError, Proc, free_ports, insecure_context, spawn, wait_for_port
from bench.rows import ROWS, YARDSTICK, Row
from bench.train import UPGRADE, Client, Speaker, message, repeat

CHOSEN = (
    "mix-plain", "mix-tls", "api-plain", "api-tls", "get-16k-plain", "get-16k-tls", "get-1m-tls",
    "chunked-16k-plain", "chunked-16k-tls", "ws-1k-plain", "ws-1k-tls", "ws-16k-tls", "h2-1",
    "h2-10", "handshake-full", "handshake-resumed",
)  # fmt: skip
COUNTED = 20  # requests on each connection
BEFORE = 6  # of them, before anything is counted: pools are full, and tables are worked out
MOST = 16  # connections: enough for several to be ready in each turn of a loop
START = 120.0  # seconds that a proxy may take to start under valgrind
ATTACH = 0.7  # seconds until strace has attached to a process that rests
TOTAL = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)
AGAIN = "BENCH_COUNTS_AGAIN"  # in the environment of the process that counts
CALL = re.compile(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:(\d+) +)?(\w+)$", re.MULTILINE)


@dataclass
class Counts:
    """What one request costs one peer."""

    instructions: float = 0.0
    calls: dict[str, float] = field(default_factory=dict)  # how many of each
    failed: dict[str, float] = field(default_factory=dict)  # of them; most had nothing to read

    def as_json(self) -> dict[str, object]:
        return {
            "instructions": round(self.instructions),
            "calls": {name: round(number, 2) for name, number in self.calls.items()},
            "failed": {name: round(number, 2) for name, number in self.failed.items()},
        }


class Load:
    """The clients of one count."""

    def __init__(self, row: Row, port: int) -> None:
        self.row = row
        alpn = ["h2"] if row.measure == "h2load" else ["http/1.1"]
        context = insecure_context(alpn) if row.tls else None
        self.count = min(MOST, int(row.args["connections"]))
        self.clients = [Client(port, context) for _ in range(self.count)]
        self.visits: tlsload.Load | None = None  # whose connections are the work
        if row.measure == "handshakes":
            self.clients = []
            self.visits = tlsload.Load(port, bool(row.args["resume"]))
        self.numbers = iter(range(1, 10**7))
        self.heads = payloads.browser_heads()
        self.speakers: list[Speaker] = []

    @property
    def requests(self) -> int:
        """How many are counted."""
        return self.count * COUNTED * int(self.row.args.get("streams", 1))

    async def open(self) -> None:
        for client in self.clients:
            await client.__aenter__()
            if self.row.measure == "websocket":
                client.writer.write(UPGRADE.replace(b"/ws ", b"/ws/client/ "))
                await client.reader.readuntil(b"\r\n\r\n")
            elif self.row.measure == "h2load":
                self.speakers.append(Speaker(client, alike=10**9))

    async def work(self, times: int) -> None:
        """Each connection sends so many requests, all connections at the same time."""
        if self.visits is not None:
            await asyncio.to_thread(tlsload.visit, self.visits, self.count, self.count * times)
        await asyncio.gather(*(self._one(at, times) for at in range(len(self.clients))))

    async def _one(self, at: int, times: int) -> None:
        row, client = self.row, self.clients[at]
        if row.measure == "h2load":
            await self.speakers[at].ask(int(row.args["streams"]), times)
        elif row.measure == "websocket":
            one = message(int(row.args["size"]))
            for _ in range(times):
                client.writer.write(one)
                await client.reader.readexactly(len(one) - 4)  # the echo has no mask
        elif row.args.get("templates") == "api":
            for _ in range(times):
                await client.ask(payloads.api_request())
        elif row.measure == "requests":
            for _ in range(times):
                await client.ask(payloads.browser_request(next(self.numbers), self.heads))
        else:
            await repeat(client, self._request(str(row.args["script"])), times)

    @staticmethod
    def _request(script: str) -> bytes:
        if script == "chunked":
            return payloads.chunked_request("/chunked", payloads.KIB16)
        if script == "upload":
            return payloads.upload_request("/upload", payloads.MIB1)
        return payloads.plain_request(f"/files/{script}").encode()

    async def close(self) -> None:
        for client in self.clients:
            with contextlib.suppress(OSError, AttributeError):
                await client.__aexit__()


class Counter:
    """Counts what one process does between two moments."""

    def command(self, argv: list[str]) -> list[str]:
        """How the proxy is started."""
        return argv

    def begin(self, pid: int) -> None:
        raise NotImplementedError

    def end(self, pid: int, requests: int, counts: Counts) -> None:
        raise NotImplementedError


class Instructions(Counter):
    """By callgrind, which interprets every instruction: some fifty times slower."""

    def __init__(self, work: Path) -> None:
        self.out = work / "callgrind"

    def command(self, argv: list[str]) -> list[str]:
        tool = ["valgrind", "--tool=callgrind", "--trace-children=yes", "--instr-atstart=no"]
        return [*tool, f"--callgrind-out-file={self.out}.%p", *argv]

    def begin(self, pid: int) -> None:
        self._control("-i", "on", pid)

    def end(self, pid: int, requests: int, counts: Counts) -> None:
        self._control("-i", "off", pid)
        self._control("-d", "counted", pid)
        texts = [one.read_text(errors="replace") for one in self.out.parent.glob("callgrind.*")]
        found = [int(number) for text in texts for number in TOTAL.findall(text)]
        counts.instructions = max(found, default=0) / requests

    @staticmethod
    def _control(option: str, value: str, pid: int) -> None:
        argv = ["callgrind_control", option, value, str(pid)]
        if subprocess.run(argv, capture_output=True, check=False).returncode:
            raise BenchError(f"{' '.join(argv)} failed: is it valgrind's?")


class Calls(Counter):
    """By strace."""

    strace: subprocess.Popen[bytes]

    def begin(self, pid: int) -> None:
        argv = ["strace", "-c", "-f", "-p", str(pid)]
        self.strace = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        time.sleep(ATTACH)

    def end(self, pid: int, requests: int, counts: Counts) -> None:
        self.strace.send_signal(signal.SIGINT)
        text = self.strace.communicate()[1].decode()
        for number, failed, name in CALL.findall(text):
            if name != "total":
                counts.calls[name] = int(number) / requests
                if failed:
                    counts.failed[name] = int(failed) / requests


def elsewhere() -> int | None:
    """Count in a process with the load's OpenSSL configuration. Returns how that ended.

    OpenSSL reads it only once, when it is loaded. None: this is that process.
    """
    if os.environ.pop(AGAIN, None):
        del os.environ["OPENSSL_CONF"]  # it is for the load: a proxy has its own words
        return None
    with tempfile.TemporaryDirectory(prefix="rawproxy-counts-") as folder:
        path = origins.openssl_config(Path(folder))
        env = {**os.environ, "OPENSSL_CONF": str(path), AGAIN: "1"}
        argv = [sys.executable, "-m", "bench", *sys.argv[1:]]
        return subprocess.run(argv, env=env, check=False).returncode


def worker(proc: Proc) -> int:
    """Who serves: a child, where there are any."""
    return (proc.tree()[1:] or [proc.pid])[0]


async def _counted(row: Row, port: int, proc: Proc, counter: Counter, counts: Counts) -> None:
    load = Load(row, port)
    try:
        await load.open()
        await load.work(BEFORE)
        pid = worker(proc)
        await asyncio.to_thread(counter.begin, pid)
        await load.work(COUNTED)
        await asyncio.to_thread(counter.end, pid, load.requests, counts)
    finally:
        await load.close()


def count(row: Row, peer: str, lab: Lab, upstreams: origins.Origins) -> Counts:
    """Count one peer in one row. Raises `BenchError`."""
    counts = Counts()
    setup = Setup(upstreams.port(row.origin, row.tls), tls=row.tls)
    counters: list[Counter] = [Calls()]
    if peer.startswith(SUBJECT):  # nginx' worker is another user's, whom valgrind does not let in
        counters.append(Instructions(Path(tempfile.mkdtemp(dir=lab.work))))
    for counter in counters:
        port = free_ports(1)[0]
        argv = counter.command(PEERS[peer].command(lab, setup, port))
        env = {"HOME": str(lab.work), "PYTHONPATH": str(ROOT), **dict(PEERS[peer].env)}
        proc = spawn(peer, argv, lab.proxy_cores, lab.work / f"{peer}-{port}.log", env)
        try:
            wait_for_port(proc, port, START)
            uvloop.run(_counted(row, port, proc, counter, counts))
        finally:
            proc.close()
    return counts


def table(results: dict[str, Any]) -> str:
    """The results as a page."""
    names = results["peers"]
    counted = [peer for peer in names if peer.startswith(SUBJECT)]
    head = ["row", *(f"instructions, {NAMES[peer]}" for peer in counted)]
    head += [f"calls, {NAMES[peer]}" for peer in names]
    lines = ["| " + " | ".join(head) + " |"]
    lines.append("|---" + "|--:" * len(counted) + "|---" * len(names) + "|")
    for key, peers in results["rows"].items():
        cells = [ROWS[key].title, *(f"{peers[peer]['instructions']:,}" for peer in counted)]
        cells += [_told(peers[peer]) for peer in names]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _told(counted: dict[str, Any]) -> str:
    """The calls of one peer, the most frequent first; rare ones are left out."""
    calls = sorted(counted["calls"].items(), key=lambda pair: -pair[1])
    kept = [f"{name} {number:g}" for name, number in calls if number >= 0.05]
    return f"{sum(counted['calls'].values()):.1f}: {', '.join(kept)}"


def execute(rows: tuple[str, ...], peers: tuple[str, ...], output: Path) -> str:
    """Count, write the results and a page beside them, and return the table."""
    chosen = [ROWS[key] for key in rows or CHOSEN]
    names = peers or (YARDSTICK, SUBJECT)
    with tempfile.TemporaryDirectory(prefix="rawproxy-counts-") as folder:
        work = Path(folder)
        work.chmod(0o755)  # nginx' workers read from it
        cert, key = origins.prepare(work)
        cores = tuple(os.sched_getaffinity(0))
        lab = Lab(work, cert, key, cores, cores)
        upstreams = origins.start_origins(lab)
        results: dict[str, Any] = {
            "machine": facts(),
            "builds": builds(),
            "peers": names,
            "rows": {},
        }
        try:
            for row in chosen:
                counted = {peer: count(row, peer, lab, upstreams).as_json() for peer in names}
                results["rows"][row.id] = counted
                output.parent.mkdir(parents=True, exist_ok=True)
                output.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        finally:
            upstreams.close()
    page = f"# Instructions and system calls for each request\n\n{table(results)}\n"
    output.with_suffix(".md").write_text(page)
    return table(results)
