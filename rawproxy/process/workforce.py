"""The workers of one master: those that serve, those that are to, and those that leave.

It never decides who comes or goes: `master` does. Invariant: a worker is told nothing but its order
until it is ready.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from rawproxy.net.listening import BindPlan, ListeningSockets
from rawproxy.process.channel import Message
from rawproxy.process.children import Child
from rawproxy.process.keepers import Keepers
from rawproxy.process.leaving import Leaving
from rawproxy.process.loading import Loading
from rawproxy.process.order import Order
from rawproxy.process.select_loop import SelectLoop
from rawproxy.process.shared import SharedByWorkers
from rawproxy.process.worker_counters import WorkerCounters
from rawproxy.telemetry.counters import Tree


class Workforce:
    """Base of the master. `hear` is called with each message of a child."""

    def __init__(
        self, wanted: Order, stock: ListeningSockets, hear: Callable[[Child, Message], None]
    ) -> None:
        self.order = self.next = wanted
        self.stock = stock
        self.plan = stock.plan  # of the generation that is to serve
        self.counters = WorkerCounters()
        self.shared = SharedByWorkers(time.monotonic())
        self.loop = SelectLoop(hear)
        self.serving: dict[int, Child] = {}  # by slot
        self.fresh: dict[int, Child] = {}  # by slot, of the generation that is to serve
        self.leaving = Leaving(self.loop)
        self.loading = Loading(self.loop)
        self.keepers = Keepers(self.loop, self.shared.memory)
        self.changes = {"in_place": 0, "new_processes": 0, "refused": 0}

    def many(self) -> str:
        """How many serve, in words."""
        return "1 worker" if len(self.serving) == 1 else f"{len(self.serving)} workers"

    def sums(self) -> Tree:
        """What all workers have counted, and the master."""
        told = {"sources": self.loading.sources, "changes": self.changes}
        return self.counters.sums() | {"master": told}

    def _children(self) -> list[Child]:
        workers = (*self.serving.values(), *self.fresh.values(), *self.leaving)
        return [*workers, *self.loading.children(), *self.keepers.children.values()]

    def _worker(self, slot: int, wanted: Order, plan: BindPlan) -> Child:
        """Start a worker and give it its work order."""
        sockets = plan.of(slot, wanted.workers)
        child = Child(slot, [self.shared.memory, *(fd for _, fds in sockets for fd in fds)])
        child.order = wanted
        self.loop.watch(child)
        message = {
            "order": wanted.packed(),
            "slot": slot,
            "sockets": [((a.host, a.port, a.path), fds) for a, fds in sockets],
            "throwaway": self.shared.certificate(wanted.throwaway),
            **self.shared.tickets(),
            "memory": self.shared.memory,
        }
        self.loop.say(child, message)
        return child

    def _tell(self, children: list[Child], message: Message) -> None:
        """Tell those that are ready; the others read nothing but their order until they are."""
        for child in children:
            if child.ready:
                self.loop.say(child, message)

    def _exchange(self, child: Child) -> None:
        """Another worker takes the place of this one, which drains."""
        self.serving[child.slot] = self._worker(child.slot, self.order, self.stock.plan)
        self.leaving.retire([child], self.order, {"do": "retire"})
