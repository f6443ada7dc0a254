"""A change on its way through all workers of a master: all of them take it over, or none.

    begin ──► PREPARING ──all have prepared it──► ADOPTING ──all have adopted it, or ended──► done
                  │                                   └── one that does not is killed
                  └── one refuses, dies, or takes longer than `LIMIT` ──► dropped by all

The moment between the two states is the decision: the order is the master's from then on, and a
worker that starts later is given it. Before it, whatever happens, the old configuration stays.
After it nothing can be refused, as a worker that has prepared a change only has to assign.

It never starts a worker and never reads a configuration. Invariant: two workers serve by different
configurations for no longer than a word takes from the master to the slower of them.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterable
from typing import Any

from rawproxy.process.channel import Message
from rawproxy.process.children import Child
from rawproxy.process.select_loop import SelectLoop

LIMIT = 30.0  # seconds in which all workers must have prepared a change
ADOPT_LIMIT = 5.0  # seconds in which one that has prepared it must have adopted it
PIECE = 32  # sites in a message: less than a millisecond of reading for a worker that serves


class Progress(enum.Enum):
    """Where the change is."""

    NONE = "none"
    PREPARING = "preparing"
    ADOPTING = "adopting"


NONE, PREPARING, ADOPTING = Progress.NONE, Progress.PREPARING, Progress.ADOPTING


class InPlace:
    """The change that is under way, if there is one.

    `decided` is called when all have prepared it, then `done` when all serve by it. `refused` is
    called in their place, with the reasons.
    """

    def __init__(
        self,
        loop: SelectLoop,
        decided: Callable[[], None],
        done: Callable[[float], None],
        refused: Callable[[list[str]], None],
    ) -> None:
        self._loop = loop
        self._decided = decided
        self._done = done
        self._refused = refused
        self.progress = NONE
        self.number = 0  # of changes so far
        self._began = 0.0
        self.workers: set[Child] = set()
        self._due: set[Child] = set()  # those that have not answered yet

    def begin(self, patch: dict[str, Any], facts: dict[str, Any], workers: Iterable[Child]) -> None:
        """Let `workers` prepare `patch`. `facts` go with it."""
        self.number += 1
        self.progress, self._began = PREPARING, time.monotonic()
        self.workers = set(workers)
        self._due = set(self.workers)
        for message in pieces(self.number, patch, facts):
            for child in self.workers:
                self._loop.say(child, message)
        number = self.number

        def too_late() -> None:
            if self.number == number and self.progress is PREPARING:
                self.drop([f"a worker has not prepared the change within {LIMIT:g} s"])

        self._loop.later(LIMIT, too_late)
        if not self.workers:
            self._go_on()

    def hear(self, child: Child, message: Message) -> None:
        """A worker has prepared the change, adopted it, or says why it cannot."""
        if message["change"] != self.number or self.progress is NONE:
            return
        if "failed" in message:
            self.drop(message["failed"])
        elif message["is"] == ("prepared" if self.progress is PREPARING else "adopted"):
            self._due.discard(child)
            self._go_on()

    def ended(self, child: Child, how: str) -> None:
        """A worker has gone; another one starts, with the order that counts then."""
        if child not in self.workers or self.progress is NONE:
            return
        self.workers.discard(child)
        self._due.discard(child)
        if self.progress is PREPARING:
            self.drop([f"worker {child.slot} ({child.pid}) ended while it prepared it: {how}"])
        else:
            self._go_on()

    def drop(self, reasons: list[str]) -> None:
        """The old configuration stays."""
        if self.progress is not PREPARING:
            return
        self.progress = NONE
        self._send("drop")
        self._refused(reasons)

    def give_up(self) -> None:
        """The master stops: nobody asks any more what becomes of the change.

        Neither `done` nor `refused` is called, as both say that the master serves on.
        """
        if self.progress is PREPARING:
            self._send("drop")
        self.progress = NONE

    def _go_on(self) -> None:
        if self._due:
            return
        if self.progress is ADOPTING:
            self.progress = NONE
            self._done(time.monotonic() - self._began)
            return
        self.progress = ADOPTING
        self._due = set(self.workers)
        self._decided()
        self._send("adopt")
        number = self.number

        def too_late() -> None:
            if self.number == number and self.progress is ADOPTING:
                for child in self._due:
                    child.process.kill()

        self._loop.later(ADOPT_LIMIT, too_late)
        if not self._due:
            self._go_on()

    def _send(self, order: str) -> None:
        for child in self.workers:
            self._loop.say(child, {"change": self.number, "do": order})


def pieces(number: int, patch: dict[str, Any], facts: dict[str, Any]) -> list[Message]:
    """The messages that bring a patch: a worker reads each of them in one go."""
    sites = patch["sites"]
    found: list[Message] = [
        {"change": number, "sites": sites[at : at + PIECE]} for at in range(0, len(sites), PIECE)
    ]
    rest = {name: value for name, value in patch.items() if name != "sites"}
    return [*found, {"change": number, "patch": rest, **facts}]
