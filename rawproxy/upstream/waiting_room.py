"""Requests that wait while every upstream of a group refuses connections, as during a restart.

    enter ──► a place in a bounded, fair queue; the first ticket starts the knocking
    knock ──► a dial of our own to each upstream, again and again, until one succeeds
    open  ──► all tickets go on at once; the pool decides who may dial and who waits

There is one dial at a time for each upstream, not one for each request. So a thousand clients that
come back at once are no storm for a machine that is busy already. Tickets have no timers: the sweep
looks at their deadlines.

This module never looks at a request. Invariants: somebody knocks exactly while somebody waits. A
ticket that left is not called.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from rawproxy.balancing.fair_queue import FairQueue
from rawproxy.errors import DialError
from rawproxy.upstream.endpoint import Endpoint
from rawproxy.upstream.ticket import Ticket

log = logging.getLogger("rawproxy")
FIRST: Final = 0.1  # seconds between the first two knocks; a restart may be short. Then doubled,
LONGEST: Final = 1.0  # up to this: so late may a request notice that it could go on


class WaitingRoom:
    """The waiting room of one group."""

    def __init__(
        self,
        limit: int,
        endpoints: Callable[[], Sequence[Endpoint]],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self.queue: FairQueue[Ticket] = FairQueue(limit)
        self.endpoints = endpoints  # those of the group, as they are at the moment
        self.spawn = spawn
        self.reason = ""  # why the last dial failed
        self._knocks = False
        self._said = False  # the log says once that requests wait, until they go on
        self._under_way: set[Endpoint] = set()

    def __repr__(self) -> str:
        return f"<WaitingRoom waiting={self.queue.size} knocking={len(self._under_way)}>"

    def enter(self, ticket: Ticket, client: bytes, reason: str) -> Ticket | None:
        """Let `ticket` wait until its `on_open` is called. Returns the ticket that has no place."""
        gone = self.queue.put(ticket, client)
        self.reason = reason
        if self.queue.size and not self._said:
            self._said = True
            names = ", ".join(one.title for one in self.endpoints())
            log.warning("upstream %s: %s; requests wait for it (--timeout wait)", names, reason)
        if self.queue.size and not self._knocks:
            self._knocks = True
            self.spawn(self._keep_knocking())
        return gone

    async def _keep_knocking(self) -> None:
        pause = FIRST
        try:
            while self.queue.size:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST)
                for endpoint in self.endpoints() if self.queue.size else ():
                    if endpoint not in self._under_way:
                        self._under_way.add(endpoint)
                        self.spawn(self._knock(endpoint))
        finally:
            self._knocks = False

    async def _knock(self, endpoint: Endpoint) -> None:
        try:
            connection = await endpoint.knock()
        except DialError as error:
            self.reason = error.detail
            if endpoint.watch is not None:  # it may come back at another address
                endpoint.watch.ask_again()
        else:
            endpoint.welcome(connection)
            self._open(endpoint)
        finally:
            self._under_way.discard(endpoint)

    def _open(self, endpoint: Endpoint) -> None:
        tickets: list[Ticket] = []
        while (ticket := self.queue.take()) is not None:
            tickets.append(ticket)
        if self._said:
            self._said = False
            log.warning("upstream %s takes connections: %d go on", endpoint.title, len(tickets))
        for ticket in tickets:
            ticket.on_open()
