"""One server: its pool, its trust, how it is dialled, and what its group knows of it.

It never reads a response and never decides about retries. Invariant: whatever is dialled or given
back is in the pool's count until it is closed, and whoever waits longest gets what is free.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

import aiohappyeyeballs

from rawproxy.balancing.fair_queue import FairQueue
from rawproxy.balancing.health import Health
from rawproxy.balancing.pool import Pool
from rawproxy.config.model import HOST, Config, Group, Upstream
from rawproxy.errors import DialError, ignore
from rawproxy.net import tls_handshake
from rawproxy.net.tls_ends import is_cut
from rawproxy.protocol import proxy_header
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http.head import RequestHead, ResponseHead
from rawproxy.protocol.http1.parser import response_parser
from rawproxy.protocol.proxy_header import AnnouncedAddresses
from rawproxy.telemetry.counters import Tally
from rawproxy.tls.upstream_trust import Trial, UpstreamTrust
from rawproxy.upstream.connection import ConnectionOwner, UpstreamConnection
from rawproxy.upstream.name_watch import Watch
from rawproxy.upstream.resolver import AddrInfo, Server, is_numeric, sockaddrs
from rawproxy.upstream.ticket import Ticket

Judge = Callable[[RequestHead, rewrite.ClientContext, ResponseHead], ResponseHead]
SHUTDOWN: Final = 5.0  # seconds for the upstream's close_notify before the connection is cut
# Connections to one upstream that are made at the same time, at half a millisecond of TLS each:
# what a burst of requests takes from all others in one turn of the loop is bounded by it.
DIALS: Final = 64
FIRST_ATTEMPT_DELAY: Final = 0.25  # seconds before the next address is tried too (RFC 8305 5)


class Clock:
    """The time as one worker sees it: seconds on its loop's clock, set about once a second."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0.0


