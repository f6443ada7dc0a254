"""A group of upstreams at work: who gets a request, and what the outcome means for its health.

`candidates` gives the endpoints in the order in which to try them. `answered` and `Endpoint.failed`
hear how it ended. Together with the probes (`probe`) that decides the `health` of each endpoint.
The table that `policies` choose from is made again when any of this changes. So a request costs one
choice, and nothing at all if there is only one endpoint.

This module never dials and never reads. Invariant: `only` is set exactly while there is one
endpoint. Then that is the whole answer, and the endpoint is not judged: nobody else could serve.

Metrics are plain numbers on each of `endpoints`: `pool.busy`, `len(pool.idle)`,
`len(pool.waiting)`, `pool.limit`, `health.state` (an enum; UP is well), `health.ejections` and
`health.probes_failed` (in all), `weight` and `share` (the part of the weight that counts now).
`title` is its name. `tally`, which all addresses of a name share, has `dials`, `dial_failures`,
`failures` and `ejections`.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import pathlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from rawproxy.balancing.health import DOWN, DUE, EJECTED, UP
from rawproxy.balancing.policies import POLICIES, Table, choose, cookie_value, prefer, tag
from rawproxy.config.model import HOST, Config, Group, Upstream
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http.forwarding import one_client
from rawproxy.protocol.http.head import RequestHead, ResponseHead
from rawproxy.tls.upstream_contexts import Contexts
from rawproxy.tls.upstream_trust import UpstreamTrust
from rawproxy.upstream.endpoint import Clock, Endpoint, EndpointContext
from rawproxy.upstream.members import Members
from rawproxy.upstream.probe import probe_for_ever
from rawproxy.upstream.resolver import Resolver
from rawproxy.upstream.waiting_room import WaitingRoom

log = logging.getLogger("rawproxy")
# RFC 9110 9.2.1. A request that tries an ejected endpoint must not be a payment.
_SAFE: Final = frozenset((b"GET", b"HEAD", b"OPTIONS"))
LOOK_AGAIN: Final = 5.0  # seconds between two looks at a certificate that was refused
# Outsiders do not know these, and they are the same for every worker. The first is also the same
# after a restart of the machine.
_SEEDS: Final = ("/etc/machine-id", "/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What a group needs from its worker."""

    clock: Clock
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    resolver: Resolver


