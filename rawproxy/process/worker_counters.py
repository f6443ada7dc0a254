"""What all workers have counted, as the master keeps it: those that live, and those that are gone.

A snapshot's `counters` only ever grow, so they stay in the sums after their worker. All else in a
snapshot is a state, and goes with the worker. If a worker was killed, its last snapshot counts.

This module never adds up living workers: whoever shows the numbers does. Invariant: no counter of
the sums ever goes down.
"""

from __future__ import annotations

from rawproxy.telemetry.counters import Tree, add


class WorkerCounters:
    """The last snapshot of each worker, and the counters of those that are gone."""

    def __init__(self) -> None:
        self._live: dict[int, Tree] = {}  # by the worker's process id
        self._retired: Tree = {}
        self._keepers: dict[int, Tree] = {}  # by process id: what each last said, by its room

    def update(self, pid: int, snapshot: Tree) -> None:
        """Keep the newest snapshot of a worker."""
        self._live[pid] = snapshot

    def told(self, pid: int, counted: Tree) -> None:
        """Keep what a keeper says of itself, under the name of its room, while it lives."""
        self._keepers[pid] = counted

    def remove(self, pid: int) -> None:
        """Keep only the counters of a worker that is gone; of a keeper, nothing."""
        self._keepers.pop(pid, None)
        snapshot = self._live.pop(pid, {})
        self._retired = add(self._retired, snapshot.get("counters", {}))

    def sums(self) -> Tree:
        """The answer to a worker that asks."""
        sums: Tree = {"workers": list(self._live.values()), "retired": self._retired}
        keepers = {room: one for told in self._keepers.values() for room, one in told.items()}
        return sums | {"keepers": keepers} if keepers else sums
