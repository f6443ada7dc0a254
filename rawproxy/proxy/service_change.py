"""Prepares another configuration for a worker's `Service`, beside the one that serves.

    prepare    targets of routes, guards, groups, trust: all that takes time, and all that can fail
    adopt      `Service.adopt` then only assigns

A worker serves while it prepares. So what grows with the number of sites is made in slices, each
shorter than `SLICE_TIME`, and what OpenSSL loads from disk is loaded in a thread. It never touches
the service before `adopt`. Invariants: what is the same in both configurations stays the same
object, with all that it knows; a change that was not adopted leaves nothing behind. Raises
`ConfigError` for files that cannot be used.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from rawproxy.config.difference import remade
from rawproxy.config.model import Address, Config, Group, Upstream
from rawproxy.protocol.http1.parser import request_parser
from rawproxy.proxy.recorder import Recorder
from rawproxy.proxy.service import Service
from rawproxy.routing.match import Routes, Sites
from rawproxy.routing.route_targets import RouteTarget
from rawproxy.routing.site_routes import RouteTargets
from rawproxy.tls.upstream_contexts import Contexts
from rawproxy.tls.upstream_trust import UpstreamTrust
from rawproxy.upstream.endpoint import Endpoint
from rawproxy.upstream.group import UpstreamGroup
from rawproxy.upstream.members import trust_of

SLICE_TIME: Final = 0.004  # seconds of work in a row: a request waits for less than that
LOGGED: Final = (
    "access_log", "log_format", "access_log_mask", "access_log_short_addresses",
    "access_log_no_paths", "send_request_id", "send_traceparent",
)  # fmt: skip

T = TypeVar("T")


async def in_slices(items: Iterable[T], work: Callable[[T], object]) -> None:
    """Do `work` for each of `items`, and let the loop turn after every `SLICE_TIME`."""
    until = time.monotonic() + SLICE_TIME
    for item in items:
        work(item)
        if time.monotonic() >= until:
            await asyncio.sleep(0)
            until = time.monotonic() + SLICE_TIME


class ServiceChange:
    """One change. `files` are those with another content than when the service read them."""

    def __init__(
        self, service: Service, config: Config, files: frozenset[str] = frozenset()
    ) -> None:
        self.service = service
        self.config = config
        self.files = files
        self.recorder = service.recorder
        self.parse = service.parse
        self.targets = service.route_targets
        self.sites: dict[Address | None, Sites[RouteTarget]] = {}
        old = service.config
        self._other_bounds = (old.limits, old.deadlines) != (config.limits, config.deadlines)
        self._kept: list[UpstreamGroup] = []
        self._become: list[tuple[UpstreamGroup, Group, dict[Upstream, UpstreamTrust]]] = []
        self._fresh: list[UpstreamGroup] = []
        self._shared: dict[tuple[object, ...], Contexts] = {}  # for groups that trust alike

    async def prepare(
        self, addresses: Sequence[Address | None], write_log: Callable[[bytes], None] | None
    ) -> None:
        """Make everything. `addresses` are those of the listeners."""
        config, service = self.config, self.service
        self.parse = request_parser(config.parser, config.limits, write_log is not None)
        self._prepare_recorder(write_log)
        self.targets = RouteTargets(config, service.route_targets)
        await in_slices(config.sites, self.targets.add)
        self.targets.done()
        for group in config.groups:
            await self._prepare_group(group)
            await asyncio.sleep(0)
        fitters = [fit(config) for fit in service.fitters]
        for fitted in fitters:
            await in_slices(self.targets.fresh, fitted)
        for address in dict.fromkeys((*addresses, None)):
            sites: Sites[RouteTarget] = Sites()
            await in_slices(self.targets.served(address), functools.partial(_add, sites))
            self.sites[address] = sites

    def for_new(self, address: Address | None) -> Sites[RouteTarget] | None:
        """What connections that come to `address` from now on are served by."""
        return None if self.targets.alone(address) else self.sites[address]

    def _prepare_recorder(self, write_log: Callable[[bytes], None] | None) -> None:
        before, old = self.service.recorder, self.service.config
        same = all(getattr(old, name) == getattr(self.config, name) for name in LOGGED)
        if not (same and write_log == before.write_log):
            self.recorder = Recorder(self.config, write_log)
            self.recorder.go_on_from(before)

    # ── groups ──────────────────────────────────────────────────────────────────────────────────

    async def _prepare_group(self, group: Group) -> None:
        known = self.service.groups.get(group.name)
        if known is None or remade(known.group, group, self.files):
            contexts = await self._contexts(group)
            around = self.service.around
            self._fresh.append(UpstreamGroup(self.config, group, around, contexts))
        elif known.group == group:
            self._kept.append(known)
        else:
            await self._warm(known.members.contexts, group)
            contexts = known.members.contexts
            trusts = {one: trust_of(contexts, group, one) for one in group.upstreams if one.tls}
            self._become.append((known, group, trusts))

    async def _contexts(self, group: Group) -> Contexts:
        """TLS contexts for a group; one that trusts and shows the same may have made them."""
        key = (group.verify, group.client_cert, group.tls)
        if key not in self._shared:
            contexts = Contexts.of(group)
            await self._warm(contexts, group)
            self._shared[key] = contexts
        return self._shared[key]

    async def _warm(self, contexts: Contexts, group: Group) -> None:
        """Let OpenSSL load what it needs beside the loop. Raises `ConfigError`."""
        first = next((one for one in group.upstreams if one.tls), None)
        if first is not None:
            await asyncio.to_thread(trust_of, contexts, group, first)

    # ── in force ────────────────────────────────────────────────────────────────────────────────

    def put_groups(self, service: Service) -> None:
        """Let the groups of `service` be those of the configuration."""
        known = {trust.key: trust.known for trust in service.judged()}
        staying = [*self._kept, *(group for group, _, _ in self._become)]
        leaving = [one for one in service.groups.values() if one not in staying]
        for group in leaving:
            for endpoint in group.endpoints:
                service.past.keep(endpoint.upstream.url, endpoint.tally)
        for group in staying if self._other_bounds else ():
            group.members.bound(self.config)
        for group, wanted, trusts in self._become:
            tallies = {one.tally for one in group.endpoints}
            group.members.parted = functools.partial(_keep, service)
            group.become(self.config, wanted, trusts)
            _go_on(service, group, [one for one in group.endpoints if one.tally not in tallies])
        for group in self._fresh:
            _go_on(service, group, group.endpoints)
        if service.secret:
            for group in (*self._fresh, *(group for group, _, _ in self._become)):
                group.reseed(service.secret)
        by_name = {one.name: one for one in (*staying, *self._fresh)}
        service.groups = {one.name: by_name[one.name] for one in self.config.groups}
        for trust in service.judged():
            # A pin is that of an upstream, whatever group it is in now.
            trust.known = known.get(trust.key, trust.known)
            trust.on_news = service.tell
        for group in leaving:
            group.members.leave()
        service.gone += leaving
        for group in self._fresh:
            group.start()


def _add(sites: Sites[RouteTarget], one: tuple[tuple[str, ...], Routes[RouteTarget]]) -> None:
    sites.add(*one)


def _keep(service: Service, endpoint: Endpoint) -> None:
    service.past.keep(endpoint.upstream.url, endpoint.tally)


def _go_on(service: Service, group: UpstreamGroup, endpoints: Sequence[Endpoint]) -> None:
    """Whoever of these was here before goes on with its counters."""
    for upstream in dict.fromkeys(one.upstream for one in endpoints):
        tally = service.past.again(upstream.url)
        if tally is not None:
            group.members.count_on(upstream, tally)
