"""Connections to one upstream: dialling them, reading responses, telling whether to reuse them.

`Endpoint` is one `--upstream`: its pool, its trust and how to dial it. `UpstreamConnection` reads
responses and hands them to the exchange that holds it, by straight calls:

    on_interim(head)            a 1xx other than 101
    on_switch(head, rest)       a 101 and what came behind it
    on_response(head, framing, payload, ended)
    on_payload(payload, ended, trailers)
    on_lost(error)              the connection ended first

It never decides about retries and never rewrites. Invariants: a connection without an exchange is
in the pool or closed; bytes or an end of file while idle evict it (RFC 9112 9.2); what follows a
response's last byte makes the connection unfit for reuse.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import ssl
from collections.abc import Callable
from typing import Any, Protocol, cast

import aiohappyeyeballs

from . import proxy_protocol, rewrite, shake
from .body import BodyError, ChunkedBody, CloseBody, LengthBody
from .bounds import waits
from .config import Config, Group, Limits, Upstream
from .errors import DialError, ProxyError, StaleError, UpstreamError
from .flow import WRITER_FULL, Valve
from .head import (
    CHUNKED,
    Parser,
    RequestHead,
    ResponseHead,
    response_framing,
    response_parser,
)
from .health import Health
from .meter import Tally
from .pool import Pool
from .proxy_protocol import Route
from .resolver import AddrInfo, Server, is_numeric, sockaddrs
from .trust import UpstreamTrust
from .watch import Watch

Stepper = LengthBody | ChunkedBody | CloseBody
Judge = Callable[[RequestHead, rewrite.Hop, ResponseHead], ResponseHead]
VERSION = b"HTTP/1."  # what a response begins with
SHUTDOWN = 5.0  # seconds for the upstream's close_notify before the connection is cut
FIRST_ATTEMPT_DELAY = 0.25  # seconds before the next address is tried too (RFC 8305 5)


class Holder(Protocol):
    """The exchange, as its upstream connection sees it."""

    method: bytes

    def on_interim(self, head: ResponseHead) -> None: ...
    def on_switch(self, head: ResponseHead, rest: bytes) -> None: ...
    def on_response(
        self, head: ResponseHead, framing: int, payload: bytes, ended: bool
    ) -> None: ...
    def on_payload(self, payload: bytes, ended: bool, trailers: bytes) -> None: ...
    def on_lost(self, error: ProxyError) -> None: ...
    def on_upstream_writable(self, writable: bool) -> None: ...


class Clock:
    """The time as one worker sees it: seconds on its loop's clock, set about once a second."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0.0


