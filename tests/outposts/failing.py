"""What becomes of requests, and of another site, while a guard fails under load.

64 clients ask a guarded site without a pause. A bystander in a process of its own asks a site of the
same proxy that has no guard, every five milliseconds.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.attacks.bystander import Met
from tests.attacks.stage import upstream
from tests.process import free_port

from .fronts import Front, running

KINDS = {
    "well": "says yes at once",
    "dead": "does not take connections",
    "hangs": "says nothing",
    "500": "says that it is broken",
    "10 MB": "says yes, and then 10 MB",
    "slow": "says yes after 300 ms",
    "drips": "sends a byte of its head each 50 ms",
}
CLIENTS = 64
LATE = 5.0  # seconds behind the end after which a client that still waits is given up
REQUEST = b"GET /2 HTTP/1.1\r\nHost: app.domain.test\r\n\r\n"


@dataclass
class Load:
    """What the clients of the guarded site got."""

    statuses: collections.Counter[str] = field(default_factory=collections.Counter)
    longest: float = 0.0  # seconds for an answer

    async def client(self, port: int, end: float) -> None:
        """One client: a request at a time, over a connection for as long as it lasts."""
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    await self._ask(reader, writer, end)
                finally:
                    writer.close()

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, end: float
    ) -> None:
        while time.monotonic() < end:
            began = time.monotonic()
            status, closes = "no answer", True
            try:
                async with asyncio.timeout(end + LATE - began):
                    writer.write(REQUEST)
                    status, closes = await _answer(reader)
            except (TimeoutError, asyncio.IncompleteReadError):
                return
            finally:
                self.statuses[status] += 1
                self.longest = max(self.longest, time.monotonic() - began)
            if closes:
                return


async def _answer(reader: asyncio.StreamReader) -> tuple[str, bool]:
    """The status, and whether the connection ends behind it."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = head.split()[1].decode()
    if b"transfer-encoding: chunked" in head:
        await reader.readuntil(b"0\r\n\r\n")
    length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length or 0))
    return status, b"connection: close" in head


@contextlib.contextmanager
def guard(kind: str) -> Iterator[int]:
    """A guard of this kind; its port."""
    if kind == "dead":
        yield free_port()
        return
    command = [sys.executable, "-m", "tests.outposts.unwell", kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


async def _all(load: Load, front: Front, end: float) -> int:
    """Everybody asks; the most memory that the proxy had."""
    tasks = [asyncio.create_task(load.client(front.port, end)) for _ in range(CLIENTS)]
    most = front.program.rss()
    while not all(task.done() for task in tasks):
        await asyncio.wait(tasks, timeout=0.1)
        most = max(most, front.program.rss())
    await asyncio.gather(*tasks)
    return most


def measure(front: Front, seconds: float) -> dict[str, Any]:
    """The figures of one proxy with one guard."""
    load = Load()
    command = [sys.executable, "-m", "tests.attacks.bystander", str(front.port)]
    pipe = subprocess.PIPE
    before = front.program.rss()
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as bystander:
        most = asyncio.run(_all(load, front, time.monotonic() + seconds))
        out, _ = bystander.communicate()
    met = Met(*json.loads(out))
    return {
        "answers": dict(sorted(load.statuses.items())),
        "longest": round(1000 * load.longest),
        "grown": round((most - before) / 1e6, 1),
        "bystander": met._asdict(),
    }


def figures(name: str, seconds: float) -> dict[str, dict[str, Any]]:
    """Of one proxy with every kind of guard."""
    found = {}
    with upstream() as app:
        for kind in KINDS:
            with guard(kind) as port, running(name, app, port) as front:
                found[kind] = measure(front, seconds)
            print(f"{name:9} {kind:6} {json.dumps(found[kind])}", flush=True)
    return found
