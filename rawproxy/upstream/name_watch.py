"""One upstream that is given by a name: what it stands for, kept fresh.

It asks again when the TTL is over, and at once when a dial failed: a container that was started
again under another address is found by the first request that misses it. While there is no answer
the last good one stays in use, the question is repeated with back-off, and the log says so once.

It never dials. Invariant: at most one question is under way, and a second passes between two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rawproxy.config.model import Upstream
from rawproxy.errors import DialError
from rawproxy.upstream.resolver import Resolver, Server

LEAST = 1.0  # seconds between two questions, whatever the TTL
# Docker says 600 for every name and changes its mind at any time. With this an address that no
# longer refuses connections, as another container has it now, is left after half a minute.
MOST = 30.0
PATIENCE = 2.0  # seconds that a request whose dial failed waits for a newer answer


class NameWatch:
    """Keeps asking; tells `changed` of every other answer."""

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
        self._wanted = asyncio.Event()
        self._answered = asyncio.Event()

    def __repr__(self) -> str:
        return (
            f"<NameWatch {self.upstream.url} servers={len(self.servers)} failures={self.failures}>"
        )

    async def run(self) -> None:
        """For as long as the upstream is of interest."""
        loop = asyncio.get_running_loop()
        while True:
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
        """One question; seconds until the next."""
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

    def ask_again(self) -> None:
        """A dial failed, so the answer may be out of date."""
        self._wanted.set()

    async def newer(self, than: float) -> None:
        """Wait for the answer to a question put later `than` that, by the loop's clock.

        A second and a bit at the most, and better than an error: an upstream that starts again is
        somewhere else by then, and clients that come back at once find one answer, not thousands.
        """
        if self._asked <= than:
            self._wanted.set()
            await self._wait()

    async def known(self) -> tuple[Server, ...]:
        """The servers, once there are any. Raises `DialError`."""
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