class UpstreamConnection(asyncio.Protocol):
    """One connection to an upstream."""

    __slots__ = (
        "body", "buffer", "endpoint", "holder", "idle_since", "known_head", "known_raw",
        "limits", "lost", "parse", "reusable", "served", "transport", "valve",
    )  # fmt: skip

    transport: asyncio.Transport
    valve: Valve

    def __init__(self, endpoint: Endpoint) -> None:
        # of the connection
        self.endpoint = endpoint
        self.limits: Limits = endpoint.limits
        self.parse: Parser[ResponseHead] = endpoint.parse
        self.idle_since = 0.0
        self.served = 0  # responses read to their end
        self.lost = False
        self.known_raw = b""  # the last head, and what it was read as: heads tend to repeat
        self.known_head: ResponseHead | None = None
        # of the response being read
        self.holder: Holder | None = None
        self.buffer = b""  # of a head that is not whole
        self.body: Stepper | None = None
        self.reusable = False

    def __repr__(self) -> str:
        state = "lost" if self.lost else "busy" if self.holder else "idle"
        return f"<UpstreamConnection {self.endpoint.upstream.url} {state} served={self.served}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are not subclasses
        self.transport = transport
        self.valve = Valve(transport)

    def let_go(self) -> None:
        """The exchange is done: idle, or closed where the connection is not fit for another."""
        self.holder = None
        self.endpoint.settle(self)

    def drop(self) -> None:
        """Close at once, whatever is under way; the peer sees a reset rather than a clean end."""
        self.holder = None
        self.reusable = False
        self.transport.abort()
        self.endpoint.settle(self)

    def stale(self) -> bool:
        """Whether anything can be read: on a connection that ought to be silent, that is the end.

        One system call, so it is asked only for requests that could not be retried (RFC 9110
        9.2.2).
        """
        if self.lost or self.transport.is_closing():
            return True
        sock = self.transport.get_extra_info("socket")
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
        return bool(poll.poll(0))

    def data_received(self, data: bytes) -> None:
        holder = self.holder
        if holder is None:
            self.reusable = False
            if not self.lost:
                self.endpoint.evict(self)
            return
        try:
            if self.body is None:
                if self.buffer:
                    seen, most = len(self.buffer), self.limits.response_head
                    data = self.buffer = self.buffer + data
                    if seen > len(VERSION) and waits(data, seen, most, most):
                        return
                self._read_head(holder, data)
            else:
                payload, rest = self.body.feed(data)
                if rest is None:
                    holder.on_payload(payload, False, b"")
                else:
                    self._ended(self.reusable and not rest)
                    holder.on_payload(payload, True, self.trailers())
        except BodyError as malformed:
            self._fail(UpstreamError(f"the response body is malformed: {malformed}"))
        except UpstreamError as error:
            self._fail(error)

    def trailers(self) -> bytes:
        """The trailer block of the body that has just ended."""
        body, self.body = self.body, None
        return body.trailers if body is not None else b""

    def _read_head(self, holder: Holder, data: bytes) -> None:
        while True:
            known = self.known_head
            if known is not None and data.startswith(self.known_raw):
                head, stop = known, len(self.known_raw)
            else:
                found = self.parse(data)
                if found is None:
                    self.buffer = data
                    return
                head, stop = found, found.size
                if head.status >= 200:
                    self.known_raw, self.known_head = data[:stop], head
            self.buffer = b""
            if head.status >= 200:
                break
            data = data[stop:]
            if head.status == 101:
                holder.on_switch(head, data)
                return
            holder.on_interim(head)
            if not data or self.holder is not holder:
                return
        self._read_body(holder, head, data, stop)

    def _read_body(self, holder: Holder, head: ResponseHead, data: bytes, stop: int) -> None:
        framing = response_framing(head, holder.method)
        self.reusable = not head.close
        if framing >= 0:
            whole = stop + framing
            size = len(data)
            if size >= whole:
                self._ended(self.reusable and size == whole)
                holder.on_response(head, framing, data[stop:whole], True)
                return
            self.body = LengthBody(framing - size + stop)
            holder.on_response(head, framing, data[stop:], False)
            return
        if framing == CHUNKED:
            self.body = ChunkedBody(self.limits.chunk_line, self.limits.trailers)
        else:
            self.body = CloseBody()
            self.reusable = False
        payload, rest = self.body.feed(data[stop:])
        if rest is None:
            holder.on_response(head, framing, payload, False)
            return
        self._ended(self.reusable and not rest)
        trailers = self.trailers()
        if trailers:
            holder.on_response(head, framing, payload, False)
            if self.holder is holder:
                holder.on_payload(b"", True, trailers)
        else:
            holder.on_response(head, framing, payload, True)

    def _ended(self, reusable: bool) -> None:
        if not self.served:
            self.endpoint.remember(self)
        self.served += 1
        self.reusable = reusable

    def _fail(self, error: ProxyError) -> None:
        holder = self.holder
        self.holder = None
        self.reusable = False
        self.transport.abort()
        if holder is not None:
            holder.on_lost(error)

    def eof_received(self) -> bool:
        self.connection_ended(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.connection_ended(exc)
        self.lost = True

    def connection_ended(self, exc: Exception | None) -> None:
        """The upstream closed, cleanly (`exc` is None) or not."""
        holder, self.holder = self.holder, None
        self.reusable = False
        if holder is None:
            if not self.lost:
                self.endpoint.evict(self)
            return
        # Over TLS an end without close_notify may be anybody's doing, and a reset looks the same.
        cut = "cut the connection" if isinstance(exc, ssl.SSLEOFError) else "reset the connection"
        how = cut if exc is not None else "closed the connection"
        if self.body is None and not self.buffer:
            holder.on_lost(StaleError(f"the upstream {how} before its response"))
        elif self.body is None:
            holder.on_lost(UpstreamError(f"the upstream {how} within its response head"))
        elif isinstance(self.body, CloseBody) and exc is None and not self._cut_short():
            self.body = None
            holder.on_payload(b"", True, b"")
        else:
            holder.on_lost(UpstreamError(f"the upstream {how} within its response body"))

    def _cut_short(self) -> bool:
        """Whether TLS ended without saying so: anybody in between can do that (RFC 9112 9.8)."""
        tls = self.transport.get_extra_info("ssl_object")
        try:
            return tls is not None and bool(tls.read(1))
        except ssl.SSLZeroReturnError:
            return False
        except ssl.SSLError:  # it wants more, or complains about the end
            return True

    def pause_writing(self) -> None:
        if self.holder is not None:
            self.holder.on_upstream_writable(False)

    def resume_writing(self) -> None:
        if self.holder is not None:
            self.holder.on_upstream_writable(True)

    def throttle(self, full: bool) -> None:
        """The client cannot take more (or can again)."""
        if full:
            self.valve.close(WRITER_FULL)
        else:
            self.valve.open(WRITER_FULL)


class Endpoint:
    """One server: its pool, how a connection to it is made, and what its group knows of it."""

    def __init__(
        self, config: Config, group: Group, upstream: Upstream, warn: Callable[[str], None]
    ) -> None:
        self.upstream = upstream
        self.limits = config.limits
        self.parse = response_parser(config.parser, config.limits)
        self.deadline = config.deadlines.connect
        self.warn = warn
        self.pool: Pool[UpstreamConnection, Any] = Pool(
            group.max_upstream, group.keepalive, group.keepalive_idle, group.queue
        )
        self.server_name = group.server_name or identity(upstream)
        self.trust: UpstreamTrust | None = None
        if upstream.tls:
            self.trust = UpstreamTrust(
                group.verify, group.pins, self.server_name, upstream.url, group.client_cert
            )
        self.authority = authority(upstream)
        self.tally = Tally()  # shared by all addresses of a name, as they come and go
        self.on_room: Callable[[Any], None] = lambda ticket: None  # set by the group
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
        self.judge: Judge | None = None
        self.on_failure: Callable[[Endpoint], None] = lambda endpoint: None

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

    def failed(self) -> None:
        """A request came to nothing by the upstream's doing."""
        self.tally.failures += 1
        self.on_failure(self)

    def close_idle(self) -> None:
        """No connection is kept."""
        for connection in self.pool.clear():
            connection.transport.close()

    def settle(self, connection: UpstreamConnection) -> None:
        """A connection that was busy is free: to the next ticket, to the pool, or closed."""
        if connection.reusable and not (connection.lost or self.draining or self.send_proxy):
            ticket = self.pool.release(connection, self.clock.now)
            if ticket is not None:
                ticket.on_connection(connection)
            return
        connection.transport.close()
        ticket = self.pool.discard()
        if ticket is not None:
            self.on_room(ticket)

    def give_up_dial(self) -> None:
        """A dial that counted as busy came to nothing."""
        ticket = self.pool.discard()
        if ticket is not None:
            self.on_room(ticket)

    def evict(self, connection: UpstreamConnection) -> None:
        """An idle connection spoke or ended: it is no longer to be used."""
        self.pool.evict(connection)
        connection.transport.close()

    async def dial(self, route: Route | None = None) -> UpstreamConnection:
        """A connection for an exchange, as `connect`; a failure counts."""
        began = asyncio.get_running_loop().time()
        try:
            return await self.connect(route)
        except DialError as caught:
            error = caught
        # Not within the `except`: an `await` in there never ends where mypyc compiles this.
        self.failed()
        if self.watch is not None:
            # The name may stand for another address by now. Where others can serve, they do.
            if self.judge is None:
                await self.watch.newer(began)
            else:
                self.watch.ask_again()
        raise error

    async def connect(self, route: Route | None = None) -> UpstreamConnection:
        """A new connection, its TLS handshake done. Raises `DialError` (502 or 504).

        `route` is the client's connection, for the header of `--send-proxy`.
        """
        preamble = proxy_protocol.write(self.send_proxy, route) if self.send_proxy else b""
        try:
            async with asyncio.timeout(self.deadline):
                return await self._dial(preamble)
        except TimeoutError:
            raise DialError(f"no connection within {self.deadline:g} s", 504) from None
        except (OSError, ssl.SSLError) as error:
            raise DialError(self.explain(error)) from None

    def remember(self, connection: UpstreamConnection) -> None:
        """A response came to its end: its TLS session is worth resuming."""
        if self.trust is not None:
            tls = connection.transport.get_extra_info("ssl_object")
            self.trust.remember(tls.context, tls)

    def explain(self, error: BaseException) -> str:
        """Why a dial failed, in the admin's words."""
        if self.trust is not None:
            return self.trust.explain(error)
        number = getattr(error, "errno", None)
        return f"cannot connect: {os.strerror(number) if number else error}"

    async def _dial(self, preamble: bytes) -> UpstreamConnection:
        if self.trust is None:
            return await self._connect(None, preamble)
        context: ssl.SSLContext | None = self.trust.first()
        while context is not None:
            try:
                connection = await self._connect(context, preamble)
            except (OSError, ssl.SSLError) as error:
                context = self.trust.after(error, context)
                if context is None:
                    raise
                continue
            tls = connection.transport.get_extra_info("ssl_object")
            try:
                warning = self.trust.judge(tls.getpeercert(binary_form=True) or b"", context)
            except DialError as error:
                connection.transport.abort()
                context = self.trust.after(error, context)
                if context is None:
                    raise
                continue
            if warning is not None:
                self.warn(warning)
            return connection
        raise DialError("the upstream's certificate was not accepted")

    async def _look_up(self) -> list[AddrInfo]:
        """The addresses of a name that was not resolved when this began. Raises `DialError`."""
        assert self.watch is not None
        return sockaddrs((await self.watch.known())[0])

    async def _connect(self, context: ssl.SSLContext | None, preamble: bytes) -> UpstreamConnection:
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
            if context is None:
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(self), sock=sock
                )
            else:
                connection = UpstreamConnection(self)
                await shake.connect(sock, context, self.server_name, connection, SHUTDOWN)
        except BaseException:
            sock.close()
            raise
        return connection


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
