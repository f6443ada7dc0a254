"""The upstream groups of one worker: those of its configuration, and those that are leaving.

    groups    by name: they get requests
    gone      of an earlier configuration: what is under way there comes to its end
    past      the counters of upstreams that are configured no more

It never chooses an endpoint and never reads. Invariants: a group that something is under way with
is in one of the first two, so that sweep and drain reach it; no counter goes down when an upstream
goes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from rawproxy.balancing.health import UP
from rawproxy.balancing.pool import SHARE
from rawproxy.config.model import Config
from rawproxy.errors import ignore
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http.head import RequestHead
from rawproxy.routing.route_targets import RouteTarget
from rawproxy.routing.site_routes import RouteTargets
from rawproxy.telemetry.counters import PastTallies, Tree, add
from rawproxy.tls.upstream_trust import UpstreamTrust
from rawproxy.upstream.endpoint import Clock, Endpoint
from rawproxy.upstream.group import UpstreamGroup, WorkerContext
from rawproxy.upstream.resolver import Resolver

log = logging.getLogger("rawproxy")
# Connections that may each leave megabytes in the kernel before anybody knows they are slow.
CROWD: Final = 8


class WorkerGroups:
    """Base of the service."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.clock = Clock()
        self.around = WorkerContext(self.clock, self.spawn, Resolver(config.resolver))
        self.groups = {one.name: UpstreamGroup(config, one, self.around) for one in config.groups}
        self.gone: list[UpstreamGroup] = []  # the last thing in them may still be under way
        self.past = PastTallies()
        self.own_targets: list[RouteTarget] = []  # of requests that are ours: questions to guards
        self.tell: Callable[[], object] = ignore  # that a certificate was accepted
        self._tasks: set[asyncio.Task[None]] = set()
        self._home: asyncio.AbstractEventLoop | None = None  # the worker's, once it has begun

    @property
    def endpoints(self) -> list[Endpoint]:
        """Of all groups, those that are to be used no more among them."""
        return [one for group in self._all_groups() for one in group.members.everybody()]

    def _all_groups(self) -> list[UpstreamGroup]:
        return [*self.groups.values(), *self.gone]

    def bind(self, targets: RouteTargets) -> None:
        """Each target leads to the group of its name; requests under way keep the one they have."""
        for target in (*targets.all, *self.own_targets):
            group = self.groups.get(target.group)
            if group is not None:  # whoever asked one that is gone goes on with it
                target.upstreams = group

    def tick_groups(self, now: float) -> None:
        """About once a second: pools and health; who has nothing under way is forgotten."""
        for group in self.groups.values():
            group.tick(now)
        if self.gone:
            for group in self.gone:
                group.members.tick(now)
            self.gone = [group for group in self.gone if group.members.occupied()]

    def candidates(
        self, route_target: RouteTarget, head: RequestHead, context: rewrite.ClientContext
    ) -> list[Endpoint]:
        """The upstreams of the route's group, in the order in which to try them."""
        group: UpstreamGroup = route_target.upstreams
        return group.at_once or group.candidates(head, context)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a dial, say, beside the connections' own calls; the reference keeps it alive."""
        task = (self._home or asyncio.get_running_loop()).create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def judged(self) -> list[UpstreamTrust]:
        """What all upstreams over TLS are trusted by."""
        shared = (one for group in self._all_groups() for one in group.members.shared.values())
        return [one.trust for one in shared if one.trust is not None]

    def pins(self) -> dict[str, Any]:
        """The certificates of upstreams that were accepted since this was last asked."""
        told = ((trust.key, trust.news()) for trust in self.judged())
        return {key: news for key, news in told if news is not None}

    def tell_pins(self, tell: Callable[[], object]) -> None:
        """Call `tell` whenever a certificate has been accepted."""
        self.tell = tell
        for trust in self.judged():
            trust.on_news = tell

    def learn(self, pins: dict[str, Any]) -> None:
        """What the master knows of the workers' pins: there is one first time for all."""
        for trust in self.judged():
            if trust.key in pins and trust.obey(pins[trust.key]):
                # Another worker was first with another certificate: ours is let go.
                for one in self.endpoints:
                    if one.trust is trust:
                        one.close_idle()

    def upstream_counts(self, counters: Tree, gauges: Tree) -> tuple[Tree, Tree]:
        """Two trees of a snapshot, with what the upstreams have to say."""
        groups = self.groups.values()
        tallies = set()  # the addresses of a name share theirs, as it must outlive them
        live = {one.tally for group in groups for one in group.endpoints}
        counted: Tree = add(counters["upstreams"], self.past.counters(live))
        states: Tree = dict(gauges["upstreams"])
        for group, endpoint in ((one, each) for one in groups for each in one.endpoints):
            name, pools = endpoint.upstream.url, group.members.pools(endpoint)
            # Who waits for any of a group is shown with the first of it.
            rest = group.waiting_room.queue.size if endpoint is group.endpoints[0] else 0
            if endpoint.tally not in tallies:
                tallies.add(endpoint.tally)
                own = endpoint.tally.counters()
                counted[name] = add(counted[name], own) if name in counted else own
            state = {
                "busy": sum(pool.busy + pool.lent for pool in pools),
                "idle": sum(len(pool.idle) for pool in pools),
                "waiting": sum(pool.waiting.size for pool in pools) + rest,
                "limit": endpoint.pool.limit, "views": 1, "refused": int(endpoint.refused),
                "up": int(endpoint.health.state is UP and not endpoint.refused),
            }  # fmt: skip
            states[name] = add(states[name], state) if name in states else state
        return counters | {"upstreams": counted}, gauges | {"upstreams": states}


def crowd_of(config: Config) -> int:
    """So many slow readers cannot hold more of a pool than its share for them."""
    most = min((group.max_upstream for group in config.groups), default=0)
    return min(CROWD, most // SHARE)
