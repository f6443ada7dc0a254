"""The loaders of a master: who reads the configuration, and who watches its sources.

    loader     reads it once, at a reload; if it has sources, it becomes the
    watcher    which stays, and offers another configuration whenever its sources say so

An offer is what one of them has read, and what is other in it (`compared`). This module never
decides what becomes of an offer: the master does. Invariants: at most one loader and one watcher
live; an offer of whoever has been dismissed is never taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rawproxy.process.channel import IN_FORCE, REFUSED, Message
from rawproxy.process.children import Backoff, Child
from rawproxy.process.order import Order, OrderError, unpacked
from rawproxy.process.select_loop import SelectLoop
from rawproxy.telemetry.error_log import log


@dataclass(frozen=True, slots=True)
class Offer:
    """A configuration that somebody has read."""

    child: Child
    order: Order
    change: dict[str, Any]  # `compared`; empty: by code that does not compare
    renew: bool = False  # whether new processes are wanted in any case

    def why_not(self) -> list[str]:
        """Why the workers that run cannot take it over."""
        if self.renew:
            return ["they were asked for"]
        if not self.change:
            return ["the code is another one"]
        return list(self.change["new_processes"])


class Loading:
    """The loaders of one master."""

    def __init__(self, loop: SelectLoop) -> None:
        self._loop = loop
        self.loader: Child | None = None
        self.watcher: Child | None = None
        self.offer: Offer | None = None  # that the master has taken, until it is settled
        self.sources: dict[str, Any] = {}  # how they are, for metrics
        self.again = self.renew_again = False  # whether a reload was asked for during another one
        self._kept: Any = []  # the last good state of fragments that are wrong now
        self._waiting: dict[Child, Offer] = {}
        self._renew = False
        self._pauses = Backoff()

    def children(self) -> list[Child]:
        """Those that live."""
        return [child for child in (self.loader, self.watcher) if child is not None]

    def begin(self, running: Order, renew: bool) -> None:
        """Let a fresh loader read the configuration, beside what is in force."""
        self._renew = renew
        self.loader = Child(-1, ())
        self._loop.watch(self.loader)
        packed = running.packed()
        self._loop.say(self.loader, {"do": "load", "running": packed, "kept": self._kept})

    def hear(self, child: Child, message: Message) -> bool:
        """See to what a loader says; whether it is an offer."""
        if child not in self.children():
            return False
        if "sources" in message:
            self.sources, self._kept = message["sources"], message["kept"]
        if "order" not in message:
            return False
        try:
            order = unpacked(message["order"])
        except OrderError as error:
            child.failed = [str(error)], error.code
            return False
        renew = self._renew and child is self.loader
        self._waiting[child] = Offer(child, order, message.get("change") or {}, renew)
        return True

    def take(self) -> Offer | None:
        """An offer that nobody has taken; it is under way until `settle`.

        While there is a loader, its offer comes first: it may bring another watcher.
        """
        child = self.loader or self.watcher
        self._waiting = {
            one: offer for one, offer in self._waiting.items() if one in self.children()
        }
        if child is None or child not in self._waiting:
            return None
        self.offer = self._waiting.pop(child)
        return self.offer

    def settle(self, order: Order, *, accepted: bool) -> None:
        """`order` is in force; if `accepted`, by the offer that was taken."""
        offer, self.offer = self.offer, None
        if offer is None or offer.child not in self.children():
            return
        self._loop.say(offer.child, {"verdict": IN_FORCE if accepted else REFUSED})
        if offer.child is not self.loader or not accepted:
            return
        before, self.watcher = self.watcher, None
        if before is not None:
            self._end(before)
        if order.has_sources:
            self.watcher, self.loader = self.loader, None
        else:
            self.sources, self._kept = {}, []

    def ended(self, child: Child) -> bool:
        """One of them has gone; whether that is the loader, which had made no offer."""
        if child is self.watcher:
            self.watcher = None
            return False
        self.loader = None
        made = self.offer is not None and self.offer.child is child
        return not (made or child in self._waiting)

    def watch_again(self, child: Child, start: Callable[[], None]) -> None:
        """Whoever watched the sources has gone, and what is known of them stays: `start` anew."""
        pause = self._pauses.after(time.monotonic() - child.born)
        log.error("nobody watches the sources of the configuration: again in %g s", pause)
        self._loop.later(pause, start)

    def unfinished(self) -> list[Child]:
        """The loader, if there is one: it is dismissed."""
        loader, self.loader = self.loader, None
        return [loader] if loader is not None else []

    def dismissed(self) -> list[Child]:
        """All of them, and they are dismissed."""
        children = self.children()
        self.loader = self.watcher = None
        return children

    def _end(self, child: Child) -> None:
        child.kill()
        self._loop.hang_up(child)
