"""What an HTTP/1 client has sent before its turn: it is kept, and reading stops meanwhile.

A client has its turn while it takes the answers that it has, and after others have had theirs. One
turn of the loop serves `TURN` requests of a connection. Otherwise answers that need no upstream
would follow each other as long as there are requests.

This module never looks at what it keeps. Invariants: nothing is read, and no request starts, while
the client does not read. What is kept goes on in order, in a later turn of the loop or when the
client has taken what it had.
"""

from __future__ import annotations

import asyncio
import enum
from abc import abstractmethod
from typing import Final

from rawproxy.client.h1_responder import Responder
from rawproxy.net.backpressure import PIPELINED, Valve, unsent
from rawproxy.proxy.admission import ConnectionSlot
from rawproxy.proxy.service import Service

# Requests of one connection that one turn of the loop serves, where answers need no upstream: some
# two milliseconds of work. Those behind them have their turn when all others had theirs.
TURN: Final = 16


class Phase(enum.Enum):
    """What the next bytes from the client are."""

    HEAD = "head"
    BODY = "body"
    ANSWER = "answer"
    DRAIN = "drain"
    LINGER = "linger"


HEAD: Final[Phase] = Phase.HEAD
BODY: Final[Phase] = Phase.BODY
ANSWER: Final[Phase] = Phase.ANSWER
DRAIN: Final[Phase] = Phase.DRAIN
LINGER: Final[Phase] = Phase.LINGER


class H1Intake(Responder):
    """Base of the HTTP/1 connection: bytes whose turn has not come."""

    __slots__ = ("at", "blocked", "buffer", "due", "parsing", "phase", "valve")

    valve: Valve

    def __init__(self, service: Service, slot: ConnectionSlot, redirect: int) -> None:
        super().__init__(service, slot, redirect)
        self.phase = HEAD
        self.buffer = b""
        self.at = 0  # where in it the next request begins
        self.parsing = False
        self.due = False  # it goes on in a later turn
        self.blocked = False  # the client does not read as fast as we write

    @abstractmethod
    def read_requests(self, data: bytes, at: int) -> None:
        """Start exchanges for what is in `data` from `at` on. Keep what is for later."""

    @abstractmethod
    def data_received(self, data: bytes) -> None:
        """The transport's call."""

    def stop_reading(self, data: bytes, at: int) -> None:
        """Nothing more can start just now. What is left of `data` begins at `at`."""
        if self.phase is HEAD and self.blocked:
            self.hold(data, at)
        elif at == len(data):
            # A body that is still to come is no later request, though its head was kept as one.
            if self.phase is not ANSWER and self.valve.reasons and not self.due:
                self.valve.open(PIPELINED)
        elif self.phase is not LINGER:
            self.buffer, self.at = data, at
            self.valve.close(PIPELINED)
            if self.phase is HEAD:
                self.later()

    def later(self) -> None:
        """Go on when all others have had their turn."""
        self.valve.close(PIPELINED)
        if not self.due:
            self.due = True
            asyncio.get_running_loop().call_soon(self._in_turn)

    def hold(self, data: bytes, at: int) -> None:
        """Wait: the client has to take what it has before it gets more."""
        if at < len(data):
            self.buffer, self.at = data, at
        self.valve.close(PIPELINED)
        self.client_took()
        self.deadline = self.service.deadline(self.service.deadlines.response_body)

    def _in_turn(self) -> None:
        """All others have had their turn."""
        if self.due:
            self.go_on()

    def go_on(self) -> None:
        """Read what was kept, if that is possible now."""
        self.due = False
        if self.phase is HEAD:
            if not self.blocked:
                self.read_requests(self.buffer, self.at)
        elif self.phase is BODY or self.phase is DRAIN:
            self.valve.open(PIPELINED)
            self.data_received(b"")  # the body has kept what it had no time for

    def keep(self, data: bytes) -> None:
        """Keep `data`, which belongs to a later request."""
        self.buffer, self.at = self.all_kept() + data, 0
        self.valve.close(PIPELINED)

    def all_kept(self) -> bytes:
        """Everything that was kept."""
        data, self.buffer = self.buffer[self.at :], b""
        self.at = 0
        return data

    def takes_the_rest(self) -> bool:
        """Whether the client, which gets nothing new, still takes what it has."""
        deadlines = self.service.deadlines
        wait = deadlines.response_body if self.phase is HEAD else deadlines.linger
        return bool(unsent(self.transport)) and self.still_takes(wait)

    def client_has(self) -> int:
        """Bytes of the response that the client has taken."""
        return self.sent - unsent(self.transport)
