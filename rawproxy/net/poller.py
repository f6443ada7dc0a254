"""Readiness of sockets that OpenSSL reads and writes itself: an epoll of ours inside the loop's.

As `add_reader` and its fellows of a loop, with three differences that matter for thousands of TLS
connections: a turn is one call from the loop however many sockets are ready; a connection costs an
entry in a dict, not a handle; and a socket with an error (EPOLLERR) is reported until somebody has
read what came before the error, where uvloop reports it once and then never again.

It reads nothing itself. Invariant: a descriptor nobody waits for is not in the epoll, as errors
would be reported for it all the same. A callback may be called once too often (a number that was
closed and given out again within a turn), so it has to bear that nothing is ready.
"""

from __future__ import annotations

import asyncio
import select
import weakref
from collections.abc import Callable
from typing import Final

TURN: Final = 64  # sockets served before the loop's other business has its turn
IN: Final = select.EPOLLIN
OUT: Final = select.EPOLLOUT


class Poller:
    """What the TLS connections of one loop wait for."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._poll = self._epoll.poll
        self._readers: dict[int, Callable[[], None]] = {}
        self._writers: dict[int, Callable[[], None]] = {}
        self._watched: dict[int, Callable[[], None]] = {}
        self.fileno = self._epoll.fileno

    def add_reader(self, number: int, callback: Callable[[], None]) -> None:
        """Call `callback` whenever `number` can be read, instead of the one before."""
        if number not in self._readers:
            self._watch(number, IN, OUT if number in self._writers else 0)
        self._readers[number] = callback

    def add_writer(self, number: int, callback: Callable[[], None]) -> None:
        """Call `callback` whenever `number` can be written, instead of the one before."""
        if number not in self._writers:
            self._watch(number, OUT, IN if number in self._readers else 0)
        self._writers[number] = callback

    def remove_reader(self, number: int) -> bool:
        """Before `number` is closed; False if there was none."""
        if self._readers.pop(number, None) is None:
            return False
        self._leave(number, OUT if number in self._writers else 0)
        return True

    def remove_writer(self, number: int) -> bool:
        """Before `number` is closed; False if there was none."""
        if self._writers.pop(number, None) is None:
            return False
        self._leave(number, IN if number in self._readers else 0)
        return True

    def forget(self, number: int) -> None:
        """As `number` is closed, and nobody else has it open: the kernel stops by itself."""
        self._readers.pop(number, None)
        self._writers.pop(number, None)

    def watch(self, number: int, callback: Callable[[], None]) -> None:
        """Call `callback`, once, when `number` has an error or both its directions have ended.

        For descriptors that the loop reads and writes: it looks at none that does neither just now.
        """
        self._epoll.register(number, 0)
        self._watched[number] = callback

    def unwatch(self, number: int, callback: Callable[[], None]) -> None:
        """As `number` is closed, or was; by now it may be somebody else's."""
        if self._watched.get(number) == callback:
            del self._watched[number]

    def _hung_up(self, number: int) -> None:
        callback = self._watched.pop(number, None)
        if callback is not None:
            self._epoll.unregister(number)
            callback()

    def _watch(self, number: int, more: int, before: int) -> None:
        if before:
            self._epoll.modify(number, before | more)
        else:
            self._epoll.register(number, more)

    def _leave(self, number: int, left: int) -> None:
        if left:
            self._epoll.modify(number, left)
        else:
            self._epoll.unregister(number)

    def turn(self) -> None:
        """Something is ready; what is not served now is reported again."""
        readers, writers = self._readers, self._writers
        for number, events in self._poll(0, TURN):
            # Errors are for both sides: whoever is there will find out by trying.
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
    """That of the running loop."""
    loop = asyncio.get_running_loop()
    found = _pollers.get(loop)
    if found is None:
        found = _pollers[loop] = Poller()
        loop.add_reader(found.fileno(), found.turn)
    return found
