"""Keeps fresh what the name of an upstream stands for.

It asks again when the TTL is over, and at once when a dial failed. So if a container was started
again under another address, the first request that misses it finds it. While there is no answer,
the last good one stays in use. The question is then repeated at longer and longer intervals, and
the log says so once.

This module never dials. Invariant: at most one question is under way, and at least a second passes
from one to the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rawproxy.config.model import Upstream
from rawproxy.errors import DialError, ignore
from rawproxy.upstream.resolver import Resolver, Server

LEAST = 1.0  # seconds between two questions, whatever the TTL
# Docker says 600 for every name, but may change an address at any time. If another container has
# the address now, dials do not fail there: with this bound it is left after half a minute all the
# same.
MOST = 30.0
PATIENCE = 2.0  # seconds that a request waits for a newer answer after its dial failed


class NameWatch:
    """Asks again and again. `changed` is called when the answer is another one."""

    def __init__(
        self,
        upstream: Upstream,
        resolver: Resolver,
        changed: Callable[[tuple[Server, ...]], None],
        warn: Callable[[str], None],
    ) -> None:
        self.upstream = upstream
        self.resolver = resolver
        self.changed = changed
        self.warn = warn
        self.servers: tuple[Server, ...] = ()
        self.error: DialError | None = None
        self.failures = 0  # in a row
        self.questions = 0
        self._asked = -LEAST  # when, by the loop's clock
        self._asking = False
        self._over = False
        self._wanted = asyncio.Event()
        self._answered = asyncio.Event()

    def __repr__(self) -> str:
        return (
            f"<NameWatch {self.upstream.url} servers={len(self.servers)} failures={self.failures}>"
        )

    async def run(self) -> None:
        """Ask again and again, until this task is cancelled."""
        loop = asyncio.get_running_loop()
        while not self._over:
            self._wanted.clear()
            self._asked = loop.time()
            self._asking = True
            ttl = await self._ask()
            self._asking = False
            self._answered.set()
            self._answered = asyncio.Event()
            try:
                async with asyncio.timeout(ttl):
                    await self._wanted.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(max(self._asked + LEAST - loop.time(), 0))

    async def _ask(self) -> float:
        """Ask once. Returns the seconds until the next question."""
        self.questions += 1
        try:
            answer = await self.resolver.servers(self.upstream)
        except DialError as error:
            self.error = error
            self.failures += 1
            if self.failures == 1:
                known = ", ".join(server.name for server in self.servers)
                going_on = f"; going on with {known}" if known else ""
                self.warn(f"upstream {self.upstream.url}: {error.detail}{going_on}")
            return min(LEAST * 2.0 ** min(self.failures - 1, 10), MOST)
        if self.failures:
            self.failures = 0
            self.error = None
            if self.servers:
                self.warn(f"upstream {self.upstream.url}: its name is resolved again")
        if answer.servers != self.servers:
            self.servers = answer.servers
            self.changed(answer.servers)
        return min(max(answer.ttl, LEAST), MOST)

    def stop(self) -> None:
        """The upstream is of no more interest: no question follows, and no answer is told."""
        self._over = True
        self.changed = ignore
        self._wanted.set()

    def ask_again(self) -> None:
        """Ask soon: a dial failed, so the last answer may be out of date."""
        self._wanted.set()

    async def newer(self, than: float) -> None:
        """Wait for the answer to a question asked after `than` (seconds of the loop's clock).

        That takes little more than a second at the most, and is better than an error: an upstream
        that was restarted is found at its new address. If thousands of clients come back at once,
        one question serves all of them.
        """
        if self._asked <= than:
            self._wanted.set()
            await self._wait()

    async def known(self) -> tuple[Server, ...]:
        """The servers; wait if there are none yet. Raises `DialError`."""
        if not self.servers:
            if self.error is None:
                await self._wait()
            else:
                await self.newer(asyncio.get_running_loop().time())
        if not self.servers:
            raise self.error or DialError("the upstream's name is not resolved yet", 504)
        return self.servers

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._answered.wait()
        except TimeoutError:
            pass