class UpstreamGroup:
    """One group of the configuration, in one worker."""

    def __init__(
        self, config: Config, group: Group, around: WorkerContext, contexts: Contexts | None = None
    ) -> None:
        """`contexts` are those of the group, if somebody has made them."""
        self.name = group.name
        self.around = around
        self.by_tag: dict[bytes, Endpoint] = {}
        self._rule(group)
        self.due: list[Endpoint] = []  # ejected endpoints whose trial is due
        self.overdue = False  # no safe request has come for a trial within a tick
        self.panic = False  # no endpoint is well
        self.started = False
        self.table: Table[Endpoint] = Table(())
        self.only: list[Endpoint] | None = None
        self.by_host = group.server_name == HOST
        self.at_once: list[Endpoint] | None = None  # the answer to every request, if there is one
        self.waiting_room = WaitingRoom(group.queue, self.present, around.spawn)
        context = EndpointContext(
            config, group, around.clock, log.warning, self._failed, self._alive, self.waiting_room
        )
        self.members = Members(context, around.resolver, self._members_changed, contexts)
        self._members_changed(self.endpoints)

    def _rule(self, group: Group) -> None:
        """How this group chooses and judges, from now on."""
        self.group = group
        self.policy = POLICIES[group.policy]
        self.by_client = group.policy == "client-hash"
        self.cookie = group.cookie.encode() if group.policy == "cookie" else b""
        self.secret = secret(group.name) if self.cookie else b""
        self.statuses = frozenset(
            status for low, high in group.passive.status for status in range(low, high + 1)
        )

    def __repr__(self) -> str:
        states = " ".join(f"{one.title}={one.health.state.value}" for one in self.endpoints)
        return f"<UpstreamGroup {self.name} {states}>"

    @property
    def endpoints(self) -> list[Endpoint]:
        """The endpoints of now, also those that are ill, but not the retired ones."""
        return self.members.endpoints

    def present(self) -> list[Endpoint]:
        """The same as `endpoints`, as a function that can be handed on."""
        return self.members.endpoints

    # ── choosing ────────────────────────────────────────────────────────────────────────────────

    def candidates(self, head: RequestHead, context: rewrite.ClientContext) -> list[Endpoint]:
        """All endpoints that may serve, in the order in which to try them."""
        found = self.only or self._order(head, context)
        if not self.by_host:
            return found
        return [self.members.named(one, head.host) for one in found]

    def _order(self, head: RequestHead, context: rewrite.ClientContext) -> list[Endpoint]:
        """The same, each still under its own name."""
        key = one_client(rewrite.client_of(head, context)) if self.by_client else b""
        order = choose(self.table, self.policy, key)
        wanted = self._wanted(head) if self.cookie else None
        # A client with a cookie leaves its upstream for a trial only if nobody else comes along.
        if self.due and (self.overdue or (wanted is None and head.method in _SAFE)):
            wanted = self.due.pop()
            wanted.health.begin_trial(self.around.clock.now)
        return order if wanted is None else prefer(order, wanted)

    def _wanted(self, head: RequestHead) -> Endpoint | None:
        """The endpoint that the client's cookie names; None if there is none that may serve."""
        wanted = self.by_tag.get(cookie_value(head.value(b"cookie"), self.cookie))
        return wanted if wanted is not None and (wanted.health.state is UP or self.panic) else None

    def answered(
        self,
        endpoint: Endpoint,
        head: RequestHead,
        context: rewrite.ClientContext,
        response: ResponseHead,
    ) -> ResponseHead:
        """The final response has begun: judge its sender by the status.

        Returns the head, with our cookie if the client needs it.
        """
        if response.status in self.statuses:
            endpoint.failed()
        elif endpoint.health.succeeded(self.around.clock.now):
            self._changed(endpoint)
        if self.cookie and cookie_value(head.value(b"cookie"), self.cookie) != endpoint.tag:
            line = b"Set-Cookie: %b=%b; Path=/; HttpOnly; SameSite=Lax%b\r\n" % (
                self.cookie,
                endpoint.tag,
                b"; Secure" if context.scheme == b"https" else b"",
            )
            return response._replace(block=response.block + line)
        return response

    # ── health ──────────────────────────────────────────────────────────────────────────────────

    def tick(self, now: float) -> None:
        """Called about once a second: pools, the ends of ejections, slow starts."""
        self.members.tick(now)
        for one in self.endpoints:
            # A load balancer that reads /readyz may send no more requests, which would find out.
            if one.refused and now >= one.looks:
                one.looks = now + LOOK_AGAIN
                self.around.spawn(one.look_again())
        if self.only is not None:
            return
        self.overdue = bool(self.due)
        changed = [one for one in self.endpoints if one.health.tick(now)]
        if changed or any(one.ramping for one in self.endpoints):
            self._rebuild()

    def _failed(self, endpoint: Endpoint) -> None:
        if self.only is None and endpoint.health.failed(self.around.clock.now):
            self._changed(endpoint)

    def _alive(self, endpoint: Endpoint) -> None:
        if endpoint.health.alive(self.around.clock.now):
            self._changed(endpoint)

    def _probed(self, endpoint: Endpoint, fault: str | None) -> None:
        if endpoint.health.probed(fault is None, self.around.clock.now):
            self._changed(endpoint, fault or "")

    def _changed(self, endpoint: Endpoint, fault: str = "") -> None:
        health = endpoint.health
        if health.state is UP:
            log.warning("upstream %s is back", endpoint.title)
        elif health.state is DOWN:
            endpoint.tally.ejections += 1
            log.warning("upstream %s is out, its probes fail: %s", endpoint.title, fault)
        elif health.state is EJECTED:
            endpoint.tally.ejections += 1
            seconds = health.until - self.around.clock.now
            log.warning("upstream %s is out for %.3g s, requests fail", endpoint.title, seconds)
        self._rebuild()

    def _rebuild(self) -> None:
        """Make the table again, after any change."""
        now = self.around.clock.now
        endpoints = self.endpoints
        self.only = endpoints[:] if len(endpoints) == 1 else None
        self.at_once = None if self.by_host else self.only
        for one in endpoints:
            part = one.health.share(now)
            one.share = one.weight * (part or 1.0)
            one.ramping = 0.0 < part < 1.0
            one.on_response_head = None if self.only else functools.partial(self.answered, one)
        well = [one for one in endpoints if one.health.state is UP]
        self._say_panic(not well)
        members = [one for one in well or endpoints if not one.backup]
        spare = [one for one in well or endpoints if one.backup]
        self.table = Table(members or spare, spare if members else (), self.table.turn)
        self.due = [one for one in endpoints if one.health.state is DUE]
        if self.cookie:
            self.by_tag = {one.tag: one for one in endpoints if one.known}

    def _say_panic(self, panic: bool) -> None:
        if panic and not self.panic and self.only is None:
            log.warning("no upstream of group %s is well: trying all of them", self.name)
        self.panic = panic

    # ── life ────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Begin to resolve and to probe. Called in the running loop."""
        self.started = True
        for watch in self.members.watches.values():
            self.around.spawn(watch.run())
        for endpoint in self.endpoints:
            self._probe(endpoint)

    def become(self, config: Config, group: Group, trusts: dict[Upstream, UpstreamTrust]) -> None:
        """The same group with other members or rules; see `Members.become`. Nothing can fail."""
        self._rule(group)
        self.by_tag = {}
        self.waiting_room.queue.limit = group.queue
        for watch in self.members.become(config, group, trusts):
            self.around.spawn(watch.run())

    def _members_changed(self, new: list[Endpoint]) -> None:
        """The endpoints are others. `new`: those that are new or know their address only now."""
        for endpoint in new:
            if self.cookie:
                endpoint.tag = tag(endpoint.name, self.secret)
            if self.started:
                self._probe(endpoint)
        self._rebuild()

    def reseed(self, seed: bytes) -> None:
        """Other machines make their cookies of `seed`: so do we, and know those that they set."""
        if self.cookie:
            self.secret = secret(self.name, seed)
            for endpoint in self.endpoints:
                endpoint.tag = tag(endpoint.name, self.secret)
            self._rebuild()

    def _probe(self, endpoint: Endpoint) -> None:
        """Probe `endpoint` until it is retired. Without an address it is called for again later."""
        active = self.group.active
        if active is not None and endpoint.known and not endpoint.probing:
            endpoint.probing = True
            report = functools.partial(self._probed, endpoint)
            self.around.spawn(probe_for_ever(endpoint, active, report))


def secret(name: str, seed: bytes = b"") -> bytes:
    """The key of a group's cookies. Without a `seed`, this machine's own."""
    for path in _SEEDS:
        try:
            seed = seed or pathlib.Path(path).read_bytes().strip()
        except OSError:
            continue
    return hashlib.blake2b(b"rawproxy cookie " + name.encode(), key=seed[:64]).digest()
