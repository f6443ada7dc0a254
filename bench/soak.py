"""The soak: one rawproxy at full load for minutes, in every second slice with resets on both sides.

Clients of every kind run at once: the browser mix over plain and TLS, downloads, uploads, chunked
bodies, HTTP/2 and WebSockets. In a slice of *chaos* clients reset in mid-request, in mid-body and
in mid-response, whole HTTP/2 clients are killed, and the origin resets before, within and behind
its answers. What is promised in the end: memory is flat, nothing unforeseen is in the log, no
connection is left, and in the calm slices not one request failed.

Invariant: slices of both kinds alternate, so that each third of the time holds as much of either.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench import client, machine, payloads
from bench.load import H2_COUNTS, H2_FIELDS
from bench.origins import prepare
from bench.peers import Lab, builds
from bench.procs import BenchError, Proc, free_ports, pinned, raise_file_limit, spawn, wait_for_port
from bench.run import OUT, RESULTS, cores, say

LONG = 15.0  # minutes from which on a result is committed
PERMILLE = 20  # of requests that meet a reset, on either side
GROWTH = 0.05  # of memory, from the middle third to the last
GROWTH_KIB = 2048  # a change smaller than this is never growth
SAMPLE_SECONDS = 1.0
KEEPALIVE_IDLE = 5.0  # seconds after which the pool lets go of what is idle
REST_SECONDS = 40.0  # for everything to close once the load has stopped
SPARE_FILES = 4  # descriptors that an event loop or a log may have opened since the start
H2_LIFE = 1.5  # seconds that an HTTP/2 client lives in the chaos before it is killed
SLACK = 20.0  # seconds beyond its slice before a client is given up
UNFORESEEN = re.compile(
    r"internal error|Traceback|never retrieved|never awaited|Exception ignored|"
    r"ResourceWarning|Task was destroyed|Fatal|MemoryError",
)
ESTABLISHED, LISTEN = "01", "0A"


@dataclass
class Slice:
    """What happened in one stretch of time."""

    kind: str  # calm or chaos
    seconds: float
    clients: dict[str, dict[str, Any]] = field(default_factory=dict)
    memory: list[int] = field(default_factory=list)  # KiB, PSS
    sockets: list[int] = field(default_factory=list)
    busy: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "seconds": round(self.seconds, 1),
            "busy": round(self.busy, 3),
            "memory_kib": median(self.memory) if self.memory else 0,
            "memory_kib_peak": max(self.memory, default=0),
            "sockets_peak": max(self.sockets, default=0),
            "clients": self.clients,
        }


def flat(curve: list[float]) -> tuple[bool, float, float]:
    """Whether the last third of a curve is no higher than the middle one; both medians."""
    third = max(1, len(curve) // 3)
    middle, last = median(curve[third : 2 * third]), median(curve[-third:])
    return last - middle <= max(middle * GROWTH, GROWTH_KIB), middle, last


def unforeseen(log: str) -> list[str]:
    """Lines of the log that should not be there."""
    return [line for line in log.splitlines() if UNFORESEEN.search(line)]


def socket_states(tcp: str, inodes: set[str]) -> dict[str, int]:
    """From /proc/net/tcp: how many of these sockets are in each state."""
    found: dict[str, int] = {}
    for line in tcp.splitlines()[1:]:
        parts = line.split()
        if len(parts) > 9 and parts[9] in inodes:
            found[parts[3]] = found.get(parts[3], 0) + 1
    return found


def open_files(pid: int) -> list[str]:
    """Where the process's descriptors point to."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


def connections(pid: int) -> dict[str, int]:
    """TCP sockets of the process by state, those that listen left out."""
    inodes = {link[8:-1] for link in open_files(pid) if link.startswith("socket:[")}
    found: dict[str, int] = {}
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/net/{table}").read_text()
            for state, count in socket_states(text, inodes).items():
                found[state] = found.get(state, 0) + count
    found.pop(LISTEN, None)
    return found


