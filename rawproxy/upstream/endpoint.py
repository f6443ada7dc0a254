"""One server: its pool, what becomes of its connections, and what its group knows of it.

`dialling` says how a connection is made. An endpoint never reads a response and never decides about
retries. Invariants: the pool counts each connection from its dial until it is closed. A connection
that becomes free goes to whoever waits, in the order of the queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rawproxy.balancing.health import Health
from rawproxy.balancing.pool import Pool
from rawproxy.config.model import HOST, Config, Group, Upstream
from rawproxy.errors import DialError
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http.head import RequestHead, ResponseHead
from rawproxy.protocol.proxy_header import AnnouncedAddresses
from rawproxy.upstream.bulk_reader import FEW, BulkBuffer
from rawproxy.upstream.connection import UpstreamConnection
from rawproxy.upstream.dialling import Dialler, SharedUpstream
from rawproxy.upstream.resolver import Server, sockaddrs
from rawproxy.upstream.ticket import Ticket

ResponseHeadCallback = Callable[[RequestHead, rewrite.ClientContext, ResponseHead], ResponseHead]


class Clock:
    """The time of one worker, in seconds of its loop's clock. It is set about once a second."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0.0


@dataclass(frozen=True, slots=True)
class EndpointContext:
    """What all endpoints of a group are given by the group, or by whoever else makes one."""

    config: Config
    group: Group
    clock: Clock  # the worker's
    warn: Callable[[str], None]
    on_failure: Callable[[Endpoint], None]  # a request failed because of the upstream
    on_life: Callable[[Endpoint], None]  # it answered, but not so that a client may see it
    waiting_room: Any  # the group's `WaitingRoom`, which imports this module


