"""Rates with figures: a million addresses, two workers, and a flood from one address.

Addresses are told by `X-Forwarded-For` of a trusted proxy, as behind a balancer.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import ipaddress
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from tests.process import RawProxy

FILE = """\
upstream = "http://127.0.0.1:9"
access-log = "off"
workers = {workers}
trusted-proxy = ["127.0.0.1"]

[[site]]
{rate}

[[site.route]]
respond = {{ status = 200, body = "ok" }}
"""
PIPELINED = 100  # requests in one write
CONNECTIONS = 8
SPAN = 50_000  # requests over one connection, of which rawproxy takes 100,000 unless told otherwise
GOLDEN = 2654435761  # odd, so that multiples of it run through all 32-bit numbers in no order


@contextlib.contextmanager
def proxy(rate: str, workers: int = 1) -> Iterator[RawProxy]:
    """A rawproxy that answers by itself, with this rate."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "rawproxy.toml")
        path.write_text(FILE.format(rate=rate, workers=workers))
        with RawProxy("--config", str(path), https=False) as running:
            yield running


def address(number: int) -> str:
    """The address of so manieth a client: every second one has IPv6, a network of its own."""
    mixed = number * GOLDEN % 2**32
    if number % 2:
        return str(ipaddress.IPv6Address((0x20010DB8 << 96) + (mixed << 64) + number))
    return str(ipaddress.IPv4Address(mixed))


async def many(port: int, first: int, last: int, found: collections.Counter[int]) -> None:
    """One request of each address, over one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for start in range(first, last, PIPELINED):
        numbers = range(start, min(start + PIPELINED, last))
        heads = "".join(
            f"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {address(number)}\r\n\r\n"
            for number in numbers
        )
        writer.write(heads.encode())
        for _ in numbers:
            found[await status(reader)] += 1
    writer.close()


async def status(reader: asyncio.StreamReader) -> int:
    """The status of the next answer, which is read whole."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length or 0))
    return int(head[9:12])


def addresses(total: int) -> dict[str, Any]:
    """So many addresses ask once; one that has asked too often is refused all the while."""
    rate = "request-rate = { requests = 10, per = 3600, burst = 9 }"

    async def greedy(port: int, count: int) -> list[int]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, local_addr=("127.0.0.2", 0)
        )
        statuses = []
        for _ in range(count):  # who asks by itself is counted by its own address
            writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            statuses.append(await status(reader))
        writer.close()
        return statuses

    async def ask(port: int, found: collections.Counter[int]) -> tuple[int, int]:
        before = await greedy(port, 20)
        spans = iter(range(0, total, SPAN))  # shared: who is done takes the next

        async def several() -> None:
            for first in spans:
                await many(port, first, min(first + SPAN, total), found)

        await asyncio.gather(*(several() for _ in range(CONNECTIONS)))
        return before.count(200), (await greedy(port, 1))[0]

    found: collections.Counter[int] = collections.Counter()
    with proxy(rate) as running:
        asyncio.run(many(running.http, 0, 2000, collections.Counter()))  # it is warm
        before = running.rss()
        began = time.monotonic()
        allowed, last = asyncio.run(ask(running.http, found))
        took = time.monotonic() - began
        grown = running.rss() - before
    return {
        "addresses": total, "seconds": round(took, 1), "grown": round(grown / 1e6, 1),
        "served": found[200], "refused": found[429], "greedy": allowed, "afterwards": last,
    }  # fmt: skip


def workers(
    limits: tuple[int, ...] = (10, 100, 1000), seconds: float = 5.0
) -> list[dict[str, Any]]:
    """One client asks two workers for more than it may have; how much it gets."""

    async def one(port: int, end: float, found: collections.Counter[int]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < end:
            writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            answer = await status(reader)
            found[answer] += 1
            if answer == 429:
                await asyncio.sleep(0.002)
        writer.close()

    async def ask(port: int, found: collections.Counter[int]) -> float:
        began = time.monotonic()
        end = began + seconds
        await asyncio.gather(*(one(port, end, found) for _ in range(16)))
        return time.monotonic() - began

    told = []
    for limit in limits:
        found: collections.Counter[int] = collections.Counter()
        rate = f"request-rate = {{ requests = {limit}, per = 1, burst = {limit // 10} }}"
        with proxy(rate, workers=2) as running:
            took = asyncio.run(ask(running.http, found))
            pids = len(running.family()) - 1
        may = 1 + limit // 10 + limit * took
        told.append(
            {"limit": limit, "workers": pids, "may": round(may), "served": found[200],
             "refused": found[429], "ratio": round(found[200] / may, 3)}
        )  # fmt: skip
    return told


def flood(seconds: float = 5.0) -> list[dict[str, Any]]:
    """32 connections of one address ask without a pause; somebody else asks 50 times a second."""

    async def greedy(port: int, end: float, found: collections.Counter[int]) -> None:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, local_addr=("127.0.0.2", 0)
        )
        while time.monotonic() < end:
            writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            found[await status(reader)] += 1
        writer.close()

    async def ask(port: int, found: collections.Counter[int]) -> None:
        end = time.monotonic() + seconds
        await asyncio.gather(*(greedy(port, end, found) for _ in range(32)))

    told = []
    for what in ("nobody floods", "one address floods"):
        found: collections.Counter[int] = collections.Counter()
        with proxy("request-rate = { requests = 100, per = 1, burst = 50 }") as running:
            command = [sys.executable, "-m", "tests.outposts.honest", str(running.http)]
            pipe = subprocess.PIPE
            with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as honest:
                if what == "nobody floods":
                    time.sleep(seconds)
                else:
                    asyncio.run(ask(running.http, found))
                out, _ = honest.communicate()
        told.append({"what": what, "flood": dict(found), **json.loads(out)})
    return told
