"""Requests and WebSockets through new processes, killed workers and renewed certificates.

    python -m tests.production.reloads      `make reloads`: 200,000 requests, 500 WebSockets

SIGUSR2 asks for new processes, as new code, another listener or another number of workers would.
Changes that need none have a trial of their own: `changes`. What it finds is written to RELOADS.md
beside this file. `test_reloads` is the same, smaller.
"""

import argparse
import asyncio
import contextlib
import os
import pathlib
import signal
import sys
import tempfile
import time
from dataclasses import dataclass

import psutil

from .stage import workers
from .trial import Trial, counted, table, tried, write_page

FORGET = 10.0  # seconds after a kill until its connections' ports may be others'


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    requests: int
    sockets: int
    reloads: int
    kills: int
    renewals: int
    clients: int = 12
    drain: int = 8
    workers: int = 2


FULL = Size(requests=200_000, sockets=500, reloads=10, kills=5, renewals=5)


class Run(Trial):
    """One run."""

    def __init__(self, size: Size) -> None:
        super().__init__(size)
        self.replaced: list[float] = []  # seconds from SIGUSR2 till the new generation serves
        self.renewed = 0  # certificates, each seen by clients
        self.lost = 0  # connections of killed workers

    def run(self) -> None:
        """All of it. Raises `AssertionError` where an event does not come about."""
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            self.pem = pathlib.Path(folder, "pair.pem")
            self.issue()
            port = self.upstream(stack)
            words = [
                "--upstream", f"http://127.0.0.1:{port}", "--https", "127.0.0.1:0",
                "--cert", str(self.pem), "--key", str(self.pem), "--no-redirect",
                "--workers", str(self.size.workers), "--access-log", "off",
                "--drain-timeout", str(self.size.drain),
            ]  # fmt: skip
            self.proxy = stack.enter_context(tried(*words, https=False))
            self.https = self.proxy._port("https")
            self.serve()
            self.upstream_closes = self.closes_of(port)

    async def events(self) -> None:
        """Reloads, with a kill or a renewal between them, as long as the load lasts."""
        size, tally = self.size, self.tally
        await self.until(lambda: tally.sockets == size.sockets, "all WebSockets")
        kills, renewals = size.kills, size.renewals
        for reload in range(size.reloads):
            await self.reload()
            await asyncio.sleep(size.drain / 3)
            if renewals * size.reloads > (size.reloads - 1 - reload) * size.renewals:
                renewals -= 1
                await self.renew()
            if kills * size.reloads > (size.reloads - 1 - reload) * size.kills:
                kills -= 1
                await self.kill()
        await self.until(lambda: tally.h1 + tally.h2 >= size.requests, "all requests", 1200)
        await self.until(lambda: tally.sockets == size.sockets, "all WebSockets again")
        await asyncio.sleep(1)
        tally.over = True

    async def reload(self) -> None:
        before, began = self.proxy.err().count("reloaded:"), time.monotonic()
        self.proxy.process.send_signal(signal.SIGUSR2)
        await self.until(lambda: self.proxy.err().count("reloaded:") > before, "reload")
        self.replaced.append(time.monotonic() - began)

    async def kill(self) -> None:
        """SIGKILL to the worker that has the most connections."""
        of = {pid: connections(pid) for pid in workers(self.proxy)}
        pid = max(of, key=lambda pid: len(of[pid]))
        os.kill(pid, signal.SIGSTOP)  # what it has now is what it loses
        doomed = connections(pid)
        self.tally.doomed |= doomed
        self.lost += len(doomed)
        os.kill(pid, signal.SIGKILL)
        asyncio.get_running_loop().call_later(FORGET, self.tally.doomed.difference_update, doomed)
        await self.until(lambda: f"({pid}): it was killed" in self.proxy.err() or pid not in
                         workers(self.proxy), "a killed worker's end")  # fmt: skip

    async def renew(self) -> None:
        """Its new connections are shown the new certificate, soon and by every worker."""
        await self.until_shown(self.issue(), self.tls("http/1.1"))
        self.renewed += 1

    def report(self) -> str:
        """What came of it, for people."""
        tally, size = self.tally, self.size
        rows = [
            ("requests answered", f"{tally.h1:,} HTTP/1.1, {tally.h2:,} HTTP/2"),
            ("WebSockets open throughout", f"{size.sockets}"),
            ("messages echoed, compressed and fragmented", f"{tally.messages:,}"),
            ("connections of HTTP clients", f"{tally.connections:,}"),
            ("times all processes were replaced", f"{len(self.replaced)}; SIGUSR2 till the new workers serve: "
             f"{min(self.replaced):.2f} to {max(self.replaced):.2f} s"),
            ("certificates renewed, each seen by clients", f"{self.renewed}"),
            ("workers killed", f"{size.kills}, with {self.lost} connections"),
            ("**lost through new processes and renewals**", f"**{counted(tally.failed)}**"),
            ("lost on the killed workers' own connections", counted(tally.killed)),
            ("HTTP/2 requests above a GOAWAY, sent again", f"{tally.refused_and_sent_again}"),
            ("WebSocket clients closed by 1012", f"{tally.closes['1012']:,}"),
            ("closes that the upstream saw", counted(self.upstream_closes)),
            ("seconds", f"{self.seconds:.0f}"),
        ]  # fmt: skip
        return table(rows)


def connections(pid: int) -> set[int]:
    """The ports of the clients whose connections this worker has."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return {c.raddr.port for c in psutil.Process(pid).net_connections("tcp") if c.raddr}
    return set()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=FULL.requests)
    parser.add_argument("--sockets", type=int, default=FULL.sockets)
    options = parser.parse_args()
    size = Size(options.requests, options.sockets, FULL.reloads, FULL.kills, FULL.renewals)
    run = Run(size)
    run.run()
    print(run.report())
    if size == FULL:
        write_page("RELOADS.md", "Through new processes", "reloads", run.report())
    return 1 if run.tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
