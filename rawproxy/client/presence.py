"""Whether a client that sends no more is still there to get its answer.

A client that closes its sending half and one that goes away send the same: an end. TCP tells them
apart only if we send something, because a peer that has gone answers by a reset (RFC 9293 3.10.7).
So the client is sent a `100 Continue`, after a moment in which most answers come anyway. Every
client of HTTP/1.1 has to be able to skip those, asked for or not (RFC 9110 15.2). nginx and Go's
server take each end for a client that has gone; HAProxy waits until the answer comes.

This module never reads. Invariant: whatever becomes of the connection, `over` ends the watch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from rawproxy.net.poller import Poller, poller

MOMENT: Final = 0.3  # seconds: with a round trip it is well under the one that rule 52 allows
ASK: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Presence:
    """The watch over one client. `ask` is called after a moment, `gone` when it has gone."""

    __slots__ = ("_gone", "_number", "_poller", "_timer")

    def __init__(
        self, transport: asyncio.Transport, ask: Callable[[], object], gone: Callable[[], None]
    ) -> None:
        self._gone = gone
        self._poller: Poller = poller()
        self._number: int = transport.get_extra_info("socket").fileno()
        self._poller.watch(self._number, gone)
        self._timer = asyncio.get_running_loop().call_later(MOMENT, ask)

    def over(self) -> None:
        """The connection is closed, or something is being sent anyway."""
        self._timer.cancel()
        self._poller.unwatch(self._number, self._gone)
