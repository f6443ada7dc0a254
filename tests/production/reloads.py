"""Requests and WebSockets through new processes, killed workers and renewed certificates.

    python -m tests.production.reloads      `make reloads`: 200,000 requests, 500 WebSockets

Changes that need no new processes have a test of their own: `changes`. What it finds is written to RELOADS.md beside this file. `test_reloads` is the same, smaller.
"""

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import psutil
import trustme

from tests.process import PATIENCE, RawProxy

from .load_clients import Http2, Tally, http1, websocket
from .stage import ask, workers

FORGET = 10.0  # seconds after a kill until its connections' ports may be others'
CA = trustme.CA()


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


class Run:
    """One run."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.tally = Tally()
        self.replaced: list[float] = []  # seconds from SIGUSR2 till the new generation serves
        self.shown: set[int] = set()  # serial numbers of the certificates that clients saw
        self.lost = 0  # connections of killed workers
        self.seconds = 0.0

    def run(self) -> None:
        """All of it. Raises `AssertionError` where an event does not come about."""
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            self.pem = pathlib.Path(folder, "pair.pem")
            self.issue()
            upstream = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.production.load_upstream"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(upstream.stdin.close)
            self.upstream = int(upstream.stdout.readline())
            self.proxy = stack.enter_context(
                RawProxy(
                    "--upstream",
                    f"http://127.0.0.1:{self.upstream}",
                    "--https",
                    "127.0.0.1:0",
                    "--cert",
                    str(self.pem),
                    "--key",
                    str(self.pem),
                    "--no-redirect",
                    "--workers",
                    str(self.size.workers),
                    "--access-log",
                    "off",
                    "--drain-timeout",
                    str(self.size.drain),
                    https=False,
                )
            )
            self.https = self.proxy._port("https")
            began = time.monotonic()
            asyncio.run(self.load())
            self.seconds = time.monotonic() - began
            with socket.create_connection(("127.0.0.1", self.upstream), PATIENCE) as sock:
                ask(sock)
                sock.sendall(b"GET /closes HTTP/1.1\r\nHost: h\r\n\r\n")
                self.upstream_closes = json.loads(sock.recv(65536).partition(b"\r\n\r\n")[2])

    def tls(self, *protocols: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        CA.configure_trust(context)
        context.set_alpn_protocols(protocols)
        return context

    async def load(self) -> None:
        tally, size, h1 = self.tally, self.size, self.tls("http/1.1")
        clients = []
        for number in range(size.clients):
            pause = 3.0 if number % 3 == 0 else 0.0
            tls, port = (h1, self.https) if number % 2 else (None, self.proxy.http)
            clients.append(asyncio.create_task(http1(tally, port, tls, pause)))
        for _ in range(max(size.clients // 4, 1)):
            client = Http2(tally, self.https, self.tls("h2"), streams=10)
            clients.append(asyncio.create_task(client.run()))
        sockets = [
            asyncio.create_task(websocket(tally, self.https, h1)) for _ in range(size.sockets)
        ]
        events = asyncio.create_task(self.events())
        done, _ = await asyncio.wait([events, *clients, *sockets], return_when="FIRST_EXCEPTION")
        for task in done:
            task.result()

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

    async def until(self, condition, what: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{what}: {self.tally}\n{self.proxy.err()[-2000:]}"
            await asyncio.sleep(0.05)

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

    def issue(self) -> int:
        """A new certificate over the old one; its serial number."""
        leaf = CA.issue_cert("localhost")
        new = self.pem.with_suffix(".new")
        leaf.private_key_and_cert_chain_pem.write_to_path(str(new))
        os.replace(new, self.pem)
        return int(ssl_serial(leaf))

    async def renew(self) -> None:
        """Its new connections are shown the new certificate, soon and by every worker."""
        serial = self.issue()
        tls, seen = self.tls("http/1.1"), 0
        end = time.monotonic() + 30
        while seen < 10:
            assert time.monotonic() < end, "the new certificate is not in use"
            _, writer = await asyncio.open_connection(
                "127.0.0.1", self.https, ssl=tls, server_hostname="localhost"
            )
            shown = int(writer.get_extra_info("peercert")["serialNumber"], 16)
            writer.transport.abort()
            seen = seen + 1 if shown == serial else 0
            await asyncio.sleep(0.05)
        self.shown.add(serial)

    def report(self) -> str:
        """What came of it, for people."""
        tally, size = self.tally, self.size
        killed = ", ".join(f"{n} {kind}" for kind, n in sorted(tally.killed.items())) or "none"
        failed = ", ".join(f"{n} {kind}" for kind, n in sorted(tally.failed.items())) or "none"
        upstream = ", ".join(f"{n} {code}" for code, n in sorted(self.upstream_closes.items()))
        rows = [
            ("requests answered", f"{tally.h1:,} HTTP/1.1, {tally.h2:,} HTTP/2"),
            ("WebSockets open throughout", f"{size.sockets}"),
            ("messages echoed, compressed and fragmented", f"{tally.messages:,}"),
            ("connections of HTTP clients", f"{tally.connections:,}"),
            ("reloads", f"{len(self.replaced)}; SIGUSR2 till the new workers serve: "
             f"{min(self.replaced):.2f} to {max(self.replaced):.2f} s"),
            ("certificates renewed, each seen by clients", f"{len(self.shown)}"),
            ("workers killed", f"{size.kills}, with {self.lost} connections"),
            ("**lost through reloads and renewals**", f"**{failed}**"),
            ("lost on the killed workers' own connections", killed),
            ("HTTP/2 requests above a GOAWAY, sent again", f"{tally.refused_and_sent_again}"),
            ("WebSocket clients closed by 1012", f"{tally.closes['1012']:,}"),
            ("closes that the upstream saw", upstream),
            ("seconds", f"{self.seconds:.0f}"),
        ]  # fmt: skip
        return "\n".join(["| what | how many |", "|---|---|"] + [f"| {a} | {b} |" for a, b in rows])


def connections(pid: int) -> set[int]:
    """The ports of the clients whose connections this worker has."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return {c.raddr.port for c in psutil.Process(pid).net_connections("tcp") if c.raddr}
    return set()


def ssl_serial(leaf: trustme.LeafCert) -> int:
    from cryptography import x509

    return x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number


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
        when = time.strftime("%Y-%m-%d", time.gmtime())
        text = f"# Through reloads\n\n`make reloads`, {when}, {os.cpu_count()} CPUs.\n\n"
        pathlib.Path(__file__).with_name("RELOADS.md").write_text(text + run.report() + "\n")
    return 1 if run.tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
