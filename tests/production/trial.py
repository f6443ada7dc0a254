"""What the trials at length have in common: clients of all kinds while something is done to a proxy.

    Trial.serve    HTTP/1.1, HTTP/2 and WebSockets, until `events` says in the tally that it is over
    write_page     what came of it, beside this file, with the date and which build was tried

`RAWPROXY_PROGRAM` names the rawproxy that is tried, as `.venv-fast/bin/rawproxy`; without it that is
the source of this tree. This module never says what is done to the proxy:
`events` of each trial does.
"""

import asyncio
import contextlib
import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import trustme

from tests.process import PATIENCE, SOURCE, RawProxy

from .load_clients import Http2, Tally, http1, websocket
from .stage import ask

CA = trustme.CA()
PAUSE = 3.0  # seconds of silence between the requests of every third client, at most


class Trial:
    """One run. `size` has `clients` and `sockets`: how many of each, half of the clients over TLS."""

    proxy: RawProxy
    pem: pathlib.Path  # the certificate and its key
    https: int  # the port

    def __init__(self, size: Any) -> None:
        self.size = size
        self.tally = Tally()
        self.seconds = 0.0

    async def events(self) -> None:
        """What is done to the proxy meanwhile. It ends with `tally.over`."""
        raise NotImplementedError

    # ── what is started ─────────────────────────────────────────────────────────────────────────

    def upstream(self, stack: contextlib.ExitStack) -> int:
        """A process that answers, echoes, and counts how WebSockets are closed; its port."""
        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "tests.production.load_upstream"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(process.stdin.close)
        return int(process.stdout.readline())

    def closes_of(self, port: int) -> dict[str, int]:
        """How WebSockets were closed, as that upstream saw it."""
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
            ask(sock)
            sock.sendall(b"GET /closes HTTP/1.1\r\nHost: h\r\n\r\n")
            return json.loads(sock.recv(65536).partition(b"\r\n\r\n")[2])

    def issue(self) -> int:
        """A new certificate over the old one; its serial number."""
        leaf = CA.issue_cert("localhost")
        new = self.pem.with_suffix(".new")
        leaf.private_key_and_cert_chain_pem.write_to_path(str(new))
        os.replace(new, self.pem)
        return serial_of(leaf.cert_chain_pems[0].bytes())

    def tls(self, *protocols: str) -> ssl.SSLContext:
        """What clients trust."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without the system's authorities
        CA.configure_trust(context)
        context.set_alpn_protocols(protocols)
        return context

    # ── the load ────────────────────────────────────────────────────────────────────────────────

    def serve(self) -> None:
        """The load, as long as the events last. Raises what one of them raises."""
        began = time.monotonic()
        asyncio.run(self._load())
        self.seconds = time.monotonic() - began

    async def _load(self) -> None:
        tally, size, h1 = self.tally, self.size, self.tls("http/1.1")
        clients = []
        for number in range(size.clients):
            tls, port = (h1, self.https) if number % 2 else (None, self.proxy.http)
            clients.append(asyncio.create_task(http1(tally, port, tls, PAUSE * (number % 3 == 0))))
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

    async def until(self, condition: Callable[[], object], what: str, seconds: float = 90) -> None:
        """Wait for the proxy or the clients to get somewhere."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{what}: {self.tally}\n{self.proxy.err()[-2000:]}"
            await asyncio.sleep(0.05)

    async def shown(self, tls: ssl.SSLContext) -> int:
        """The serial number of the certificate that a new connection is shown."""
        _, writer = await asyncio.open_connection(
            "127.0.0.1", self.https, ssl=tls, server_hostname="localhost"
        )
        serial = int(writer.get_extra_info("peercert")["serialNumber"], 16)
        writer.transport.abort()
        return serial

    async def until_shown(self, serial: int, tls: ssl.SSLContext) -> None:
        """Wait until ten new connections in a row are shown that certificate."""
        seen, end = 0, time.monotonic() + 30
        while seen < 10:
            assert time.monotonic() < end, "the new certificate is not in use"
            seen = seen + 1 if await self.shown(tls) == serial else 0
            await asyncio.sleep(0.05)


def serial_of(pem: bytes) -> int:
    """The serial number of the first certificate in `pem`."""
    from cryptography import x509

    return x509.load_pem_x509_certificates(pem)[0].serial_number


# ── what came of it ─────────────────────────────────────────────────────────────────────────────


def counted(kinds: Counter[str]) -> str:
    """`3 HTTP/2, 1 WebSocket`, or none."""
    return ", ".join(f"{many} {kind}" for kind, many in sorted(kinds.items())) or "none"


def table(rows: list[tuple[str, str]]) -> str:
    """The rows in Markdown."""
    return "\n".join(["| what | how many |", "|---|---|"] + [f"| {a} | {b} |" for a, b in rows])


def program() -> tuple[str, ...]:
    """The rawproxy that is tried."""
    path = os.environ.get("RAWPROXY_PROGRAM")
    return (os.path.abspath(path),) if path else SOURCE


def tried(*arguments: str, **options: Any) -> RawProxy:
    """It, with these arguments."""
    return RawProxy(*arguments, program=program(), **options)


def build() -> str:
    """Which rawproxy is tried: what its `--version` says."""
    told = subprocess.run([*program(), "--version"], stdout=subprocess.PIPE, text=True, check=True)
    return told.stdout.strip()


def write_page(name: str, title: str, target: str, text: str) -> None:
    """The page `name` beside this file. `target` is what make is to be told."""
    when = time.strftime("%Y-%m-%d", time.gmtime())
    head = f"# {title}\n\n`make {target}`, {when}, {os.cpu_count()} CPUs, {build()}.\n\n"
    pathlib.Path(__file__).with_name(name).write_text(f"{head}{text}\n")
