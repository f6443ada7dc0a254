"""Tells when a socket is ready that OpenSSL reads and writes itself: our epoll inside the loop's.

It has `add_reader` and the like, as an event loop has. Three differences matter for thousands of
TLS connections. The loop makes one call for a turn, however many sockets are ready. A connection
costs an entry in a dict, not a handle. And a socket with an error (EPOLLERR) is reported until
somebody has read what came before the error; uvloop reports it once and then never again.

This module reads nothing itself, but has a place that callbacks read into. Invariant: a descriptor
for which nobody waits is not in the epoll, because its errors would be reported all the same. A
callback may be called once too often (if a number is closed and given out again within a turn), so
it has to accept that nothing is ready.
"""

from __future__ import annotations

import asyncio
import mmap
import select
import weakref
from collections.abc import Callable
from typing import Final

TURN: Final = 64  # sockets that are served before the loop does other work
# Bytes that a callback reads at a time. More at a time is fewer calls, but with 448 KiB the
# processor's cache no longer has it all when it is written: 160 KiB costs least of what was tried.
PLACE: Final = 10 * 16_384
# The same for one that makes an object of them: 112 KiB, which malloc still takes from its heap. A
# larger piece would be mapped and paged in each time, which costs 10 % of a large download.
COPIED: Final = 7 * 16_384
IN: Final = select.EPOLLIN
OUT: Final = select.EPOLLOUT


class Poller:
    """The sockets for which the TLS connections of one loop wait."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._poll = self._epoll.poll
        self._readers: dict[int, Callable[[], None]] = {}
        self._writers: dict[int, Callable[[], None]] = {}
        self._watched: dict[int, Callable[[], None]] = {}
        self._later: list[Callable[[], None]] = []
        self.fileno = self._epoll.fileno
        self.place = mmap.mmap(-1, PLACE)  # what is sliced off it is bytes, in one step

    def add_reader(self, number: int, callback: Callable[[], None]) -> None:
        """Call `callback` whenever descriptor `number` can be read. It replaces the last one."""
        if number not in self._readers:
            self._watch(number, IN, OUT if number in self._writers else 0)
        self._readers[number] = callback

    def add_writer(self, number: int, callback: Callable[[], None]) -> None:
        """Call `callback` whenever descriptor `number` can be written. It replaces the last one."""
        if number not in self._writers:
            self._watch(number, OUT, IN if number in self._readers else 0)
        self._writers[number] = callback

    def remove_reader(self, number: int) -> bool:
        """Stop waiting, before `number` is closed. False if nobody waited to read."""
        if self._readers.pop(number, None) is None:
            return False
        self._leave(number, OUT if number in self._writers else 0)
        return True

    def remove_writer(self, number: int) -> bool:
        """Stop waiting, before `number` is closed. False if nobody waited to write."""
        if self._writers.pop(number, None) is None:
            return False
        self._leave(number, IN if number in self._readers else 0)
        return True

    def forget(self, number: int) -> None:
        """`number` is being closed, and nobody else has it open: the kernel stops by itself."""
        self._readers.pop(number, None)
        self._writers.pop(number, None)

    def watch(self, number: int, callback: Callable[[], None]) -> None:
        """Call `callback` once, when `number` has an error or both its directions have ended.

        This is for descriptors of the loop's own transports: the loop does not look at one that it
        neither reads nor writes just now.
        """
        if number not in self._readers and number not in self._writers:
            self._epoll.register(number, 0)
        self._watched[number] = callback

    def unwatch(self, number: int, callback: Callable[[], None]) -> None:
        """Stop watching `number`, which was closed. It may be somebody else's by now."""
        if self._watched.get(number) == callback:
            del self._watched[number]

    def look_later(
        self, callback: Callable[[], None], seconds: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Call `callback` in `seconds` or less, together with others: one timer serves all."""
        if not self._later:
            loop.call_later(seconds, self._look)
        self._later.append(callback)

    def _look(self) -> None:
        later, self._later = self._later, []
        for callback in later:
            callback()

    def _hung_up(self, number: int) -> None:
        callback = self._watched.pop(number, None)
        if callback is not None:
            if number not in self._writers:
                self._epoll.unregister(number)
            callback()

    def _watch(self, number: int, more: int, before: int) -> None:
        if before or number in self._watched:
            self._epoll.modify(number, before | more)
        else:
            self._epoll.register(number, more)

    def _leave(self, number: int, left: int) -> None:
        if left or number in self._watched:
            self._epoll.modify(number, left)
        else:
            self._epoll.unregister(number)

    def turn(self) -> None:
        """Serve what is ready. What is not served now is reported again."""
        readers, writers = self._readers, self._writers
        for number, events in self._poll(0, TURN):
            # An error is for both callbacks: each finds out by trying.
            if events != OUT:
                callback = readers.get(number)
                if callback is not None:
                    callback()
                elif self._watched:
                    self._hung_up(number)
            if events != IN:
                callback = writers.get(number)
                if callback is not None:
                    callback()


_pollers: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Poller]] = (
    weakref.WeakKeyDictionary()
)


def poller() -> Poller:
    """The poller of the running loop."""
    loop = asyncio.get_running_loop()
    found = _pollers.get(loop)
    if found is None:
        found = _pollers[loop] = Poller()
        loop.add_reader(found.fileno(), found.turn)
    return found
