"""Certificates by themselves, at length: ten renewals under load, and a thousand names.

    python -m tests.production.certificates      `make certificates`

Pebble is the authority; it refuses nonces and looks late. A thousand names are compared with as many
certificates that are given by --cert, and with one. What it finds is written to CERTIFICATES.md
beside this file. `test_certificates` is the same, smaller, with all the ways to prove a name.
"""

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import random
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

import psutil
import trustme

from rawproxy.acme.archive import Archive, write
from rawproxy.acme.plan import Record
from rawproxy.acme.settings import Authority
from tests.process import free_port

from .authority import Pebble
from .reloads import Size
from .trial import Trial, build, counted, program, serial_of, tried

RENEWALS = 10
NAMES = 1000
HANDSHAKES = 600


class Renewals(Trial):
    """HTTP/1.1, HTTP/2 and WebSockets while the certificate is renewed again and again."""

    def __init__(self, pebble: Pebble, folder: str, size: Size) -> None:
        super().__init__(size)
        self.pebble = pebble
        self.state = os.path.join(folder, "state")
        self.issuer = ""
        self.renewed = 0  # certificates, each seen by clients

    def run(self) -> None:
        """All of it. Raises `AssertionError` where an event does not come about."""
        with contextlib.ExitStack() as stack:
            self.options = [
                "--upstream", f"http://127.0.0.1:{self.upstream(stack)}",
                "--https", f"127.0.0.1:{self.pebble.tls}", "--server-name", "localhost",
                "--acme", "me@a.test", "--state", self.state, *self.pebble.options(),
            ]  # fmt: skip
            self.proxy = stack.enter_context(
                tried(
                    *self.options, "--no-redirect", "--workers", str(self.size.workers),
                    "--access-log", "off", https=False, http=f"127.0.0.1:{self.pebble.http}",
                )
            )  # fmt: skip
            self.https = self.pebble.tls
            self.proxy.says("localhost: a new certificate is there")
            time.sleep(3)  # every worker has looked
            self.issuer = self.pebble.issuer()
            self.serve()

    def tls(self, *protocols: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.issuer)
        context.set_alpn_protocols(protocols)
        return context

    async def events(self) -> None:
        """Renewals, as long as the load lasts."""
        await self.until(lambda: self.tally.sockets == self.size.sockets, "all WebSockets")
        for _ in range(self.size.renewals):
            await self.renew()
        await self.until(lambda: self.tally.sockets == self.size.sockets, "all WebSockets still")
        self.tally.over = True

    async def renew(self) -> None:
        """By the command that people type."""
        words = [*program(), "certificates", "renew", *self.options]
        done = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE)
        said, _ = await done.communicate()
        assert said == b"localhost: renewed\n", (said, self.proxy.err()[-2000:])
        live = os.path.join(self.state, "acme", "live", "localhost.pem")
        await self.until_shown(serial_of(pathlib.Path(live).read_bytes()), self.tls("http/1.1"))
        self.renewed += 1

    def rows(self) -> list[tuple[str, str]]:
        """What came of it."""
        tally = self.tally
        return [
            ("certificates renewed, each seen by clients", f"{self.renewed}"),
            ("requests answered meanwhile", f"{tally.h1:,} HTTP/1.1, {tally.h2:,} HTTP/2"),
            ("WebSockets open throughout", f"{self.size.sockets}"),
            ("messages echoed", f"{tally.messages:,}"),
            ("**failed**", f"**{counted(tally.failed)}**"),
            ("seconds", f"{self.seconds:.0f}"),
        ]


