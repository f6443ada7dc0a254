"""Puts guards into a worker's service: one for each route that has something to ask.

It is called once, before the first client comes. It never serves. Invariant: what tells who
somebody is, is cut from what clients send on every route of a site that has a guard anywhere.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable

from rawproxy.access.counts import AccessCounts
from rawproxy.access.inquiry import AuthGate
from rawproxy.access.passwords import Hasher, Passwords
from rawproxy.access.questions import named
from rawproxy.access.rates import HEAD, SIZE, RateTable
from rawproxy.access.route_guard import RouteGuard
from rawproxy.access.rules import AccessRules
from rawproxy.config.json_codec import from_json
from rawproxy.protocol.http.rewrite import HeadEdits
from rawproxy.proxy.service import Service
from rawproxy.routing.route_targets import RouteTarget


def install(service: Service, memory: int | None) -> Callable[[], object]:
    """Make the guards; what is returned ends their work.

    `memory`: the descriptor of what all workers share (`process/shared_memory`); None: there are
    no others.
    """
    rules = [
        (target, from_json(AccessRules, target.access))
        for target in service.route_targets.all
        if target.access is not None
    ]
    if not rules:
        return int
    with contextlib.ExitStack() as stack:
        counts = AccessCounts()
        table = RateTable(_memory(memory))
        service.tell_secret(table.share)
        hasher = Hasher()
        stack.callback(hasher.close)
        gates: dict[tuple[object, ...], AuthGate] = {}
        for target, one in rules:
            _hide(target, one.identity)
            guard = RouteGuard(one, table, counts)
            if one.password is not None:
                guard.passwords = Passwords(one.password, table, hasher, counts)
            if one.auth is not None:
                key = (one.auth, one.identity)
                if key not in gates:
                    gates[key] = AuthGate(service, one.auth, one.identity)
                    gates[key].counts = counts
                guard.gate = gates[key]
            if one != AccessRules(identity=one.identity):
                target.guard = guard
        service.counted["access"] = counts.tree
        return stack.pop_all().close


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
    target.edits = edits._replace(request_cut=cut, families=families, stay=set())
