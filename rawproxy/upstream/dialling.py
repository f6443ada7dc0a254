"""How a connection to one server is made.

    turn ──► address ──► TCP (RFC 8305) ──► PROXY header ──► TLS ──► the certificate is judged

A socket file has no address, and a plain upstream has no TLS. One time limit holds for all steps
together.

This module never decides who gets a connection, and never reads a response. Invariants: at most
`DIALS` requests dial one upstream at the same time, and at most `BEGUN` begin to in one turn of the
loop. While one waits, another is under way, or more may begin in the next turn of the loop. A
connection that is returned may be used: its certificate has been accepted. Raises `DialError`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import aiohappyeyeballs

from rawproxy.balancing.fair_queue import FairQueue
from rawproxy.config.model import Config, Group, Upstream
from rawproxy.errors import DialError
from rawproxy.net import tls_handshake
from rawproxy.net.tls_ends import is_cut
from rawproxy.protocol import proxy_header
from rawproxy.protocol.http1.parser import response_parser
from rawproxy.protocol.proxy_header import AnnouncedAddresses
from rawproxy.telemetry.counters import Tally
from rawproxy.tls.upstream_trust import Trial, UpstreamTrust
from rawproxy.upstream.connection import ConnectionOwner, UpstreamConnection
from rawproxy.upstream.name_watch import NameWatch
from rawproxy.upstream.resolver import AddrInfo, Server, is_numeric, sockaddrs

SHUTDOWN: Final = 5.0  # seconds for the upstream's close_notify before the connection is cut
# Connections to one upstream that are made at the same time. Each costs half a millisecond of TLS,
# so this bounds what a burst of requests takes from all others in one turn of the loop.
DIALS: Final = 64
# Of these, how many are begun in one turn of the loop. A dial takes some turns, and so do the
# request and the answer behind it, and in each of them others wait for as many as this. So a turn
# of a burst is two milliseconds of work at the most. A burst takes no longer for it: the turns
# follow each other.
BEGUN: Final = 8
FIRST_ATTEMPT_DELAY: Final = 0.25  # seconds before the next address is tried too (RFC 8305 5)


@dataclass(frozen=True, slots=True)
class SharedUpstream:
    """One upstream, and what all of its addresses have in common. Addresses come and go."""

    upstream: Upstream
    tally: Tally
    trust: UpstreamTrust | None  # None: plain
    watch: NameWatch | None  # None: no name


class Dialler(ConnectionOwner):
    """Base class of the endpoint: where the server is, and how a connection to it is made."""

    def __init__(
        self, config: Config, group: Group, shared: SharedUpstream, warn: Callable[[str], None]
    ) -> None:
        upstream, trust = shared.upstream, shared.trust
        self.upstream = upstream
        self.bounds(config)
        self.warn = warn
        self.server_name = trust.server_name if trust is not None else ""
        self.trust = trust
        self.refused = False  # the certificate that the server showed last
        self.tally = shared.tally
        self.send_proxy = group.send_proxy
        self.dialling = 0
        self.begun = 0  # of those, in this turn of the loop
        # Requests that wait for their turn to dial. Each has a place in the pool already.
        self.turns: FairQueue[asyncio.Future[None]] = FairQueue(group.max_upstream)
        # As getaddrinfo gives them. None: a socket file, or a name that is not resolved yet.
        self.addresses: list[AddrInfo] | None = None
        self.watch = shared.watch
        self.label = upstream.url.encode()  # in the access log
        if upstream.path is None and is_numeric(upstream.host):
            self.addresses = sockaddrs(Server((upstream.host,), upstream.port))

    def bounds(self, config: Config) -> None:
        """What the configuration says of every response and every dial, from now on."""
        self.limits = config.limits
        self.parse = response_parser(config.parser, config.limits)
        self.deadline = config.deadlines.connect

    @property
    def title(self) -> str:
        """The endpoint's name in the log."""
        return self.label.decode()

    @property
    def known(self) -> bool:
        """Whether it can be dialled. A name that is not resolved yet cannot."""
        return self.addresses is not None or self.upstream.path is not None

    async def turn(self, client: bytes) -> None:
        """Wait until `client` may dial. Raises `DialError` 504 if that takes too long.

        Behind the dial, `dialled` has to be called: it gives the turn to another.
        """
        if not self.turns.size and self._may_begin():
            self._begin()
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.turns.put(future, client)
        try:
            async with asyncio.timeout(self.deadline):
                await future
        except TimeoutError:
            # The turn may have come in this very moment. Then it goes to the next one.
            if not (self.turns.remove(future) or future.cancelled()):
                self.dialled()
            raise DialError(f"no connection within {self.deadline:g} s", 504) from None

    def dialled(self) -> None:
        """One dial is over, well or not: the next may begin."""
        self.dialling -= 1
        self._begin_more()

    def _may_begin(self) -> bool:
        return self.dialling < DIALS and self.begun < BEGUN

    def _begin(self) -> None:
        self.dialling += 1
        self.begun += 1
        if self.begun == BEGUN:
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self.begun = 0
        self._begin_more()

    def _begin_more(self) -> None:
        while self.turns.size and self._may_begin():
            future = self.turns.take()
            if future is not None and not future.done():
                self._begin()
                future.set_result(None)

    async def counted(self, dial: Coroutine[Any, Any, UpstreamConnection]) -> UpstreamConnection:
        """Await `dial`, and count it for the admin. Probes are not counted."""
        self.tally.dials += 1
        try:
            return await dial
        except DialError:
            self.tally.dial_failures += 1
            raise

    async def connect(self, route: AnnouncedAddresses | None = None) -> UpstreamConnection:
        """A new connection, with its TLS handshake done. Raises `DialError` (502 or 504).

        `route` has the addresses of the client's connection, for the header of `--send-proxy`.
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
        """Bytes came that belong to no response. `bare`: they followed a response to HEAD."""
        self.babbles = True
        if bare and not self.bodied:
            self.bodied = True
            self.warn(
                f"{self.title} sends a body with its answers to HEAD: its connections are closed"
                " behind them"
            )

    def remember(self, connection: UpstreamConnection) -> None:
        """A response came to its end, so the TLS session is worth keeping."""
        if self.trust is not None:
            tls = connection.transport.get_extra_info("ssl_object")
            if tls is not None:
                self.trust.remember(tls)

    def complaint(self, error: Exception | None) -> str:
        """What the TLS alert in `error` means; empty if `error` is not an alert."""
        return self.trust.words.complaint(error) if self.trust is not None else ""

    def explain(self, error: BaseException) -> str:
        """Why a dial failed, in the admin's words."""
        if self.trust is not None:
            return self.trust.words.explain(error)
        number = getattr(error, "errno", None)
        return f"cannot connect: {os.strerror(number) if number else error}"

    def _failure(self, error: OSError) -> DialError:
        failure = DialError(self.explain(error))
        # What TLS complains about does not pass by itself, unless the other side just hung up.
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
        addresses = self.addresses or await self._look_up()
        if trial is None and not preamble and len(addresses) == 1 and not _scoped(addresses[0]):
            # The loop can do this all by itself, in half of the time.
            host, port = addresses[0][4][:2]
            _, connection = await loop.create_connection(
                lambda: UpstreamConnection(self), str(host), port, family=addresses[0][0]
            )
            return connection
        sock = await aiohappyeyeballs.start_connection(
            addresses,
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


def _scoped(info: AddrInfo) -> bool:
    """Whether this is an IPv6 address of one network interface (RFC 4007 11)."""
    where = info[4]
    return len(where) == 4 and where[3] != 0