class Thousand:
    """So many names, kept by themselves or given, and what each costs."""

    def __init__(self, folder: str, count: int) -> None:
        self.folder, self.count = folder, count
        self.names = [f"n{number}.test" for number in range(count)]
        self.ca = trustme.CA()
        self.state = os.path.join(folder, "state")
        authority = Authority("https://127.0.0.1:1/dir")
        archive = Archive(os.path.join(self.state, "acme"), (authority,))
        # The authority is not to be asked for its windows: it is not what is measured.
        later = Record(ask_at=time.time() + 10**6)
        for name in self.names:
            pem = self.ca.issue_cert(name).private_key_and_cert_chain_pem.bytes()
            write(archive.of(authority, name, "certificate.pem"), pem)
            archive.save_record(authority, name, later)
            archive.link(authority, name)

    def measure(self, label: str, names: int, given: bool) -> dict[str, object]:
        """Start a proxy with so many of them; what it takes."""
        port = free_port()
        path = pathlib.Path(self.folder, "f.toml")
        text = f'upstream = "http://127.0.0.1:1"\nhttps = ["127.0.0.1:{port}"]\nadmin = "unix:{self.folder}/a"\n'
        if not given:
            text += (
                f'acme = "me@a.test"\nacme-ca = "https://127.0.0.1:1/dir"\nstate = "{self.state}"\n'
            )
        chosen = self.names[:names]
        for name in chosen:
            text += f'[[site]]\nserver-name = "{name}"\n'
            if given:
                live = os.path.join(self.state, "acme", "live", name + ".pem")
                text += f'cert = "{live}"\nkey = "{live}"\n'
        path.write_text(text)
        began = time.monotonic()
        with tried("--config", str(path), https=False, http="127.0.0.1:0") as proxy:
            started = time.monotonic() - began
            time.sleep(3)
            children = psutil.Process(proxy.process.pid).children()
            worker = next(
                c for c in children if any(x.status == "LISTEN" for x in c.net_connections("tcp"))
            )
            keeper = next((c for c in children if c != worker), None)
            memory = worker.memory_full_info().uss
            before = worker.cpu_times()
            taken = [self._handshake(port, random.choice(chosen)) for _ in range(HANDSHAKES)]
            after = worker.cpu_times()
            spent = after.user + after.system - before.user - before.system
            idle = worker.cpu_times()
            time.sleep(5)
            rest = worker.cpu_times()
            return {
                "what": label, "start": started, "memory": memory,
                "handshake": statistics.median(taken), "cpu": spent / HANDSHAKES,
                "idle": (rest.user + rest.system - idle.user - idle.system) / 5,
                "keeper": keeper.memory_full_info().uss if keeper else 0,
            }  # fmt: skip

    def _handshake(self, port: int, name: str) -> float:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.ca.configure_trust(context)
        with socket.create_connection(("127.0.0.1", port)) as sock:
            began = time.perf_counter()
            with context.wrap_socket(sock, server_hostname=name):
                return time.perf_counter() - began

    def rows(self) -> list[str]:
        """A table."""
        found = [
            self.measure("1 name, given", 1, True),
            self.measure("1 name, kept by itself", 1, False),
            self.measure(f"{self.count} names, given", self.count, True),
            self.measure(f"{self.count} names, kept by themselves", self.count, False),
        ]
        lines = ["| | start, s | memory of the worker, MiB | of each name, KiB | handshake, ms "
                 "| of it the worker's CPU, ms | CPU of an idle worker, % | keeper, MiB |",
                 "|---|--:|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
        for at, one in enumerate(found):
            each = (one["memory"] - found[at % 2]["memory"]) / (self.count - 1) / 1024
            lines.append(
                f"| {one['what']} | {one['start']:.2f} | {one['memory'] / 2**20:.1f} "
                f"| {f'{each:.0f}' if at > 1 else ''} | {one['handshake'] * 1000:.2f} "
                f"| {one['cpu'] * 1000:.2f} | {one['idle'] * 100:.1f} "
                f"| {one['keeper'] / 2**20:.0f} |"
            )
        return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--renewals", type=int, default=RENEWALS)
    parser.add_argument("--names", type=int, default=NAMES)
    parser.add_argument("--clients", type=int, default=12)
    options = parser.parse_args()
    when = time.strftime("%Y-%m-%d", time.gmtime())
    lines = [
        "# Certificates by themselves", "",
        f"`make certificates`, {when}, {os.cpu_count()} CPUs, {build()}.", "", "## Renewals under load", "",
        "Pebble is the authority; it refuses 15 % of good nonces and looks up to a second late.", "",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        failed = 0
        if options.renewals:
            with Pebble(PEBBLE_VA_NOSLEEP="", PEBBLE_VA_SLEEPTIME="1") as pebble:
                size = Size(0, 60, 0, 0, options.renewals, clients=options.clients)
                run = Renewals(pebble, folder, size)
                run.run()
                failed = len(run.tally.failed)
                lines += ["| what | how many |", "|---|---|"]
                lines += [f"| {a} | {b} |" for a, b in run.rows()]
                print(json.dumps(run.rows()))
    with tempfile.TemporaryDirectory() as folder:
        if options.names:
            lines += ["", f"## {options.names} names", ""]
            lines += [
                "Full handshakes of one client, one after the other, for names at random.",
                "",
            ]
            lines += Thousand(folder, options.names).rows()
    print("\n".join(lines))
    if (options.renewals, options.names) == (RENEWALS, NAMES):
        path = pathlib.Path(__file__).with_name("CERTIFICATES.md")
        path.write_text("\n".join(lines) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
