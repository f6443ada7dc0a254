"""What all connections of one worker share: endpoints, clock, counters, the log.

This module never reads from a peer. Invariant: `clients` holds every client connection and tunnel
that is open, so that the sweep and the drain reach all of them.

The clock is coarse: the sweep sets it, about once a second. Deadlines are fields on the
connections, and the sweep compares them with the time. No request has a timer. `deadline` makes
deadlines: it counts from the next sweep, so that no wait is cut short.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import os
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Final, Protocol

from rawproxy.config.model import Address, Config
from rawproxy.errors import ClientError, ProxyError, Source
from rawproxy.protocol.http import error_pages, forwarding, rewrite
from rawproxy.protocol.http.head import RequestHead
from rawproxy.protocol.http.last_hop import METHODS
from rawproxy.protocol.http.variable_values import Asked
from rawproxy.protocol.http1.parser import request_parser
from rawproxy.proxy.admission import Admission, ConnectionSlot
from rawproxy.proxy.recorder import Recorder, resident
from rawproxy.proxy.tunnel_close import DrainReason
from rawproxy.proxy.worker_groups import WorkerGroups, crowd_of
from rawproxy.routing.match import Sites
from rawproxy.routing.route_targets import RouteTarget, target_of
from rawproxy.routing.site_routes import RouteTargets
from rawproxy.telemetry import error_log, masks
from rawproxy.telemetry.counters import Tree
from rawproxy.telemetry.facts import Facts
from rawproxy.tls.client_identity import NOBODY

log = logging.getLogger("rawproxy")
CLIENTS: Final = 4096  # whose facts are remembered, some 500 bytes each
SLICE: Final = 1024  # clients swept in one turn of the loop: a millisecond of work
_FAILED: Final = "%s %d %s: %s"  # a request's id, its status, who asked for what, and the cause
SWEEP: Final = 1.0  # seconds between two looks at all deadlines


class Sweepable(Protocol):
    """A client connection or tunnel, as the sweep sees it."""

    def sweep(self, now: float) -> None: ...
    def has_tunnels(self) -> bool: ...
    def adopt(self) -> None: ...
    def drain(self) -> None: ...
    def abort(self) -> None: ...


class PreparedService(Protocol):
    """Another configuration, ready to be put in force: `service_change` makes it.

    Every step that can fail is done.
    """

    config: Config
    parse: Callable[[bytes, int], RequestHead | None]
    recorder: Recorder
    targets: RouteTargets
    sites: dict[Address | None, Sites[RouteTarget]]

    def put_groups(self, service: Service) -> None:
        """Let the groups of `service` be those of the configuration."""


class Service(WorkerGroups):
    """What one worker shares."""

    def __init__(
        self, config: Config, write_log: Callable[[bytes], None] | None, every: float = SWEEP
    ) -> None:
        super().__init__(config)
        self.every = every
        self.limits = config.limits
        self.deadlines = config.deadlines
        self.parse = request_parser(config.parser, config.limits, write_log is not None)
        self.next_sweep = 0.0  # when it is due
        self.announces = any(group.send_proxy for group in config.groups)
        self.route_targets = RouteTargets(config)
        self.route_target = self.route_targets.first()
        self.bind(self.route_targets)
        # By capabilities: each gives what is to be done with every new route target of another
        # configuration, before that counts. It may raise `ConfigError`.
        self.fitters: list[Callable[[Config], Callable[[RouteTarget], object]]] = []
        self.epoch = 0  # configurations so far; connections compare theirs with it
        self.sites: dict[Address | None, Sites[RouteTarget]] = {}  # since the first change
        self.recorder = Recorder(config, write_log)
        self.counters = self.recorder.counters
        # Clients come back; a new one costs a tenth of a handshake.
        self._contexts = functools.lru_cache(CLIENTS)(self._client_context)
        self.lag = 0.0  # seconds by which the last sweep was late: how busy the loop is
        self.admission = Admission(self.limits.connections, self.limits.per_client)
        # Clients' connections beyond which slow readers are told early.
        self.crowd = crowd_of(config)
        self.most_tunnels = self.limits.tunnels
        # What capabilities count: the leaves each has in a snapshot, by its room's name.
        self.counted: dict[str, Callable[[], Tree]] = {}
        # What plain listeners answer before a redirect, a site or a guard; None: nothing.
        self.plain_answer: Callable[[RequestHead], bytes | None] | None = None
        self.certificates: Callable[[], Tree] = dict  # what ends first, and how many are missing
        self.secret = b""  # what workers on other machines have too; empty: there is none
        self._told_secret: list[Callable[[bytes], object]] = []
        self.parked = 0  # bytes of bodies that come before their connections
        self.waiting = 0  # bytes of bodies whose connections are queued for or dialled
        self.clients: set[Sweepable] = set()
        self.draining = False
        self.leaving = DrainReason.STOPPED
        self.ends = 0.0  # once it drains: when that has to be over
        self.tunnels_end = 0.0  # and for tunnels
        self._timer: asyncio.TimerHandle | None = None
        self._stamped = 0
        self.date_line = b""

    def start(self) -> None:
        """Begin to sweep. Called in the running loop."""
        self._home = self._loop = asyncio.get_running_loop()
        self.recorder.gather(self._loop.call_later)
        self._tick()
        for group in self.groups.values():
            group.start()

    def _tick(self) -> None:
        """One sweep: the clock, the Date line, every deadline, every pool."""
        now = self._loop.time()
        self.lag = max(now - self.next_sweep, 0.0) if self.next_sweep else 0.0
        self.clock.now = now
        self.next_sweep = now + self.every
        wall = time.time()
        self.date_line = b"Date: %b\r\n" % formatdate(wall, usegmt=True).encode()
        self.recorder.stamp(wall)
        if self.admission.refused:
            refused, self.admission.refused = self.admission.refused, 0
            self.counters.refused += refused
            self.warn(f"{refused} connections refused: see --limit connections and per-client")
        if self.admission.refused_streams:
            refused, self.admission.refused_streams = self.admission.refused_streams, 0
            self.warn(f"{refused} requests over HTTP/2 refused: see --limit per-client")
        self._sweep(tuple(self.clients), 0)
        self.tick_groups(now)
        self._timer = self._loop.call_later(self.every, self._tick)

    def _sweep(self, clients: tuple[Sweepable, ...], at: int) -> None:
        """Look at the deadlines of `SLICE` clients, and at the others in a later turn."""
        now = self.clock.now
        for client in clients[at : at + SLICE]:
            if client in self.clients:
                client.sweep(now)
        if at + SLICE < len(clients):
            self._loop.call_soon(self._sweep, clients, at + SLICE)

    def deadline(self, seconds: float) -> float:
        """When a wait of so many seconds is over that begins now. It never ends too early."""
        return self.next_sweep + seconds

    def stop(self) -> None:
        """Stop: no more sweeps, close idle upstream connections, cancel dials."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        for group in self._all_groups():
            group.members.close_idle()

    def drain(self, why: DrainReason = DrainReason.STOPPED) -> None:
        """Finish what is under way, and keep nothing. May be called again with less time."""
        now, drain = self._loop.time(), self.deadlines.drain
        if not self.draining:
            self.ends, self.tunnels_end = now + drain, math.inf
        self.draining = True
        stay = self.deadlines.tunnel_drain if why is DrainReason.RETIRED else drain
        if stay < 0:
            self.tunnels_end = self.ends
        elif stay:
            self.tunnels_end = min(self.tunnels_end, now + stay)
        self.leaving = why
        for group in self.groups.values():
            group.members.drain()
        for client in tuple(self.clients):
            client.drain()

    def time_left(self) -> float:
        """Seconds until everything is cut that is still under way."""
        return max(self.ends - self._loop.time(), 0.0)

    def tunnel_time_left(self) -> float:
        """The same for tunnels, which may have more; infinity: they may stay for ever."""
        return max(self.tunnels_end - self._loop.time(), self.time_left())

    def occupied(self) -> bool:
        """Whether any client is still here, even if it has said nothing yet."""
        return bool(self.clients or self.admission.open)

    # ── another configuration ───────────────────────────────────────────────────────────────────

    def adopt(self, new: PreparedService) -> None:
        """From now on `new` counts, for every request that begins. Nothing here can fail.

        Exchanges and tunnels that are under way finish under the rules they began with.
        """
        self.recorder.flush()
        config = self.config = new.config
        self.limits, self.deadlines, self.parse = config.limits, config.deadlines, new.parse
        self.announces = any(one.send_proxy for one in config.groups)
        self.recorder = new.recorder
        self.admission.total = config.limits.connections or self.admission.total
        self.admission.per_client = config.limits.per_client
        self.most_tunnels = config.limits.tunnels or self.most_tunnels
        self.crowd = crowd_of(config)
        new.put_groups(self)
        self.route_targets = new.targets
        self.route_target = new.targets.first()
        self.bind(new.targets)
        self.sites = new.sites
        self._contexts = functools.lru_cache(CLIENTS)(self._client_context)
        self.epoch += 1
        self._tell_clients(tuple(self.clients), 0)

    def reseed(self, secret: bytes) -> None:
        """From now on, whatever other machines have to be able to read is made of `secret`."""
        self.secret = secret
        for group in self.groups.values():
            group.reseed(secret)
        for tell in self._told_secret:
            tell(secret)

    def tell_secret(self, tell: Callable[[bytes], object]) -> None:
        """Call `tell` with that secret whenever there is another one, and now if there is one."""
        self._told_secret.append(tell)
        if self.secret:
            tell(self.secret)

    def _tell_clients(self, clients: tuple[Sweepable, ...], at: int) -> None:
        """Let so many clients know, and the others in a later turn."""
        for client in clients[at : at + SLICE]:
            if client in self.clients:
                client.adopt()
        if at + SLICE < len(clients):
            self._loop.call_soon(self._tell_clients, clients, at + SLICE)

    def tunnels_full(self) -> bool:
        """Whether no more connections may be apart from their pools. They have a limit."""
        most = self.most_tunnels
        return 0 < most <= sum(one.pool.apart for one in self.endpoints)

    def pace(self, route_target: RouteTarget, seconds: float) -> float:
        """Bytes that a body has to make within `seconds` on this route; at least one."""
        return max(route_target.limits.rate * seconds, 1)

    def find(
        self,
        sites: Sites[RouteTarget],
        slot: ConnectionSlot,
        head: RequestHead,
        context: rewrite.ClientContext,
    ) -> RouteTarget:
        """The route of a request. Raises `ClientError` 400, 404 or 421."""
        route_target = target_of(sites, head, context, slot.server_port, slot.port)
        if route_target.client_cert_policy != slot.client_cert_policy and not (
            route_target.optional and not slot.tls
        ):
            # One site's certificate must not open the door of another (RFC 9110 15.5.20).
            raise ClientError("another site asks for client certificates in another way", 421)
        return route_target

    def follow(
        self, context: rewrite.ClientContext, route_target: RouteTarget
    ) -> rewrite.ClientContext:
        """The facts of a connection for a request that goes to `route_target`."""
        last = route_target.followed
        if last is None or last[0] is not context:
            hsts = route_target.hsts if context.scheme == b"https" else context.hsts
            made = context._replace(hsts=hsts, edits=route_target.edits, id=b"", moved=b"")
            last = route_target.followed = (context, made)
        return last[1]

    def asked(
        self,
        head: RequestHead,
        context: rewrite.ClientContext,
        slot: ConnectionSlot,
        route_target: RouteTarget,
    ) -> Asked:
        """What the values of a route may use of a request."""
        context = context._replace(id=self.recorder.new_id(head, context))
        return route_target.asked(head, context, slot.server_port, slot.port)

    def trusts(self, peer: str | None) -> bool:
        """Whether `peer` is one of `--trusted-proxy`. None is any peer of a unix socket."""
        networks = self.config.trusted_proxies
        if peer is None:
            return self.config.trust_unix
        if not networks:
            return False
        address = forwarding.address_of(peer.partition("%")[0].encode())
        return address is not None and forwarding.is_trusted(address, networks)

    def announced(self, peer: str | None) -> bool:
        """Whether a connection from `peer` begins with a PROXY protocol header."""
        return self.config.accept_proxy and self.trusts(peer)

    def context(self, slot: ConnectionSlot, secure: bool) -> rewrite.ClientContext:
        """The context of a client connection."""
        context = self._contexts(slot.peer, secure, slot.tls, slot.unknown)
        if slot.route is None and not self.route_targets.guarded:
            return context
        identity = (slot.identity or NOBODY) if self.route_targets.guarded else None
        return context._replace(route=slot.route, identity=identity)

    def _client_context(
        self, peer: str | None, secure: bool, tls: str, unknown: bool
    ) -> rewrite.ClientContext:
        """The part of the context that all connections of one client share."""
        config = self.config
        address = forwarding.address_of(peer.partition("%")[0].encode()) if peer else None
        shown = rewrite.UNIX if address is None else str(address).encode()
        trusted = self.trusts(peer) and not unknown
        # RFC 6797 7.2: no HSTS over plain http, unless a trusted proxy in front speaks TLS.
        hsts = self.route_target.hsts if secure else None if trusted else b""
        scheme = b"https" if secure else b"http"
        context = rewrite.context(shown, scheme, trusted, config.forwarded == "append", hsts)
        if config.send_forwarded:
            context = rewrite.with_forwarded(context)
        if config.send_real_ip:
            context = rewrite.with_real_ip(context)
        return context._replace(
            networks=config.trusted_proxies,
            client_field=config.client_field.lower().encode(),
            tls=tls.encode(),
            edits=self.route_target.edits,
            underscores=config.underscores == "pass",
            via=config.send_via,
        )

    def shown(self, peer: str | None) -> str:
        """A client's address as the log may show it."""
        masks = self.recorder.masks
        known = "unix:" if peer is None else peer.partition("%")[0]
        return known if masks is None else masks.address(known.encode()).decode()

    def warn(self, text: str) -> None:
        """A warning for the admin."""
        log.warning("%s", text)

    def failed(self, request_id: str, status: int, subject: str, cause: str) -> None:
        """A line with the cause of a generated error response, unless there were many like it."""
        same = {"kind": status, "reason": cause}
        log.warning(_FAILED, request_id, status, subject, cause, extra=same)

    def error_page(
        self,
        error: ProxyError,
        head: RequestHead | None,
        context: rewrite.ClientContext,
        facts: Facts | None,
    ) -> tuple[bytes, bytes]:
        """Lines and body of a response of our own. A log line has its id and the cause."""
        known = facts.id if facts is not None else b""
        request_id = (known or self.recorder.ids.next()).decode()
        hint = error.detail if error.source is Source.CLIENT else ""
        accept = head.value(b"accept") if head is not None else b""
        kind, page = error_pages.render(error.status, accept, request_id, hint)
        if head is None:  # nothing that could become an exchange, and be recorded as one
            self.recorder.tally.classes[error.status // 100] += 1
        if not error_log.again(_FAILED, error.status, error.detail):
            subject = masks.subject(self.recorder.masks, head, context.peer)
            self.failed(request_id, error.status, subject, error.detail)
        lines = b"Cache-Control: no-store\r\nX-Request-Id: %b\r\nContent-Type: %b\r\n"
        if error.status == 405:  # RFC 9110 15.5.6
            lines = b"Allow: %b\r\n" % METHODS + lines
        return lines % (request_id.encode(), kind) + error.lines, page

    def snapshot(self) -> Tree:
        """All counts of this worker. `counters.total` sums them up."""
        counters = self.recorder.counts()
        counters |= {name: count() for name, count in self.counted.items()}
        gauges: Tree = {
            "workers": 1, "draining": int(self.draining), "connections": self.admission.open,
            "tunnels": self.counters.tunnels, "upstreams": {},
        }  # fmt: skip
        counters, gauges = self.upstream_counts(counters, gauges)
        worker = {
            "pid": os.getpid(), "memory": resident(), "lag": self.lag, "cpu": counters["cpu"],
            "connections": self.admission.open, "requests": counters["requests"],
            "draining": self.draining, "certificates": self.certificates(),
        }  # fmt: skip
        return {"counters": counters, "gauges": gauges, "worker": worker}
