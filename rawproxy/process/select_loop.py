"""The master's loop: one `select` over its signals and its children's socketpairs, and its timers.

The master has no asyncio, so it stays small. This module decides nothing: whatever a child says is
handed to `hear`. Invariants: the loop asks whether a socketpair can be written to only while bytes
wait for it; a child that has hung up is never read again.
"""

from __future__ import annotations

import heapq
import selectors
import socket
import time
from collections.abc import Callable

from rawproxy.process.channel import Message
from rawproxy.process.children import Child


class SelectLoop:
    """`turn` waits for the next thing to happen and sees to it."""

    def __init__(self, hear: Callable[[Child, Message], None]) -> None:
        self._hear = hear
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0  # of timers so far: those due at the same moment run in their order

    def add(self, sock: socket.socket, call: Callable[[], None]) -> None:
        """Call `call` whenever `sock` can be read."""
        self._selector.register(sock, selectors.EVENT_READ, call)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call `call` in so many seconds, once."""
        self._count += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._count, call))

    def turn(self) -> None:
        """Wait until a socket is ready or a timer is due, and call whom it concerns."""
        wait = max(self._timers[0][0] - time.monotonic(), 0) if self._timers else None
        for key, _ in self._selector.select(wait):
            key.data()
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()

    def close(self) -> None:
        """End the loop; the sockets stay open."""
        self._selector.close()

    # ── children ────────────────────────────────────────────────────────────────────────────────

    def watch(self, child: Child) -> None:
        """From now on hand its messages to `hear`."""

        def ready() -> None:
            child.channel.flush()
            self.read(child)
            self._adjust(child)

        self.add(child.channel.sock, ready)

    def say(self, child: Child, message: Message) -> None:
        """Tell a child; what its socketpair does not take at once is sent when it does."""
        child.say(message)
        self._adjust(child)

    def read(self, child: Child) -> None:
        """Hand on all that a child has said so far."""
        while child.open:
            messages = child.channel.receive()
            if messages is None:
                self.hang_up(child)
                return
            if not messages:
                return
            for message in messages:
                self._hear(child, message)

    def hang_up(self, child: Child) -> None:
        """Hear no more of a child."""
        if child.open:
            self._selector.unregister(child.channel.sock)
            child.hang_up()

    def _adjust(self, child: Child) -> None:
        if child.open:
            sock = child.channel.sock
            mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if child.channel.unsent else 0)
            self._selector.modify(sock, mask, self._selector.get_key(sock).data)
