"""Requests and WebSockets through changes that are made in place.

    python -m tests.production.changes      `make changes`: 200,000 requests, 500 WebSockets

50 changes, of each kind in turn: a site is added, a route removed, a group gets another member, the
certificate is replaced, a limit changed, a rate added. Each is seen to be in force by clients. No
request may fail and no WebSocket may notice. What it finds is written to CHANGES.md beside this
file. `test_changes` is the same, smaller.
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
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import psutil

from .stage import workers
from .trial import Trial, counted, table, tried, write_page

SEEN = 12  # new connections in a row that must see a change: both workers accept some of them


@dataclass(frozen=True)
class Bulk:
    """How much of everything. `crowd` are sites that nobody asks for."""

    requests: int
    sockets: int
    changes: int
    crowd: int = 0
    clients: int = 12


FULL = Bulk(requests=200_000, sockets=500, changes=50, crowd=3000)


@dataclass
class Facts:
    """What the configuration says now."""

    extra: list[int] = field(default_factory=list)  # sites that were added
    route: bool = True
    members: int = 1
    body: int = 1000
    rate: int = 0


class ChangingRun(Trial):
    """One run."""

    def __init__(self, size: Bulk) -> None:
        super().__init__(size)
        self.facts = Facts()
        self.took: dict[str, list[float]] = {}  # seconds from SIGHUP till clients see it, by kind
        self.memory: list[int] = []  # of the workers, behind each change

    def run(self) -> None:
        """All of it. Raises `AssertionError` where a change does not come about."""
        with contextlib.ExitStack() as stack:
            self.folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self.pem, self.file = self.folder / "pair.pem", self.folder / "rawproxy.toml"
            self.issue()
            self.upstreams = [self.upstream(stack) for _ in range(2)]
            self.write()
            self.proxy = stack.enter_context(tried("--config", str(self.file), https=False))
            self.https = self.proxy._port("https")
            self.serve()
            self.closes = [self.closes_of(port) for port in self.upstreams]

    def text(self) -> str:
        """The file. The load is on `localhost`; probes are on other sites of it."""
        facts = self.facts
        members = ", ".join(
            f'"http://127.0.0.1:{port}"' for port in self.upstreams[: facts.members]
        )
        gone = '[[site.route]]\npath = "/gone"\nrespond = { status = 410 }\n'
        rate = f"request-rate = {{ requests = {facts.rate}, per = 1 }}\n" if facts.rate else ""
        lines = [
            f'https = "127.0.0.1:0"\nno-redirect = true\nworkers = 2\naccess-log = "off"\n'
            f"[limits]\nbody = {facts.body}\n[group.app]\nupstream = [{members}]\n",
            f'[[site]]\nserver-name = "localhost"\ncert = "{self.pem}"\nkey = "{self.pem}"\n{rate}'
            f"[[site.route]]\ngroup = \"app\"\n{gone if facts.route else ''}",
        ]  # fmt: skip
        for name in [f"extra{n}.test" for n in facts.extra] + [
            f"crowd{n}.test" for n in range(self.size.crowd)
        ]:
            lines.append(f'[[site]]\nserver-name = "{name}"\n[[site.route]]\ngroup = "app"\n')
        return "".join(lines)

    def write(self) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(self.text())
        os.replace(new, self.file)

    async def events(self) -> None:
        size, tally = self.size, self.tally
        await self.until(lambda: tally.sockets == size.sockets, "all WebSockets")
        before = workers(self.proxy)
        kinds = [self.site, self.route, self.members, self.certificate, self.limit, self.rate]
        for number in range(size.changes):
            kind = kinds[number % len(kinds)]
            seen = kind()
            began = time.monotonic()
            await self.reload()
            while not await self.is_seen(seen):
                assert time.monotonic() < began + 30, f"{kind.__name__} is not in force"
            self.took.setdefault(kind.__name__, []).append(time.monotonic() - began)
            self.memory.append(sum(psutil.Process(pid).memory_info().rss for pid in before))
        assert workers(self.proxy) >= before, "a process was replaced"
        await self.until(lambda: tally.h1 + tally.h2 >= size.requests, "all requests", 1200)
        assert tally.sockets == size.sockets, f"WebSockets ended: {tally}"
        tally.over = True

    async def reload(self) -> None:
        before = self.proxy.err().count("changed in place")
        self.proxy.process.send_signal(signal.SIGHUP)
        await self.until(lambda: self.proxy.err().count("changed in place") > before, "change")

    # ── the kinds of change: each gives what tells that it is in force ──────────────────────────

    def site(self) -> Callable[[], Awaitable[bool]]:
        """A site is added; of more than three, the oldest goes."""
        self.facts.extra.append((self.facts.extra or [0])[-1] + 1)
        self.facts.extra = self.facts.extra[-3:]
        name = f"extra{self.facts.extra[-1]}.test"
        self.write()
        return lambda: self.answers(name, "/x", "200")

    def route(self) -> Callable[[], Awaitable[bool]]:
        """A route is removed, or is there again."""
        self.facts.route = not self.facts.route
        self.write()
        status = "410" if self.facts.route else "200"
        return lambda: self.answers("localhost", "/gone", status)

    def members(self) -> Callable[[], Awaitable[bool]]:
        """A group gets another member, or loses one that WebSockets go to."""
        self.facts.members = 3 - self.facts.members
        self.write()
        return lambda: self.answers("localhost", "/x", "200")

    def certificate(self) -> Callable[[], Awaitable[bool]]:
        """The certificate's files are replaced."""
        serial = self.issue()
        tls = self.tls("http/1.1")

        async def seen() -> bool:
            return await self.shown(tls) == serial

        return seen

    def limit(self) -> Callable[[], Awaitable[bool]]:
        """The limit of bodies, which the load never reaches."""
        self.facts.body += 1
        self.write()
        size, body = self.facts.body, b"x" * self.facts.body

        async def holds() -> bool:
            fits = await self.answers("localhost", "/x", "200", body)
            return fits and await self.answers("localhost", "/x", "413", body + b"x")

        assert size == len(body)
        return holds

    def rate(self) -> Callable[[], Awaitable[bool]]:
        """A rate that the load never reaches, and another one the next time."""
        self.facts.rate = self.facts.rate + 1 if self.facts.rate else 1_000_000
        self.write()
        return lambda: self.answers("localhost", "/x", "200")

    async def answers(self, host: str, path: str, status: str, body: bytes = b"") -> bool:
        """One request over a connection of its own; whether it has that status."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy.http)
        method = b"POST" if body else b"GET"
        lines = [b"%b %b HTTP/1.1" % (method, path.encode()), b"Host: " + host.encode()]
        lines += [b"Connection: close", b"Content-Length: %d" % len(body)] if body else []
        writer.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        answer = await reader.readline()
        writer.transport.abort()
        return answer.split()[1:2] == [status.encode()]

    async def is_seen(self, seen: Callable[[], Awaitable[bool]]) -> bool:
        """Whether so many in a row see it."""
        return all([await seen() for _ in range(SEEN)])

    def growth(self) -> float:
        """Bytes that the workers' memory has grown by for each change, over the later half."""
        half = self.memory[len(self.memory) // 2 :]
        return (half[-1] - half[0]) / max(len(half) - 1, 1)

    def report(self) -> str:
        """What came of it, for people."""
        tally, size = self.tally, self.size
        closes = sum(sum(of.values()) for of in self.closes)
        rows = [
            ("requests answered", f"{tally.h1:,} HTTP/1.1, {tally.h2:,} HTTP/2"),
            ("WebSockets open throughout", f"{size.sockets}"),
            ("messages echoed, compressed and fragmented", f"{tally.messages:,}"),
            ("sites", f"{size.crowd + 1:,} and those added"),
            ("changes", f"{size.changes}"),
            *(
                (f"{kind}: SIGHUP till {SEEN} new connections in a row have seen it",
                 f"{min(times):.2f} to {max(times):.2f} s")
                for kind, times in self.took.items()
            ),
            ("**failed requests**", f"**{counted(tally.failed)}**"),
            ("**WebSockets that were closed**", f"**{tally.closes.total()}**"),
            ("goodbyes that upstreams heard before the end", f"{closes - size.sockets}"),
            ("workers' memory behind the first, middle and last change",
             ", ".join(f"{self.memory[at] / 1e6:.1f} MB"
                       for at in (0, len(self.memory) // 2, -1))),
            ("seconds", f"{self.seconds:.0f}"),
        ]  # fmt: skip
        return table(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=FULL.requests)
    parser.add_argument("--sockets", type=int, default=FULL.sockets)
    parser.add_argument("--changes", type=int, default=FULL.changes)
    parser.add_argument("--crowd", type=int, default=FULL.crowd)
    told = parser.parse_args()
    size = Bulk(told.requests, told.sockets, told.changes, told.crowd)
    run = ChangingRun(size)
    run.run()
    print(run.report())
    if size == FULL:
        write_page("CHANGES.md", "Through changes in place", "changes", run.report())
    return 1 if run.tally.failed or run.tally.closes else 0


if __name__ == "__main__":
    sys.exit(main())
