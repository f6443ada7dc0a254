"""Processes beside the workers, for what none of them may do alone: `keeper` of a capability.

Each is a fresh interpreter, as a worker is, and gets the work order, the room's name, and the
memory that all workers share. It serves nobody, and can be killed at any moment, so a reload
replaces it at once. One that says {"is": "ready"} hears what workers hear of what they have in
common. It may say

    {"shared": {…}}     values that hold for this machine from now on (`shared`)
    {"counted": {…}}    its numbers, for metrics

This module never asks what it does. Invariants: there is at most one for each room; one that ends
by itself is started again, after a pause.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from rawproxy.errors import ignore
from rawproxy.process.children import Backoff, Child, how_it_ended
from rawproxy.process.order import CODE_CHANGED, Order
from rawproxy.process.select_loop import SelectLoop
from rawproxy.telemetry.error_log import log

SLOT = -2  # of no worker


class Keepers:
    """Those of one master."""

    def __init__(self, loop: SelectLoop, memory: int) -> None:
        """`memory` is the descriptor of what all workers share."""
        self._loop = loop
        self._memory = memory
        self._order: Order | None = None  # None: none are wanted
        self._pauses: dict[str, Backoff] = {}
        self.children: dict[str, Child] = {}  # by room
        self.outdated: Callable[[], object] = ignore  # told where the code is another by now

    def replace(self, wanted: Order) -> None:
        """Start those of a generation that serves now, and end those of the one before."""
        self.stop()
        self._order = wanted
        for room in wanted.keepers:
            self._start(room)

    def renew(self, wanted: Order) -> None:
        """The same workers serve another configuration: start those anew that it is other for."""
        before = self._order
        if before is None or before.config.get("keepers") != wanted.config.get("keepers"):
            self.replace(wanted)

    def stop(self) -> None:
        """End all of them."""
        self._order = None
        for child in self.children.values():
            self._loop.hang_up(child)
            child.kill()
        self.children = {}

    def _start(self, room: str) -> None:
        assert self._order is not None
        child = self.children[room] = Child(SLOT, [self._memory])
        self._loop.watch(child)
        told = {"order": self._order.packed(), "keep": room, "memory": self._memory}
        self._loop.say(child, told)

    def ended(self, child: Child) -> bool:
        """Whether it was one of them. Another one takes its place."""
        room = next((name for name, one in self.children.items() if one is child), None)
        if room is None:
            return False
        del self.children[room]
        wanted = self._order
        pause = self._pauses.setdefault(room, Backoff()).after(time.monotonic() - child.born)
        why = "; ".join(child.failed[0]) if child.failed else f"it {how_it_ended(child.process)}"
        log.error("keeper of %s (%d): %s; another one starts in %g s", room, child.pid, why, pause)

        def start() -> None:
            if self._order is wanted and room not in self.children:
                self._start(room)

        self._loop.later(pause, start)
        if child.failed is not None and child.failed[1] == CODE_CHANGED:
            self.outdated()
        return True