class Soak:
    """The state of one soak."""

    def __init__(self, lab: Lab, seconds: float, only: tuple[str, ...] = ()) -> None:
        self.lab = lab
        self.only = only  # clients by prefix; empty: all
        count = 12 if seconds >= 300 else 6
        self.kinds = ["calm", "chaos"] * (count // 2)
        self.length = seconds / count
        self.plain, self.tls, self.origin_plain, self.origin_tls = free_ports(4)
        self.slices: list[Slice] = []
        self.origin: Proc
        self.proxy: Proc

    def start(self) -> None:
        lab = self.lab
        argv = [sys.executable, "-m", "bench.chaos", str(self.origin_plain), str(self.origin_tls)]
        argv += [str(lab.cert), str(lab.key), str(PERMILLE)]
        self.origin = spawn("chaos", argv, lab.load_cores, lab.work / "chaos.log", lab.load_env)
        wait_for_port(self.origin, self.origin_tls)
        argv = [sys.executable, "-m", "rawproxy", "--no-redirect", "--upstream-verify", "off"]
        argv += ["--upstream", f"http://127.0.0.1:{self.origin_plain}"]
        argv += ["--upstream", f"https://127.0.0.1:{self.origin_tls}"]
        argv += ["--http", f"127.0.0.1:{self.plain}", "--https", f"127.0.0.1:{self.tls}"]
        argv += ["--cert", str(lab.cert), "--key", str(lab.key)]
        argv += ["--keepalive-idle", str(KEEPALIVE_IDLE)]
        argv += ["--access-log", str(lab.work / "access.log")]
        argv += os.environ.get("BENCH_RAWPROXY_ARGS", "").split()
        self.proxy = spawn("rawproxy", argv, lab.proxy_cores, lab.work / "rawproxy.log")
        wait_for_port(self.proxy, self.tls)

    def commands(self, chaos: bool) -> dict[str, list[str]]:
        """One command line a client; HTTP/2 is another matter."""
        lab, seconds, cut = self.lab, self.length, PERMILLE if chaos else 0
        found = {}
        for name, templates, tls, count in (
            ("mix-plain", "mix", False, 48),
            ("mix-tls", "mix", True, 24),
            ("get-16k-tls", "16k", True, 4),
            ("get-1m-plain", "1m", False, 2),
            ("upload-1m-plain", "upload", False, 2),
            ("upload-1m-tls", "upload", True, 2),
            ("chunked-16k-plain", "chunked", False, 4),
        ):
            found[name] = client.command(
                lab.work,
                self.tls if tls else self.plain,
                templates,
                tls=tls,
                connections=count,
                seconds=seconds,
                warm=0.0,
                chaos=cut,
            )
        for mode, port in (("plain", self.plain), ("tls", self.tls)):
            argv = [sys.executable, "-m", "bench.wsload", "storm", str(port), mode, "16", "1024"]
            found[f"websocket-{mode}"] = [*argv, f"{seconds:.1f}", str(cut * 10)]
        return found

    def slice(self, kind: str) -> Slice:
        """Run every client for one slice and watch the proxy meanwhile."""
        chaos = kind == "chaos"
        os.kill(self.origin.pid, signal.SIGUSR1 if chaos else signal.SIGUSR2)
        found = Slice(kind, self.length)
        before, began = self.proxy.cpu_seconds(), time.monotonic()
        threads = [
            threading.Thread(target=self._client, args=(found, name, argv), daemon=True)
            for name, argv in self.commands(chaos).items()
            if self._wanted(name)
        ]
        if self._wanted("http2"):
            threads.append(threading.Thread(target=self._http2, args=(found, chaos), daemon=True))
        for thread in threads:
            thread.start()
        end = began + self.length
        while time.monotonic() < end:
            time.sleep(min(SAMPLE_SECONDS, max(0.0, end - time.monotonic())))
            self.proxy.check()
            self.origin.check()
            found.memory.append(self.proxy.private_kib())
            found.sockets.append(sum(connections(self.proxy.pid).values()))
        took = time.monotonic() - began
        found.busy = (self.proxy.cpu_seconds() - before) / took
        for thread in threads:
            thread.join(SLACK)
        return found

    def _wanted(self, name: str) -> bool:
        return not self.only or name.startswith(self.only)

    def _client(self, found: Slice, name: str, argv: list[str]) -> None:
        try:
            with pinned(self.lab.load_cores):
                done = subprocess.run(
                    argv,
                    capture_output=True,
                    timeout=self.length + SLACK - 5,
                    env={**os.environ, **self.lab.load_env},
                    check=False,
                )
            line = next(x for x in done.stdout.decode().splitlines() if x.startswith("BENCH "))
            told = json.loads(line[6:])
        except (OSError, subprocess.TimeoutExpired, StopIteration) as error:
            found.clients[name] = {"requests": 0, "errors": 1, "why": repr(error)[:200]}
            return
        keys = ("requests", "errors", "resets", "refused", "reopened", "why")
        found.clients[name] = {key: told[key] for key in keys if told.get(key)}

    def _http2(self, found: Slice, chaos: bool) -> None:
        """h2load, once for the whole slice; in the chaos it is killed and started again."""
        total = errors = killed = 0
        end = time.monotonic() + self.length
        while (left := end - time.monotonic()) > 0.5:
            argv = ["h2load", "-t1", "-c8", "-m4", "-D", str(max(1, int(left)))]
            argv += ["-i", str(self.lab.work / "h2-paths.txt")]
            argv += ["-B", f"https://{payloads.HOST}:{self.tls}"]
            argv += ["--connect-to", f"127.0.0.1:{self.tls}"]
            for item in H2_FIELDS:
                argv += ["-H", item]
            env = {**os.environ, **self.lab.load_env}
            with pinned(self.lab.load_cores):
                popen = subprocess.Popen(
                    argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
                )
            try:
                out, _err = popen.communicate(timeout=H2_LIFE if chaos else left + SLACK - 5)
            except subprocess.TimeoutExpired:
                popen.kill()
                popen.communicate()
                killed += 1
                errors += not chaos
                continue
            counts = H2_COUNTS.search(out.decode(errors="replace"))
            if counts:
                total += int(counts[3])
                errors += int(counts[5]) + int(counts[6]) + int(counts[7])
        found.clients["http2"] = {"requests": total, "errors": errors, "resets": killed * 8}

    def rest(self) -> dict[str, int]:
        """Wait until the proxy has no connection left; what is left when patience ends."""
        end = time.monotonic() + REST_SECONDS
        while (left := connections(self.proxy.pid)) and time.monotonic() < end:
            time.sleep(0.5)
        return left


def judge(slices: list[Slice], left: dict[str, int], files: tuple[int, int], log: str) -> Any:
    """The verdicts, each with its figures."""
    is_flat, middle, last = flat([float(kib) for one in slices for kib in one.memory])
    bad = unforeseen(log)
    calm = {
        f"{place} {name}": told
        for place, one in enumerate(slices, 1)
        for name, told in one.clients.items()
        if one.kind == "calm" and told.get("errors")
    }
    totals: dict[str, int] = {}
    for one in slices:
        for told in one.clients.values():
            for key in ("requests", "resets", "refused", "errors"):
                place = f"{one.kind}_{key}"
                totals[place] = totals.get(place, 0) + int(told.get(key, 0))
    before, after = files
    return {
        "totals": totals,
        "memory": {"good": is_flat, "middle_third_kib": middle, "last_third_kib": last},
        "log": {"good": not bad, "lines": len(bad), "first": bad[:5]},
        "connections": {
            "good": not left and after <= before + SPARE_FILES,
            "left_by_state": left,
            "files_before": before,
            "files_after": after,
        },
        "calm": {"good": not calm, "errors": calm},
    }


def execute(minutes: float, output: Path | None = None, only: tuple[str, ...] = ()) -> int:
    """Soak and judge; the exit code says whether all was well."""
    for tool in ("h2load",):
        if not shutil.which(tool):
            raise BenchError(f"{tool} is not installed: `make bench-peers`")
    raise_file_limit()
    proxy_cores, load_cores = cores()
    work = Path(tempfile.mkdtemp(prefix="rawproxy-soak-"))
    try:
        cert, key = prepare(work)
        soak = Soak(Lab(work, cert, key, proxy_cores, load_cores), minutes * 60, only)
        soak.start()
        try:
            results = _run(soak, minutes)
        finally:
            soak.proxy.close()
            soak.origin.close()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    target = output or (RESULTS if minutes >= LONG and not only else OUT) / "soak.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    target.with_suffix(".md").write_text(markdown(results))
    say("\n" + markdown(results))
    return 0 if results["passed"] else 1


def _run(soak: Soak, minutes: float) -> dict[str, Any]:
    taken = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    files_before = len(open_files(soak.proxy.pid))
    say(f"{len(soak.kinds)} slices of {soak.length:.0f} s")
    for number, kind in enumerate(soak.kinds, 1):
        one = soak.slice(kind)
        soak.slices.append(one)
        told = one.as_json()
        answered = sum(int(x.get("requests", 0)) for x in one.clients.values())
        errors = sum(int(x.get("errors", 0)) for x in one.clients.values())
        say(
            f"[{number}/{len(soak.kinds)}] {kind:<6}{answered / one.seconds:>9,.0f} answers/s, "
            f"proxy {one.busy:.0%} busy, {told['memory_kib'] / 1024:.1f} MiB, "
            f"{told['sockets_peak']} sockets, {errors} errors"
        )
    left = soak.rest()
    files = (files_before, len(open_files(soak.proxy.pid)))
    verdicts = judge(soak.slices, left, files, soak.proxy.log.read_text(errors="replace"))
    return {
        "taken": taken,
        "minutes": minutes,
        "machine": machine.facts(),
        "builds": builds(),
        "passed": all(one["good"] for one in verdicts.values() if "good" in one),
        **verdicts,
        "slices": [one.as_json() for one in soak.slices],
    }


def markdown(results: dict[str, Any]) -> str:
    """The verdict in a few lines."""
    mark = {True: "yes", False: "**no**"}
    totals, memory = results["totals"], results["memory"]
    left = results["connections"]
    lines = [
        f"# Soak: {'passed' if results['passed'] else 'failed'}",
        "",
        f"{results['taken']}, {results['minutes']:g} minutes, one rawproxy on one core, load and "
        "origin on the other; every second slice with connections cut at random on both sides.",
        "",
        "| question | answer | figures |",
        "|---|---|---|",
        f"| memory flat | {mark[memory['good']]} | median PSS "
        f"{memory['middle_third_kib'] / 1024:.1f} MiB in the middle third, "
        f"{memory['last_third_kib'] / 1024:.1f} MiB in the last |",
        f"| nothing unforeseen in the log | {mark[results['log']['good']]} | "
        f"{results['log']['lines']} lines |",
        f"| no connection left | {mark[left['good']]} | {sum(left['left_by_state'].values())} "
        f"sockets; {left['files_before']} open files before, {left['files_after']} after |",
        f"| calm slices without an error | {mark[results['calm']['good']]} | "
        f"{totals.get('calm_errors', 0)} of {totals.get('calm_requests', 0):,} requests |",
        "",
        f"In the chaos: {totals.get('chaos_requests', 0):,} requests answered, "
        f"{totals.get('chaos_resets', 0):,} cut by clients, {totals.get('chaos_refused', 0):,} "
        f"answered with an error of the proxy's own, {totals.get('chaos_errors', 0):,} lost with "
        "their connection.",
    ]
    return "\n".join(lines) + "\n"
