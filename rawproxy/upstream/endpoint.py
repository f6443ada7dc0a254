"""One server: its pool, what becomes of its connections, and what its group knows of it.

How a connection to it is made is told in `dialling`. It never reads a response and never decides
about retries. Invariant: whatever is dialled or given back is in the pool's count until it is
closed, and whoever waits longest gets what is free.
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
    """The time as one worker sees it: seconds on its loop's clock, set about once a second."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0.0


@dataclass(frozen=True, slots=True)
class EndpointContext:
    """What all endpoints of a group are given, by the group or by whoever else makes one."""

    config: Config
    group: Group
    clock: Clock  # the worker's
    warn: Callable[[str], None]
    on_failure: Callable[[Endpoint], None]  # a request came to nothing by the upstream's doing
    on_life: Callable[[Endpoint], None]  # it answered, though not with what a client may get
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
        self.by_host = group.server_name == HOST  # visitors choose the name
        self.bulk_buffer: BulkBuffer | None = None  # made when it is first needed
        self.looks = 0.0  # when a certificate that was refused is looked at again
        self.authority = authority(upstream)
        self.waiting_room = context.waiting_room
        self.clock = context.clock
        self.draining = draining  # the worker ends, or the address is no longer its name's
        self.name = upstream.url.encode()  # for policies: the same in every worker
        # what the group makes of it
        self.weight = upstream.weight
        self.share = float(upstream.weight)
        self.backup = upstream.backup
        self.health = Health(group.passive, group.active, group.slow_start, since)
        self.ramping = False  # in slow start
        self.probing = False
        self.tag = b""  # of its cookie
        # Called with every final response's head, which it may change; None: nobody cares.
        self.on_response_head: ResponseHeadCallback | None = None
        self.on_failure = context.on_failure
        self.on_life = context.on_life
        if server is not None:
            self.settle_on(server)

    def __repr__(self) -> str:
        return f"<Endpoint {self.title} {self.health.state.value} {self.pool!r}>"

    def settle_on(self, server: Server) -> None:
        """The upstream's name stands for this server."""
        self.addresses = sockaddrs(server)
        self.name = server.name.encode()
        self.label = f"{self.upstream.url} ({server.name})".encode()
        self.weight, self.backup = server.weight, server.backup

    def failed(self, judged: bool = True) -> None:
        """A request came to nothing by the upstream's doing; `judged`: its health suffers."""
        self.tally.failures += 1
        if judged:
            self.on_failure(self)

    def answered_badly(self) -> None:
        """Its answer is none that a client may get: a failure, but it lives."""
        self.tally.failures += 1
        self.on_life(self)

    def close_idle(self) -> None:
        """No connection is kept."""
        for connection in self.pool.clear():
            connection.transport.close()

    def set_apart(self, connection: UpstreamConnection | None) -> None:
        """A busy connection becomes a tunnel or a stream of events: the pool goes on without it."""
        if connection is not None and not connection.apart:
            connection.apart = True
            _go_on(self.pool.part(connection))

    def stalled(self, connection: UpstreamConnection, waits: bool) -> None:
        """A connection waits for its own client, for which nobody else is to wait; or no longer."""
        if not waits:
            self.pool.flow(connection)
        elif not connection.apart:
            _go_on(self.pool.stall(connection))

    def where_to_read(self) -> memoryview:
        """For the next piece of a long body: a small place while many clients are slow."""
        bulk_buffer = self.bulk_buffer
        if bulk_buffer is None:
            bulk_buffer = self.bulk_buffer = BulkBuffer()
        pool = self.pool
        few = len(pool.stalled) + pool.lent < FEW
        return bulk_buffer.whole if few else bulk_buffer.little

    def welcome(self, connection: UpstreamConnection) -> None:
        """A connection that was made for nobody: idle, if it may be anybody's."""
        if self.draining or self.send_proxy or not self.pool.adopt(connection, self.clock.now):
            connection.transport.close()

    def settle(self, connection: UpstreamConnection) -> None:
        """A connection that was busy is free: to the next ticket, to the pool, or closed."""
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
        """One whose place was lent is free: idle if there is room by now, or closed."""
        _go_on(self.pool.repay(connection))
        if connection.reusable and not connection.lost:
            self.welcome(connection)
        else:
            connection.transport.close()

    def tunnel_over(self) -> None:
        """Both sides of a tunnel have gone."""
        self.pool.rejoin()

    def give_back_place(self) -> None:
        """The pool had counted a connection for a request, and there will be none."""
        _go_on(self.pool.discard())

    def evict(self, connection: UpstreamConnection) -> None:
        """An idle connection spoke or ended: it is no longer to be used."""
        self.pool.evict(connection)
        connection.unbind()
        connection.transport.close()

    def wanted(self) -> bool:
        """Whether a request waits for a connection."""
        return bool(self.pool.waiting.size)

    async def dial(
        self, client: bytes, route: AnnouncedAddresses | None = None
    ) -> UpstreamConnection:
        """A connection for an exchange of `client`'s, as `connect`; failures judge the health."""
        return await self.counted(self._dial_in_turn(client, route))

    async def knock(self) -> UpstreamConnection:
        """A connection for nobody yet, as `connect`: to see whether those who wait may go on."""
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
            raise error  # by choosing a name anybody could make a healthy upstream look ill
        self.failed()
        if self.watch is not None:
            # The name may stand for another address by now. Where others can serve, they do.
            if self.on_response_head is None:
                await self.watch.newer(began)
            else:
                self.watch.ask_again()
        raise error

    async def look_again(self) -> None:
        """See whether a certificate that was refused is still there: no request may come to."""
        try:
            connection = await self.connect()
        except DialError:
            return
        connection.transport.abort()


def _go_on(ticket: Ticket | None) -> None:
    """A place in the pool is free: it is this ticket's turn to dial, if anybody waits."""
    if ticket is not None:
        ticket.on_room()


def identity(upstream: Upstream) -> str:
    """The name that a certificate must have. RFC 6125 6.2.1: of SRV, what was asked, not told."""
    if upstream.srv:
        return upstream.host.split(".", 2)[-1]
    return upstream.host


def authority(upstream: Upstream) -> bytes:
    """The Host value that names `upstream` itself, for requests that bring none."""
    if upstream.path is not None:
        return b"localhost"
    if upstream.srv:
        return identity(upstream).encode("ascii")
    host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    if upstream.port == (443 if upstream.tls else 80):
        return host.encode("ascii")
    return f"{host}:{upstream.port}".encode("ascii")