class Endpoint(ConnectionOwner):
    """One server: its pool, how a connection to it is made, and what its group knows of it."""

    def __init__(
        self,
        config: Config,
        group: Group,
        upstream: Upstream,
        warn: Callable[[str], None],
        trust: UpstreamTrust | None,
    ) -> None:
        self.upstream = upstream
        self.limits = config.limits
        self.parse = response_parser(config.parser, config.limits)
        self.deadline = config.deadlines.connect
        self.warn = warn
        self.pool: Pool[UpstreamConnection, Ticket] = Pool(
            group.max_upstream, group.keepalive, group.keepalive_idle, group.queue
        )
        self.server_name = trust.server_name if trust is not None else ""
        self.by_host = group.server_name == HOST  # visitors choose the name
        self.trust = trust  # shared by all addresses of a name; None: plain
        self.refused = False  # the certificate that it showed last
        self.looks = 0.0  # when it is looked at again, if it is
        self.authority = authority(upstream)
        self.tally = Tally()  # shared by all addresses of a name, as they come and go
        self.room: Any = None  # the group's `WaitingRoom`
        self.dialling = 0
        # Those that wait for their turn to dial, each with a place in the pool.
        self.turns: FairQueue[asyncio.Future[None]] = FairQueue(group.max_upstream)
        self.clock = Clock()  # replaced by the worker's
        self.draining = False  # the worker ends, or the address is no longer its name's
        self.send_proxy = group.send_proxy
        # where it is
        # As getaddrinfo gives them; None: a socket file, or a name that is not resolved yet.
        self.addresses: list[AddrInfo] | None = None
        self.watch: Watch | None = None  # of a name
        self.name = upstream.url.encode()  # for policies: the same in every worker
        self.label = upstream.url.encode()  # in the access log
        if upstream.path is None and is_numeric(upstream.host):
            self.addresses = sockaddrs(Server((upstream.host,), upstream.port))
        # what the group makes of it
        self.weight = upstream.weight
        self.share = float(upstream.weight)
        self.backup = upstream.backup
        self.health = Health(group.passive, group.active, group.slow_start)
        self.ramping = False  # in slow start
        self.probing = False
        self.tag = b""  # of its cookie
        # Called with every final response's head, which it may change; None: nobody cares.
        self.on_response_head: Judge | None = None
        self.on_failure: Callable[[Endpoint], None] = ignore
        self.on_life: Callable[[Endpoint], None] = ignore

    def __repr__(self) -> str:
        return f"<Endpoint {self.title} {self.health.state.value} {self.pool!r}>"

    @property
    def title(self) -> str:
        """Its name in the log."""
        return self.label.decode()

    @property
    def known(self) -> bool:
        """Whether it can be dialled: no name that is still to be resolved."""
        return self.addresses is not None or self.upstream.path is not None

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
            _go_on(self.pool.part())

    def welcome(self, connection: UpstreamConnection) -> None:
        """A connection that was made for nobody: idle, if it may be anybody's."""
        if self.draining or self.send_proxy or not self.pool.adopt(connection, self.clock.now):
            connection.transport.close()

    def settle(self, connection: UpstreamConnection) -> None:
        """A connection that was busy is free: to the next ticket, to the pool, or closed."""
        if connection.apart:
            connection.apart = False
            connection.transport.close()
            self.pool.rejoin()
            return
        if connection.reusable and not (connection.lost or self.draining or self.send_proxy):
            ticket = self.pool.release(connection, self.clock.now)
            if ticket is not None:
                ticket.on_connection(connection)
            return
        connection.transport.close()
        _go_on(self.pool.discard())

    def tunnel_over(self) -> None:
        """Both sides of a tunnel have gone."""
        self.pool.rejoin()

    def give_up_dial(self) -> None:
        """A dial that counted as busy came to nothing."""
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
        """A connection for an exchange of `client`'s, as `connect`; a failure counts."""
        began = asyncio.get_running_loop().time()
        if self.dialling < DIALS:
            self.dialling += 1
        else:
            await self._turn(client)
        try:
            return await self.connect(route)
        except DialError as caught:
            error = caught
        finally:
            self._dialled()
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

    async def _turn(self, client: bytes) -> None:
        """Until `client` may dial; its place is that of one who has done so."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.turns.put(future, client)
        try:
            async with asyncio.timeout(self.deadline):
                await future
        except TimeoutError:
            if not self.turns.remove(future):  # its turn came in this very moment
                self._dialled()
            raise DialError(f"no connection within {self.deadline:g} s", 504) from None

    def _dialled(self) -> None:
        """One dial is over, whatever came of it: the next may begin."""
        while self.turns.size:
            future = self.turns.take()
            if future is not None and not future.done():
                future.set_result(None)
                return
        self.dialling -= 1

    async def connect(self, route: AnnouncedAddresses | None = None) -> UpstreamConnection:
        """A new connection, its TLS handshake done. Raises `DialError` (502 or 504).

        `route` is the client's connection, for the header of `--send-proxy`.
        """
        preamble = proxy_header.write(self.send_proxy, route) if self.send_proxy else b""
        try:
            async with asyncio.timeout(self.deadline):
                return await self._dial(preamble)
        except TimeoutError:
            raise DialError(f"no connection within {self.deadline:g} s", 504) from None
        except OSError as error:
            raise self._failure(error) from None

    def babbled(self, bare: bool) -> None:
        """Bytes came that belong to no response, `bare`: behind one to HEAD."""
        self.babbles = True
        if bare and not self.bodied:
            self.bodied = True
            self.warn(
                f"{self.title} sends a body with its answers to HEAD: its connections are closed"
                " behind them"
            )

    def remember(self, connection: UpstreamConnection) -> None:
        """A response came to its end: its TLS session is worth resuming."""
        if self.trust is not None:
            tls = connection.transport.get_extra_info("ssl_object")
            if tls is not None:
                self.trust.remember(tls)

    def complaint(self, error: Exception | None) -> str:
        """What an alert of its TLS means; empty where `error` is none."""
        return self.trust.words.complaint(error) if self.trust is not None else ""

    def explain(self, error: BaseException) -> str:
        """Why a dial failed, in the admin's words."""
        if self.trust is not None:
            return self.trust.words.explain(error)
        number = getattr(error, "errno", None)
        return f"cannot connect: {os.strerror(number) if number else error}"

    def _failure(self, error: OSError) -> DialError:
        failure = DialError(self.explain(error))
        # What TLS complains about stays wrong, unless it is that the other side hung up.
        wrong = isinstance(error, ssl.SSLError | PermissionError)
        failure.passing = is_cut(error) or not wrong
        return failure

    async def _dial(self, preamble: bytes) -> UpstreamConnection:
        if self.trust is None:
            return await self._connect(None, preamble)
        trial = self.trust.trial()
        while True:
            try:
                connection = await self._connect(trial, preamble)
            except OSError as error:  # SSLError is one
                if trial.failed(error):
                    continue
                if isinstance(error, ssl.SSLCertVerificationError):
                    self.refused = True
                failure = self._failure(error)
                failure.there = trial.there
                raise failure from None
            tls = connection.transport.get_extra_info("ssl_object")
            try:
                passes = trial.passes(tls.getpeercert(binary_form=True) or b"")
            except DialError as failure:
                connection.transport.abort()
                failure.there = self.refused = True
                raise
            if passes:
                break
            connection.transport.abort()
        self.refused = False
        if trial.warning:
            self.warn(trial.warning)
        self.tally.changes += trial.changed
        return connection

    async def _look_up(self) -> list[AddrInfo]:
        """The addresses of a name that was not resolved when this began. Raises `DialError`."""
        assert self.watch is not None
        try:
            servers = await self.watch.known()
        except DialError as error:
            error.passing = True
            raise
        return sockaddrs(servers[0])

    async def _connect(self, trial: Trial | None, preamble: bytes) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        if self.upstream.path is not None:
            transport, connection = await loop.create_unix_connection(
                lambda: UpstreamConnection(self), self.upstream.path
            )
            transport.write(preamble)
            return connection
        sock = await aiohappyeyeballs.start_connection(
            self.addresses or await self._look_up(),
            happy_eyeballs_delay=FIRST_ATTEMPT_DELAY,
            interleave=1,
        )
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if preamble:
                await loop.sock_sendall(sock, preamble)
            if trial is None:
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(self), sock=sock
                )
            else:
                connection = UpstreamConnection(self)
                session = trial.session(sock.getpeername())
                await tls_handshake.connect(
                    sock, trial.context, self.server_name, connection, SHUTDOWN, session
                )
        except BaseException:
            sock.close()
            raise
        return connection


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
