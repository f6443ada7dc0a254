"""What routes cost: the look-ups of `micro` by pyperf, and the start of sites with 3,000 servers.

    python -m bench routes             writes bench/results/routes.json and ROUTES.md
    python -m bench routes --quick     fewer values: to see that it runs

Each is measured with the plain build, and with the compiled one where `make fast` has made it. A
start is that of `rawproxy --nginx` with one worker, from its process to `rawproxy ready`, with
bytecode that was kept, as an installation has it; its CPU time is that of master and worker. The
servers have one location each, or three with an upstream and headers of their own. A look-up
repeats a path only after dozens of others. It never judges. Invariant: what stands in the results
file was measured in one run on one machine.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

import pyperf

from bench.machine import facts
from bench.micro import SITES
from bench.procs import BenchError, free_ports

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
STARTS = 5
PROCESSES = 8  # of each row, one after the other; three values each
PATIENCE = 300.0  # seconds for all look-ups of one build: they take a minute
READY = 60.0  # seconds that a start may take, on whatever machine
WANTED_SECONDS, WANTED_US = 3.0, 3.0
# By what a server has; those of the first kind have to start within the seconds that are wanted.
SERVERS = {
    "one location each": """server {{
    listen 127.0.0.1:{port};
    server_name s{number}.example.test;
    location / {{ proxy_pass http://10.0.{high}.{low}:80; proxy_set_header Host $host; }}
}}
""",
    "three locations, an upstream and headers each": """server {{
    listen 127.0.0.1:{port};
    server_name s{number}.example.test www.s{number}.example.test;
    add_header X-Server {number};
    location / {{ proxy_pass http://10.0.{high}.{low}:80; proxy_set_header Host $host; }}
    location /api/ {{ proxy_pass http://up{number}/v1/; }}
    location ~ \\.php$ {{ return 403; }}
}}
upstream up{number} {{ server 10.1.{high}.{low}:80; }}
""",
}
FIRST = next(iter(SERVERS))


def configuration(kind: str, servers: int, port: int) -> str:
    """An nginx configuration of so many servers of a kind."""
    return "".join(
        SERVERS[kind].format(number=one, port=port, high=one // 200, low=one % 200 + 1)
        for one in range(servers)
    )


def pythons() -> dict[str, Path]:
    """The builds that are here, by their names."""
    compiled = ROOT / ".venv-fast" / "bin" / "python"
    found = {"plain": Path(sys.executable)}
    return found | ({"compiled": compiled} if compiled.exists() else {})


def lookups(python: Path, build: str, quick: bool) -> dict[str, dict[str, float]]:
    """Microseconds of each `route:` row of `micro`: median and deviation, by pyperf."""
    with tempfile.TemporaryDirectory() as folder:
        # A folder without the source: what is imported is what that Python has installed.
        shutil.copytree(ROOT / "bench", Path(folder, "bench"), ignore=shutil.ignore_patterns("out"))
        if build == "plain":
            os.symlink(ROOT / "rawproxy", Path(folder, "rawproxy"))
        output = Path(folder, "micro.json")
        environ = {**os.environ, "PYTHONPATH": f"{folder}:{sysconfig.get_path('purelib')}"}
        command = [python, "-m", "bench.micro", "--routes", "--inherit-environ=PYTHONPATH", "-q"]
        command += ["-o", output, f"--processes={2 if quick else PROCESSES}"]
        ran = subprocess.run(
            [str(one) for one in command],
            cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
        if ran.returncode:
            raise BenchError(f"micro with {python}: {ran.stderr[-800:]}")
        suite = pyperf.BenchmarkSuite.load(str(output))
    return {
        one.get_name(): {"us": one.median() * 1e6, "deviation": one.stdev() * 1e6} for one in suite
    }


def start(python: Path, config: Path, port: int) -> tuple[float, float]:
    """Seconds of one start, and of CPU that master and worker have used until then."""
    environ = {**os.environ, "PYTHONPYCACHEPREFIX": str(config.parent / "bytecode")}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.monotonic()
    process = subprocess.Popen(
        [str(python), "-m", "rawproxy", "--nginx", str(config), "--access-log", "off"],
        cwd=config.parent, env=environ, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    line = ""
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("rawproxy ready"):
                return time.monotonic() - began, _cpu(process.pid)
            if time.monotonic() - began > READY:
                break
        raise BenchError(
            f"rawproxy was not ready on port {port} within {READY:g} s: {line.strip()}"
        )
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(READY)


def _cpu(pid: int) -> float:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = 0
    for one in (str(pid), *children):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def starts(python: Path, kind: str, servers: int, times: int) -> dict[str, float]:
    """The median of some starts, in seconds."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "servers.conf")
        config.write_text(configuration(kind, servers, port))
        start(python, config, port)  # bytecode and files are in memory from here on
        found = [start(python, config, port) for _ in range(times)]
    wall, cpu = zip(*found, strict=True)
    return {"seconds": statistics.median(wall), "cpu": statistics.median(cpu), "most": max(wall)}


def execute(quick: bool, output: Path) -> str:
    """Measure, save, and write the page; returns it."""
    results: dict[str, Any] = {
        "taken": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": facts(),
        "servers": SITES,
        "builds": {},
    }
    for name, python in pythons().items():
        print(f"{name}: the look-ups, then {1 if quick else STARTS} starts", flush=True)
        results["builds"][name] = {
            "rows": lookups(python, name, quick),
            "start": {
                kind: starts(python, kind, SITES, 1 if quick else STARTS) for kind in SERVERS
            },
        }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=1) + "\n")
    made = page(results)
    output.with_name("ROUTES.md").write_text(made)
    return made


def page(results: dict[str, Any]) -> str:
    """The results for readers."""
    builds = results["builds"]
    rows = next(iter(builds.values()))["rows"]
    lines = [
        "# What routes cost",
        "",
        f"Written by `python -m bench routes`: {results['taken']}, {results['machine']['cpu']}.",
        "",
        f"| | wanted | {' | '.join(builds)} |",
        f"|---|--:|{'--:|' * len(builds)}",
    ]
    for kind in SERVERS:
        told = [one["start"][kind] for one in builds.values()]
        name = f"start with {results['servers']:,} servers, {kind}, s"
        wanted = f"< {WANTED_SECONDS:g}" if kind == FIRST else ""
        lines.append(_row(name, wanted, [f"{one['seconds']:.2f}" for one in told]))
        lines.append(_row("CPU time of it, s", "", [f"{one['cpu']:.2f}" for one in told]))
    for name in rows:
        wanted = f"< {WANTED_US:g}" if f"of {results['servers']} sites" in name else ""
        took = [one["rows"][name] for one in builds.values()]
        lines.append(
            _row(f"{name}, µs", wanted, [f"{it['us']:.2f} ± {it['deviation']:.2f}" for it in took])
        )
    return "\n".join(lines) + "\n"


def _row(name: str, wanted: str, cells: list[str]) -> str:
    return f"| {name} | {wanted} | {' | '.join(cells)} |"
