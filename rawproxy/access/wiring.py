"""Puts guards into a worker's service: one for each route that has something to ask.

It is called before the first client comes, and for each further configuration before that counts.
It never serves. Invariant: what tells who somebody is, is cut from what clients send on every route
of a site that has a guard anywhere.
"""

from __future__ import annotations

import functools
import mmap
import os
from collections.abc import Callable

from rawproxy.access.counts import AccessCounts
from rawproxy.access.inquiry import AuthGate
from rawproxy.access.passwords import Hasher, Passwords
from rawproxy.access.questions import named
from rawproxy.access.rates import HEAD, SIZE, RateTable
from rawproxy.access.route_guard import RouteGuard
from rawproxy.access.rules import AccessRules, AuthRule
from rawproxy.config.json_codec import from_json
from rawproxy.config.model import Config
from rawproxy.protocol.http.rewrite import HeadEdits, cuts_only, finder
from rawproxy.proxy.service import Service
from rawproxy.routing.route_targets import RouteTarget


def install(service: Service, memory: int | None) -> Callable[[], object]:
    """Make the guards; what is returned ends their work.

    `memory`: the descriptor of what all workers share (`process/shared_memory`); None: there are
    no others.
    """
    wiring = AccessWiring(service, memory)
    fit = wiring.fitting(service.config)
    for target in service.route_targets.all:
        fit(target)
    service.bind(service.route_targets)
    service.fitters.append(wiring.fitting)
    return wiring.close


class AccessWiring:
    """What the guards of one worker have in common. Nothing of it is made before it is needed."""

    def __init__(self, service: Service, memory: int | None) -> None:
        self._service = service
        self._memory = memory
        self._gates: dict[tuple[object, ...], AuthGate] = {}
        self._table: RateTable | None = None
        self._hasher = Hasher()
        self._counts = AccessCounts()

    def close(self) -> None:
        """Compute no more passwords."""
        self._hasher.close()

    def fitting(self, config: Config) -> Callable[[RouteTarget], object]:
        """What gives a route target of this configuration its guard, if it is to have one.

        Gates that no guard asks any more are forgotten. Those that are asked by the same rule stay,
        and with them what they remember.
        """
        guards = (target.guard for target in self._service.route_targets.all)
        used = {id(one.gate) for one in guards if isinstance(one, RouteGuard)}
        self._gates = {key: one for key, one in self._gates.items() if id(one) in used}
        self._service.own_targets = [gate.target for gate in self._gates.values()]
        return functools.partial(self._fit, config)

    def _fit(self, config: Config, target: RouteTarget) -> None:
        if target.access is None:
            return
        rules = from_json(AccessRules, target.access)
        if self._table is None:
            self._table = RateTable(_memory(self._memory))
            self._service.tell_secret(self._table.share)
            self._service.counted["access"] = self._counts.tree
        _hide(target, rules.identity)
        guard = RouteGuard(rules, self._table, self._counts)
        if rules.password is not None:
            guard.passwords = Passwords(rules.password, self._table, self._hasher, self._counts)
        if rules.auth is not None:
            guard.gate = self._gate(config, rules.auth, rules.identity)
            guard.covered = guard.gate.form.covers(target.edits)
        if rules != AccessRules(identity=rules.identity):
            target.guard = guard

    def _gate(self, config: Config, auth: AuthRule, identity: tuple[str, ...]) -> AuthGate:
        key = (auth, identity, config.limits, config.deadlines)
        gate = self._gates.get(key)
        if gate is None:
            gate = self._gates[key] = AuthGate(self._service, auth, identity, config)
            gate.counts = self._counts
            self._service.own_targets.append(gate.target)
        return gate


def _memory(descriptor: int | None) -> memoryview:
    """The table's bytes: a secret, and zeros at first."""
    if descriptor is not None:
        return memoryview(mmap.mmap(descriptor, SIZE))
    own = mmap.mmap(-1, SIZE)
    own[:HEAD] = os.urandom(HEAD)
    return memoryview(own)


def _hide(target: RouteTarget, identity: tuple[str, ...]) -> None:
    """What a client says by these names goes no further, in whatever spelling."""
    if not identity:
        return
    names, families = named(identity)
    edits = target.edits or HeadEdits(frozenset(), b"", frozenset(), b"")
    cut = edits.request_cut | names
    finds = finder(cut, families)
    target.edits = cuts_only(edits._replace(request_cut=cut, families=families, finds=finds))
