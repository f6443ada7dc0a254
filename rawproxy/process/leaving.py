"""The workers of a master that drain: of earlier generations, and at the end all of them.

A worker has its drain for what is under way, and then `--timeout tunnel-drain` for its tunnels. One
that does not end in time is killed. Each reload that brings new processes may leave tunnels behind
in old ones, so only the `MOST` generations last retired may keep them: of an older one the tunnels
get the usual goodbye.

It never decides who drains. Invariant: at most `MOST` generations of old workers stay longer than
their drain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rawproxy.process.channel import Message
from rawproxy.process.children import Child
from rawproxy.process.order import Order
from rawproxy.process.select_loop import SelectLoop
from rawproxy.telemetry.error_log import log

MARGIN = 5.0  # seconds beyond its drain until a worker is killed
MOST = 4  # generations that may keep their tunnels: some 30 MB for each worker of them


class Leaving:
    """Those of one master."""

    def __init__(self, loop: SelectLoop) -> None:
        self._loop = loop
        self._generations: list[set[Child]] = []  # the oldest first

    def __iter__(self) -> Iterator[Child]:
        return (child for generation in self._generations for child in generation)

    def __contains__(self, child: object) -> bool:
        return any(child in generation for generation in self._generations)

    def __bool__(self) -> bool:
        return any(self._generations)

    def retire(self, children: Iterable[Child], order: Order, message: Message) -> None:
        """Let these drain, as `message` says; those that are not ready yet end at once."""
        generation = set(children)
        self._generations = [one for one in (*self._generations, generation) if one]
        for child in generation:
            if child.ready:
                self._loop.say(child, message)
            else:
                child.process.kill()
        stay = order.tunnel_drain if message.get("do") == "retire" else order.drain
        if stay:
            self._kill_later(generation, max(stay, order.drain) + MARGIN)
        for old in self._generations[:-MOST]:
            self.cut_tunnels(old, order)

    def cut_tunnels(self, children: Iterable[Child], order: Order) -> None:
        """No more patience for tunnels: they get the goodbye of a stop."""
        there = set(children)
        for child in there:
            self._loop.say(child, {"do": "drain"})
        self._kill_later(there, order.drain + MARGIN)

    def ended(self, child: Child) -> None:
        """One has gone."""
        for generation in self._generations:
            generation.discard(child)
        self._generations = [one for one in self._generations if one]

    def _kill_later(self, children: Iterable[Child], seconds: float) -> None:
        def too_late() -> None:
            for child in children:
                if child in self:
                    log.error("worker %d (%d) has not ended in time: killed", child.slot, child.pid)
                    child.process.kill()

        self._loop.later(seconds, too_late)
