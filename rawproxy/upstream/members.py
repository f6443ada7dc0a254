"""The endpoints of a group: how they are made, resolved and retired.

If an upstream is a name, it has an endpoint for each of its addresses. Until these are known, it
has one that waits for them. If an upstream is an address or a socket file, it has one endpoint for
ever.

When a name loses an address, its endpoint is retired: it gets no request, its idle connections are
closed, and what is under way comes to its end. If the name gets the address again, the endpoint is
as before.

This module never chooses an endpoint and never judges one. Invariant: `endpoints` has at least one
for each upstream.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from rawproxy.balancing.pool import Pool
from rawproxy.config.model import HOST, Config, Group, Upstream
from rawproxy.errors import ProxyError, ignore
from rawproxy.protocol.http.target import split_host
from rawproxy.telemetry.counters import Tally
from rawproxy.tls.fingerprints import place
from rawproxy.tls.upstream_contexts import Contexts
from rawproxy.tls.upstream_trust import UpstreamTrust
from rawproxy.upstream.connection import UpstreamConnection
from rawproxy.upstream.dialling import SharedUpstream
from rawproxy.upstream.endpoint import Clock, Endpoint, EndpointContext, identity
from rawproxy.upstream.endpoints_by_name import EndpointsByName
from rawproxy.upstream.name_watch import NameWatch
from rawproxy.upstream.resolver import Resolver, Server, is_numeric
from rawproxy.upstream.ticket import Ticket

log = logging.getLogger("rawproxy")


class Members:
    """The endpoints of a group, as they are now.

    `changed` is called when they are others. It gets those that are new or know their address only
    now.
    """

    def __init__(
        self,
        context: EndpointContext,
        resolver: Resolver,
        changed: Callable[[list[Endpoint]], None],
        contexts: Contexts | None = None,
    ) -> None:
        """`contexts` are those of the group, if somebody has made them."""
        group = context.group
        self.context = context
        self.changed = changed
        self.retired: list[Endpoint] = []
        self.draining = False
        self.namesakes: dict[Endpoint, EndpointsByName] = {}
        self.resolver = resolver
        self.parted: Callable[[Endpoint], None] = ignore  # whose upstream is no member any more
        self.watches: dict[Upstream, NameWatch] = {}
        self.contexts = contexts or Contexts.of(group)
        self.shared = {
            one: self._common(one, trust_of(self.contexts, group, one) if one.tls else None)
            for one in dict.fromkeys(group.upstreams)
        }
        self.endpoints = [Endpoint(context, self.shared[one]) for one in group.upstreams]

    def _common(self, upstream: Upstream, trust: UpstreamTrust | None) -> SharedUpstream:
        """What all addresses of an upstream that is new here have in common."""
        watch = None
        if upstream.path is None and not is_numeric(upstream.host):
            told = functools.partial(self._resolved, upstream)
            watch = self.watches[upstream] = NameWatch(upstream, self.resolver, told, log.warning)
        return SharedUpstream(upstream, Tally(), trust, watch)

    def everybody(self) -> list[Endpoint]:
        """All endpoints, also the retired ones, and each under all of its names."""
        others = [one for known in self.namesakes.values() for one in known.everybody()]
        return [*self.endpoints, *self.retired, *others]

    def named(self, endpoint: Endpoint, host: bytes) -> Endpoint:
        """The same server under the name that a request asks for. Without TLS there is one name."""
        trust = endpoint.trust
        if trust is None:
            return endpoint
        known = self.namesakes.get(endpoint)
        if known is None:

            def make(name: str) -> Endpoint:
                shared = SharedUpstream(
                    endpoint.upstream, endpoint.tally, trust.for_name(name), endpoint.watch
                )
                return Endpoint(self.context, shared)

            known = self.namesakes[endpoint] = EndpointsByName(endpoint, make)
        return known.of(host)

    def pools(self, endpoint: Endpoint) -> list[Pool[UpstreamConnection, Ticket]]:
        """The pools of a server, under all of its names."""
        known = self.namesakes.get(endpoint)
        return [endpoint.pool, *(known.pools() if known is not None else ())]

    def _retire(self, endpoint: Endpoint) -> None:
        known = self.namesakes.get(endpoint)
        for one in (endpoint, *(known.everybody() if known is not None else ())):
            one.draining = True
            one.close_idle()
        self.retired.append(endpoint)

    def _occupied(self, endpoint: Endpoint) -> bool:
        return any(pool.in_use() for pool in self.pools(endpoint))

    def tick(self, now: float) -> None:
        """Called about once a second: close old idle connections, forget retired endpoints."""
        for endpoint in self.everybody():
            for connection in endpoint.pool.expire(now):
                connection.transport.close()
            for handler in endpoint.pool.slow_holders(now):
                handler.on_cut()
        if self.retired:
            self.retired = [one for one in self.retired if self._occupied(one)]
        if self.namesakes:
            here = {*self.endpoints, *self.retired}
            self.namesakes = {k: names for k, names in self.namesakes.items() if k in here}
            for names in self.namesakes.values():
                names.tick()

    def drain(self) -> None:
        """Keep no connection from now on: the worker ends."""
        self.draining = True
        for endpoint in self.everybody():
            endpoint.draining = True

    def close_idle(self) -> None:
        """Close all idle connections: the worker ends."""
        for endpoint in self.everybody():
            endpoint.close_idle()

    # ── other members, in place ─────────────────────────────────────────────────────────────────

    def become(
        self, config: Config, group: Group, trusts: dict[Upstream, UpstreamTrust]
    ) -> list[NameWatch]:
        """The same group with other members, or other bounds; watches that are to be started.

        Who is the same server keeps its endpoints, and with them pool, health and counters, though
        its weight be another. `trusts` are those of all servers over TLS, for those that are new.
        Nothing here can fail.
        """
        before = self.context.group
        self.context = replace(self.context, config=config, group=group)
        known = {_server(one): one for one in before.upstreams}
        mine: dict[Upstream, list[Endpoint]] = {}
        for one in self.endpoints:
            mine.setdefault(one.upstream, []).append(one)
        watches, self.watches = self.watches, {}
        shared, self.shared = self.shared, {}
        self.endpoints = []
        since = self.context.clock.now
        for upstream in dict.fromkeys(group.upstreams):
            old = known.pop(_server(upstream), None)
            if old is not None and old in mine:
                self._stay(mine.pop(old), upstream, shared[old])
                continue
            made = self.shared[upstream] = self._common(upstream, trusts.get(upstream))
            self.endpoints.append(Endpoint(self.context, made, None, since, self.draining))
        for gone in mine.values():
            for endpoint in gone:
                self.parted(endpoint)
                self._retire(endpoint)
        staying = {*self.watches.values()} & {*watches.values()}
        for watch in watches.values():
            if watch not in staying:
                watch.stop()
        self.bound(config)
        self.changed(self.endpoints)
        return [watch for watch in self.watches.values() if watch not in staying]

    def _stay(self, endpoints: list[Endpoint], upstream: Upstream, shared: SharedUpstream) -> None:
        """These go on as those of `upstream`, which has another weight perhaps."""
        self.shared[upstream] = replace(shared, upstream=upstream)
        watch = shared.watch
        if watch is not None:
            self.watches[upstream] = watch
            watch.upstream = upstream
            watch.changed = functools.partial(self._resolved, upstream)
            if not upstream.srv:
                watch.servers = tuple(
                    replace(one, weight=upstream.weight, backup=upstream.backup)
                    for one in watch.servers
                )
        for one in endpoints:
            one.upstream = upstream
            if not upstream.srv:
                one.weight, one.backup = upstream.weight, upstream.backup
        self.endpoints += endpoints

    def bound(self, config: Config) -> None:
        """From now on the bounds are those of the group and of `config`."""
        self.context = replace(self.context, config=config)
        for endpoint in self.everybody():
            endpoint.bound(config, self.context.group)

    def count_on(self, upstream: Upstream, tally: Tally) -> None:
        """Whoever was here before goes on with its counters."""
        self.shared[upstream] = replace(self.shared[upstream], tally=tally)
        for one in self.endpoints:
            if one.upstream == upstream:
                one.tally = tally

    def leave(self) -> None:
        """The group is gone: what is under way comes to its end, and nothing is kept."""
        for watch in self.watches.values():
            watch.stop()
        self.drain()
        self.close_idle()

    def occupied(self) -> bool:
        """Whether anything is under way with any member."""
        return any(one.pool.in_use() for one in self.everybody())

    # ── names ───────────────────────────────────────────────────────────────────────────────────

    def _resolved(self, upstream: Upstream, servers: Sequence[Server]) -> None:
        """The name of `upstream` stands for `servers` now."""
        index = next(n for n, one in enumerate(self.endpoints) if one.upstream == upstream)
        mine = [one for one in self.endpoints if one.upstream == upstream]
        waiting = [one for one in mine if one.addresses is None]
        own = [*(one for one in self.retired if one.upstream == upstream), *mine]
        known = {one.name: one for one in own if one.addresses is not None}
        since = 0.0 if waiting else self.context.clock.now
        current: list[Endpoint] = []
        new: list[Endpoint] = []
        for server in servers:
            endpoint = known.get(server.name.encode())
            if endpoint is None and waiting:
                endpoint = waiting.pop()
                endpoint.settle_on(server)
                new.append(endpoint)
            elif endpoint is None:
                shared = self.shared[upstream]
                endpoint = Endpoint(self.context, shared, server, since, self.draining)
                new.append(endpoint)
            else:
                endpoint.settle_on(server)
                if endpoint in self.retired:
                    endpoint.draining = self.draining
                    new.append(endpoint)
            current.append(endpoint)
        if since:
            names = ", ".join(server.name for server in servers)
            log.info("upstream %s is now %s", upstream.url, names)
        others = [one for one in self.endpoints if one.upstream != upstream]
        self.endpoints = [*others[:index], *current, *others[index:]]
        self.retired = [one for one in self.retired if one not in current]
        for one in mine:
            if one not in current:
                self._retire(one)
        self.changed(new)


def _server(upstream: Upstream) -> Upstream:
    """What makes it the same server, whatever its share is."""
    return replace(upstream, weight=1, backup=False)


def trust_of(contexts: Contexts, group: Group, upstream: Upstream) -> UpstreamTrust:
    """The trust that all addresses of an https upstream share. Raises `ConfigError`."""
    name = group.server_name or identity(upstream)
    if name == HOST:  # for dials without a request: probes, and `rawproxy check`
        host = group.active.host if group.active is not None else None
        name = split_host(host.encode())[0].decode().strip("[]") if host else identity(upstream)
    return UpstreamTrust(contexts, group.pins, name, upstream.url)


async def reach(config: Config, group: Group, upstream: Upstream) -> list[str]:
    """Connect to every server of `upstream`; a line of text for each. Raises `ProxyError`."""
    trust = trust_of(Contexts.of(group), group, upstream) if upstream.tls else None
    context = EndpointContext(config, group, Clock(), log.warning, ignore, ignore, None)
    endpoint = Endpoint(context, SharedUpstream(upstream, Tally(), trust, None))
    lines = []
    try:
        servers: Sequence[Server | None] = (None,)
        if upstream.path is None and not is_numeric(upstream.host):
            servers = (await Resolver(config.resolver).servers(upstream)).servers
        for server in servers:
            if server is not None:
                endpoint.settle_on(server)
            connection = await endpoint.connect()
            tls = connection.transport.get_extra_info("ssl_object")
            how = "plain"
            if tls is not None and trust is not None:
                known = trust.how(place(tls.getpeername()))
                how = f"{tls.version()}, {tls.cipher()[0]}; its certificate {known}"
            connection.transport.abort()
            lines.append(f"upstream {endpoint.title}: reached ({how})")
    except ProxyError as error:
        raise type(error)(f"{endpoint.title}: {error.detail}", error.status) from None
    return lines
