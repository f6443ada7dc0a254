"""What a guard costs requests that it is asked about, and others, in instructions.

`python -m bench.instructions` runs rawproxy under valgrind's callgrind, with and without a guard,
and nginx, whose question is the yardstick. It writes `results/guard-instructions.json` and a table
of docs/access.md. Counting begins when every cache of ours is warm. Counted is what runs in user
space, of the proxy alone; the kernel's share, and time, are the bench's to tell (row
`guarded-plain`).

It never measures time. Invariant: what was started is stopped.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from bench import payloads
from bench.peers import CONFIGS, PEERS, ROOT, Lab, Setup, builds, own_python
from bench.procs import BenchError, Proc, free_ports, spawn, wait_for_port
from bench.report import update
from bench.run import RESULTS
from bench.train import Client, Origin

OUT = RESULTS / "guard-instructions.json"
PAGE = ROOT / "docs" / "access.md"
MARK = "instructions"
WARM, COUNTED = 300, 1000  # requests
PATIENCE = 300.0  # seconds for anything: callgrind takes fifty times as long
GUARD = (CONFIGS / "guard.toml").read_text().partition("[[site]]")[0]
SITES = '[[site]]\nserver-name = "other.test"\n{auth}\n[[site]]\n'
ROUTES = '[[site]]\n[[site.route]]\n[[site.route]]\npath = "/other"\n{auth}\n'
ASKS = 'auth = "sso"'
# For each: the file without a guard, and with one.
CASES = {
    "a guard is asked about it": ("[[site]]\n", f"{GUARD}[[site]]\n{ASKS}\n"),
    "another site has a guard": (SITES.format(auth=""), GUARD + SITES.format(auth=ASKS)),
    "another route of its site has one": (ROUTES.format(auth=""), GUARD + ROUTES.format(auth=ASKS)),
}
NGINX = "nginx: a guard is asked about it"
_numbers = itertools.count(1)
# What a proxy is started with: its folder, its upstream's port and its own.
Command = Callable[[Path, int, int], list[str]]


async def requests(client: Client, count: int) -> None:
    """The browser mix; each answer is a 200."""
    heads = payloads.browser_heads()
    for _ in range(count):
        await client.ask(payloads.browser_request(next(_numbers), heads))


def rawproxy(text: str, folder: Path, upstream: int, port: int) -> list[str]:
    """How rawproxy is started with this configuration."""
    config = folder / "rawproxy.toml"
    config.write_text(text.replace("${upstream}", str(upstream)))
    argv = [*own_python()[0], "-m", "rawproxy", "--config", str(config), "--access-log", "off"]
    return [*argv, "--http", f"127.0.0.1:{port}", "--upstream", f"http://127.0.0.1:{upstream}"]


def nginx(guard: bool, folder: Path, upstream: int, port: int) -> list[str]:
    """How nginx is started, as in the bench. Its worker is ours: valgrind is let in."""
    lab = Lab(folder, folder, folder, (), ())
    argv = PEERS["nginx"].command(lab, Setup(upstream, guard=guard), port)
    return argv if os.geteuid() else [*argv, "-g", "user root;"]


@contextmanager
def proxy(command: Command, folder: Path, upstream: int, port: int) -> Iterator[Proc]:
    """A proxy under callgrind, which does not count yet."""
    argv = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--trace-children=yes"]
    argv += [f"--callgrind-out-file={folder}/%p.out", *command(folder, upstream, port)]
    env = own_python()[1] | {"PYTHONHASHSEED": "0"}
    proc = spawn("proxy", argv, (0, 1), folder / "log", env)
    try:
        wait_for_port(proc, port, PATIENCE)
        yield proc
    finally:
        proc.close()


def counting(proc: Proc, on: str) -> None:
    """Begin or stop to count."""
    for pid in proc.tree():
        argv = ["callgrind_control", "-i", on, str(pid)]
        done = subprocess.run(argv, capture_output=True, timeout=60, check=False)
        if done.returncode:
            raise BenchError(f"callgrind_control: {done.stderr.decode()[-300:]}")


async def instructions(command: Command, work: Path) -> float:
    """The instructions of one request, through the proxy that `command` starts."""
    origin = await asyncio.get_running_loop().create_server(Origin, "127.0.0.1", 0)
    upstream = origin.sockets[0].getsockname()[1]
    (port,) = free_ports(1)
    folder = Path(tempfile.mkdtemp(dir=work))

    def begin() -> Proc:
        return stack.enter_context(proxy(command, folder, upstream, port))

    with ExitStack() as stack:
        stack.callback(origin.close)
        proc = await asyncio.to_thread(begin)
        async with asyncio.timeout(PATIENCE), Client(port, None) as client:
            await requests(client, WARM)
            await asyncio.to_thread(counting, proc, "on")
            await requests(client, COUNTED)
            await asyncio.to_thread(counting, proc, "off")
    total = 0
    for path in folder.glob("*.out"):
        found = re.findall(r"^(?:summary|totals): (\d+)", path.read_text(), re.M)
        total += max(map(int, found), default=0)
    if not total:
        raise BenchError(f"callgrind counted nothing: {(folder / 'log').read_text()[-400:]}")
    return total / COUNTED


def block(results: dict[str, Any]) -> str:
    """The table of docs/access.md."""
    lines = [
        "`python -m bench.instructions` wrote this: instructions in user space for a small GET of"
        f" the browser mix, by callgrind; rawproxy {results['build']}.\n",
        "| | without a guard | with it | more |",
        "|---|--:|--:|--:|",
    ]
    for what, (without, with_it) in results["cases"].items():
        more = with_it - without
        lines.append(
            f"| {what} | {without:,.0f} | {with_it:,.0f} | {more:+,.0f} ({more / without:+.1%}) |"
        )
    return "\n".join(lines) + "\n"


async def main() -> None:
    """All cases; the results file and the page."""
    if not shutil.which("callgrind_control"):
        raise BenchError("valgrind is not installed")
    results: dict[str, Any] = {"build": builds()["rawproxy"], "cases": {}}
    pairs: dict[str, list[Command]] = {
        what: [partial(rawproxy, text) for text in texts] for what, texts in CASES.items()
    }
    if PEERS["nginx"].version() is not None:
        pairs[NGINX] = [partial(nginx, guard) for guard in (False, True)]
    with tempfile.TemporaryDirectory(prefix="rawproxy-instructions-") as work:
        for what, commands in pairs.items():
            pair = [await instructions(command, Path(work)) for command in commands]
            results["cases"][what] = pair
            print(f"{what}: {pair[0]:,.0f} without, {pair[1]:,.0f} with", flush=True)
    OUT.write_text(json.dumps(results, indent=1) + "\n")
    update(PAGE, block(results), MARK)


if __name__ == "__main__":
    uvloop.run(main())