class Endpoint(Dialler):
    """One server: its pool, and what its group knows of it.

    `server` is who the upstream's name stands for; None: no name, or it is not resolved yet.
    `since` is when the endpoint began to be one, in the clock's seconds; 0.0: from the start.
    """

    def __init__(
        self,
        context: EndpointContext,
        shared: SharedUpstream,
        server: Server | None = None,
        since: float = 0.0,
        draining: bool = False,
    ) -> None:
        group, upstream = context.group, shared.upstream
        super().__init__(context.config, group, shared, context.warn)
        self.pool: Pool[UpstreamConnection, Ticket] = Pool(
            group.max_upstream, group.keepalive, group.keepalive_idle, group.queue
        )
        self.by_host = group.server_name == HOST  # clients choose the name
        self.bulk_buffer: BulkBuffer | None = None  # made when it is first needed
        self.looks = 0.0  # when a certificate that was refused is looked at again
        self.authority = authority(upstream)
        self.waiting_room = context.waiting_room
        self.clock = context.clock
        self.draining = draining  # the worker ends, or the name has this address no longer
        self.name = upstream.url.encode()  # for policies: the same in every worker
        # what the group decides
        self.weight = upstream.weight
        self.share = float(upstream.weight)
        self.backup = upstream.backup
        self.health = Health(group.passive, group.active, group.slow_start, since)
        self.ramping = False  # in slow start
        self.probing = False
        self.tag = b""  # of its cookie
        # Called with the head of every final response, and may change it. None: not needed.
        self.on_response_head: ResponseHeadCallback | None = None
        self.on_failure = context.on_failure
        self.on_life = context.on_life
        if server is not None:
            self.settle_on(server)

    def __repr__(self) -> str:
        return f"<Endpoint {self.title} {self.health.state.value} {self.pool!r}>"

    def bound(self, config: Config, group: Group) -> None:
        """From now on these bounds count, for whatever begins."""
        self.bounds(config)
        pool, health = self.pool, self.health
        pool.limit, pool.keepalive = group.max_upstream, group.keepalive
        pool.idle_timeout, pool.waiting.limit = group.keepalive_idle, group.queue
        self.turns.limit = group.max_upstream
        health.passive, health.slow_start = group.passive, group.slow_start
        if health.active != group.active:
            # Judged in another way, it begins as good.
            self.health = Health(group.passive, group.active, group.slow_start)
            self.probing = False

    def settle_on(self, server: Server) -> None:
        """Be `server` from now on: the upstream's name stands for it."""
        self.addresses = sockaddrs(server)
        self.name = server.name.encode()
        self.label = f"{self.upstream.url} ({server.name})".encode()
        self.weight, self.backup = server.weight, server.backup

    def failed(self, judged: bool = True) -> None:
        """A request failed because of the upstream. `judged`: that counts for its health."""
        self.tally.failures += 1
        if judged:
            self.on_failure(self)

    def answered_badly(self) -> None:
        """The response may not go to a client. That is a failure, but the upstream lives."""
        self.tally.failures += 1
        self.on_life(self)

    def close_idle(self) -> None:
        """Close all idle connections."""
        for connection in self.pool.clear():
            connection.transport.close()

    def set_apart(self, connection: UpstreamConnection | None) -> None:
        """A busy connection is a tunnel or a stream of events now: it leaves the pool's count."""
        if connection is not None and not connection.apart:
            connection.apart = True
            _go_on(self.pool.part(connection))

    def stalled(self, connection: UpstreamConnection, waits: bool) -> None:
        """A connection waits for its own client now, or no longer does (`waits`).

        Nobody else has to wait for that client: the connection lends its place in the pool.
        """
        if not waits:
            self.pool.flow(connection)
        elif not connection.apart:
            _go_on(self.pool.stall(connection))

    def where_to_read(self) -> memoryview:
        """The memory for the next piece of a long body: little while many clients are slow."""
        bulk_buffer = self.bulk_buffer
        if bulk_buffer is None:
            bulk_buffer = self.bulk_buffer = BulkBuffer()
        return bulk_buffer.little if self.crowded() else bulk_buffer.whole

    def crowded(self) -> bool:
        """Whether so many clients are slow that little is read at a time, of whatever comes."""
        return len(self.pool.stalled) + self.pool.lent >= FEW

    def welcome(self, connection: UpstreamConnection) -> None:
        """Keep a connection that was made for nobody, if anybody may use it; else close it."""
        if self.draining or self.send_proxy or not self.pool.adopt(connection, self.clock.now):
            connection.transport.close()

    def settle(self, connection: UpstreamConnection) -> None:
        """A busy connection is free: it goes to the next ticket or the pool, or is closed."""
        pool = self.pool
        if pool.stalled:
            pool.flow(connection)
        if connection.apart:
            connection.apart = False
            connection.transport.close()
            pool.rejoin()
            return
        if connection.lent:
            self._repay(connection)
            return
        if connection.reusable and not (connection.lost or self.draining or self.send_proxy):
            ticket = pool.release(connection, self.clock.now)
            if ticket is not None:
                ticket.on_connection(connection)
            return
        connection.transport.close()
        _go_on(pool.discard())

    def _repay(self, connection: UpstreamConnection) -> None:
        """A connection that had lent its place is free: keep it if there is room, or close it."""
        _go_on(self.pool.repay(connection))
        if connection.reusable and not connection.lost:
            self.welcome(connection)
        else:
            connection.transport.close()

    def tunnel_over(self) -> None:
        """Both sides of a tunnel have gone."""
        self.pool.rejoin()

    def give_back_place(self) -> None:
        """The pool has counted a connection for a request, but none will come."""
        _go_on(self.pool.discard())

    def evict(self, connection: UpstreamConnection) -> None:
        """An idle connection sent something or ended: it must not be used again."""
        self.pool.evict(connection)
        connection.unbind()
        connection.transport.close()

    def wanted(self) -> bool:
        """Whether a request waits for a connection."""
        return bool(self.pool.waiting.size)

    async def dial(
        self, client: bytes, route: AnnouncedAddresses | None = None
    ) -> UpstreamConnection:
        """A connection for a request of `client`. A failed dial counts for the health."""
        return await self.counted(self._dial_in_turn(client, route))

    async def knock(self) -> UpstreamConnection:
        """A connection for nobody yet. It shows whether those who wait may go on."""
        return await self.counted(self.connect())

    async def _dial_in_turn(
        self, client: bytes, route: AnnouncedAddresses | None
    ) -> UpstreamConnection:
        began = asyncio.get_running_loop().time()
        await self.turn(client)
        try:
            return await self.connect(route)
        except DialError as caught:
            error = caught
        finally:
            self.dialled()
        # Not within the `except`: an `await` in there never ends where mypyc compiles this.
        if self.by_host and error.there:
            raise error  # else anybody could make the upstream look ill by choosing a name
        self.failed()
        if self.watch is not None:
            # The name may stand for another address by now. If other endpoints can serve, they do.
            if self.on_response_head is None:
                await self.watch.newer(began)
            else:
                self.watch.ask_again()
        raise error

    async def look_again(self) -> None:
        """See whether the refused certificate is still there. Perhaps no request will find out."""
        try:
            connection = await self.connect()
        except DialError:
            return
        connection.transport.abort()


def _go_on(ticket: Ticket | None) -> None:
    """A place in the pool is free. If there is a `ticket`, it is its turn to dial."""
    if ticket is not None:
        ticket.on_room()


def identity(upstream: Upstream) -> str:
    """The name that the certificate must have.

    With SRV it is the name that was asked for, not one of the answer (RFC 6125 6.2.1).
    """
    if upstream.srv:
        return upstream.host.split(".", 2)[-1]
    return upstream.host


def authority(upstream: Upstream) -> bytes:
    """The Host value that names `upstream` itself, for requests without a Host."""
    if upstream.path is not None:
        return b"localhost"
    if upstream.srv:
        return identity(upstream).encode("ascii")
    host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    if upstream.port == (443 if upstream.tls else 80):
        return host.encode("ascii")
    return f"{host}:{upstream.port}".encode("ascii")
