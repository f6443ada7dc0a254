"""The process that keeps a machine in touch with the store, beside its workers.

                 ┌──────────── a call fails, or our own words do not come back ──────────┐
    AWAY ──reached, and everything is in agreement──► THERE ──────────────────────────────┘
      └── tries again, after a pause that grows

While the store is THERE, ten times a second what clients have spent on this machine is told, and
what they have spent elsewhere is written into the memory that the workers share. Keys of tickets,
pins and the secret go to the master when they change, and the master tells the workers. While it
is AWAY nothing is told and nothing taken over: the log says so once, and a metric.

A thread hears what others say; everything else happens in `run`, one thing after another. It never
serves, and no worker ever waits for it. Invariant: when the master has gone, it ends.
"""

from __future__ import annotations

import contextlib
import enum
import mmap
import os
import queue
import select
import socket
import threading
import time
from typing import Any, Final

from rawproxy.config.capabilities import modules
from rawproxy.config.options import CAPABILITIES
from rawproxy.errors import StoreError
from rawproxy.process import shared_memory
from rawproxy.process.channel import LineReader, Message, encode
from rawproxy.store import agreement
from rawproxy.store.amounts import MOST, Amounts
from rawproxy.store.opening import open_store
from rawproxy.store.verbs import Event, SharedStore, StoreWatch, ValueChanged
from rawproxy.telemetry.error_log import log

TICK: Final = 0.1  # seconds from one exchange of counts to the next
BEAT: Final = 1.0  # seconds after which it says that it is there, and looks at the values again
SILENCE: Final = 3.0  # seconds without our own beat: what we say there reaches nobody
# Seconds of counts that are told late, once the store is back. What is older is let go: clients
# would be shut out for as long as the store was away.
CARRIED: Final = 5.0
PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between two tries to reach it
QUEUE: Final = 4096  # events that wait; beyond it nothing is read, and Redis lets us go


class StoreState(enum.Enum):
    """Whether there is a store."""

    AWAY = "away"
    THERE = "there"


AWAY, THERE = StoreState.AWAY, StoreState.THERE


def serve(sock: socket.socket, told: Any, descriptor: int) -> int:
    """Keep in touch until the master hangs up; the exit code. Raises `ConfigError`."""
    with mmap.mmap(descriptor, shared_memory.SIZE) as memory:
        keeper = StoreKeeper(sock, open_store(told["url"]), memory)
        try:
            keeper.run()
        finally:
            keeper.close()
    return 0


class StoreKeeper:
    """One machine, as the store knows it."""

    def __init__(self, sock: socket.socket, store: SharedStore, memory: mmap.mmap) -> None:
        self.who = int.from_bytes(os.urandom(8))
        self.state = AWAY
        self.store = store
        self.sock = sock
        self.counted = {"told": 0, "heard": 0, "lost": 0}
        self._view = memoryview(memory)
        self._ledgers = {
            room.__name__.split(".")[1]: room.open_ledger(self._view)
            for room in modules(CAPABILITIES, "ledger")
        }
        self._lines = LineReader()
        self._pins: agreement.Pins = {}  # told by the master, not in agreement yet
        self._known: dict[str, Any] = {}  # what the master has been told
        # What was agreed upon, for a store that has lost it.
        self._secret = b""
        self._tickets: agreement.AgedKeys | None = None
        self._events: queue.Queue[tuple[int, Event | StoreError]] = queue.Queue(QUEUE)
        self._attempt = 0  # to reach the store: what older threads say is not listened to
        self._number = 0  # of our messages
        self._machines: dict[int, float] = {}  # when each was heard last
        self._echo = 0.0  # when we have heard ourselves
        self._away_since = -CARRIED
        self._pause = PAUSE
        self._try_at = self._beat_at = 0.0
        self._said = False  # whether the log has said that the store is away

    def run(self) -> None:
        """Until the master hangs up."""
        self._say({"is": "ready", "lines": []})
        at = time.monotonic()
        while self._listen(max(at - time.monotonic(), 0.0)):
            if time.monotonic() < at:
                continue  # the master has said something; it is seen to at its time
            at = max(at + TICK, time.monotonic())
            try:
                self._step(time.monotonic())
            except StoreError as error:
                self._lose(error)

    def close(self) -> None:
        """Let go of the store and of the memory."""
        self._attempt += 1
        self.store.close()
        self._ledgers.clear()
        with contextlib.suppress(BufferError):  # a view that the interpreter has not dropped yet
            self._view.release()

    # ── the master ──────────────────────────────────────────────────────────────────────────────

    def _listen(self, seconds: float) -> bool:
        """Hear what the master says; False: it has gone."""
        if not select.select([self.sock], [], [], seconds)[0]:
            return True
        try:
            data = self.sock.recv(1 << 16)
        except ConnectionError:  # it was killed
            return False
        for message in self._lines.feed(data):
            self._pins |= message.get("pins", {})
            for name in (agreement.SECRET, agreement.TICKETS):
                if name in message:
                    self._known[name] = message[name]  # keys of its own, after a day without us
        return bool(data)

    def _say(self, message: Message) -> None:
        with contextlib.suppress(ConnectionError):  # it has gone: `_listen` hears of that
            self.sock.sendall(encode(message))

    def _tell(self, name: str, value: Any, **more: Any) -> None:
        """Tell the master of a value, if it does not know it."""
        if self._known.get(name) != value:
            self._known[name] = value
            self._say({"shared": {name: value, **more}})

    def _report(self, now: float) -> None:
        """The numbers, for metrics."""
        self._machines = {k: at for k, at in self._machines.items() if now - at < SILENCE}
        there = self.state is THERE
        gauges = {"up": int(there), "machines": len(self._machines) if there else 1}
        self._say({"counted": {"store": self.counted | gauges}})

    # ── the store ───────────────────────────────────────────────────────────────────────────────

    def _step(self, now: float) -> None:
        """One exchange. Raises `StoreError`."""
        if self.state is AWAY:
            if now < self._try_at:
                return
            self._reach(now)
        for event in self._heard():
            if isinstance(event, ValueChanged):
                self._agree(event.name)
            else:
                self._take_over(event, now)
        if self._pins:
            self._agree(agreement.PINS)
        for room, ledger in self._ledgers.items():
            spent = ledger.news(MOST)
            if spent:
                self._count(room, tuple(spent))
        if now >= self._beat_at:
            self._beat_at = now + BEAT
            if now - self._echo > SILENCE:
                raise StoreError("what is said there does not come back")
            self._count("", ())
            for name in (agreement.SECRET, agreement.TICKETS):
                self._agree(name)
            self._report(now)

    def _reach(self, now: float) -> None:
        """From AWAY to THERE."""
        self._attempt += 1
        watch = self.store.watch()
        threading.Thread(
            target=self._hear, args=(watch, self._attempt), name="store", daemon=True
        ).start()
        self._pins = self._known.get(agreement.PINS, {}) | self._pins
        for name in (agreement.SECRET, agreement.TICKETS, agreement.PINS):
            self._agree(name)
        if now - self._away_since > CARRIED:
            for ledger in self._ledgers.values():
                ledger.news(MOST)
        self.state = THERE
        self._machines, self._echo = {self.who: now}, now
        self._pause, self._beat_at = PAUSE, now
        log.info("the store %s is %s", self.store.shown, "back" if self._said else "reached")
        self._said = False

    def _lose(self, error: StoreError) -> None:
        """To AWAY, or still there."""
        now = time.monotonic()
        self._attempt += 1
        if self.state is THERE:
            self.state, self._away_since = AWAY, now
            self.counted["lost"] += 1
        self.store.close()
        self._try_at = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        if not self._said:
            self._said = True
            text = "the store %s is away: %s; what is known stays in force, and limits are this"
            log.warning(text + " machine's own until it is back", self.store.shown, error)
        self._report(now)

    def _agree(self, name: str) -> None:
        """Bring one value into agreement, and tell the master. Raises `StoreError`."""
        if name == agreement.SECRET:
            self._secret = agreement.secret(self.store, self._secret)
            self._tell(name, self._secret.hex())
        elif name == agreement.TICKETS:
            wall = time.time()
            self._tickets = agreement.tickets(self.store, wall, self._tickets)
            age = max(wall - self._tickets.born, 0.0)
            self._tell(name, self._tickets.keys.hex(), age=age)
        elif name == agreement.PINS:
            settled = agreement.pins(self.store, self._pins)
            if any(settled.get(key) != told for key, told in self._pins.items()):
                self._known.pop(name, None)  # what was accepted here is refused elsewhere
            self._pins = {}
            self._tell(name, settled)

    def _count(self, room: str, spent: tuple[tuple[int, float], ...]) -> None:
        self._number += 1
        self.counted["told"] += len(spent)
        self.store.count(Amounts(self.who, self._number, room, spent))

    def _take_over(self, amounts: Amounts, now: float) -> None:
        """What a machine, ourselves perhaps, has said."""
        self._machines[amounts.who] = now
        if amounts.who == self.who:
            self._echo = now
            return
        ledger = self._ledgers.get(amounts.room)
        if ledger is not None:
            self.counted["heard"] += len(amounts.spent)
            ledger.charge(amounts.spent, now)

    # ── the thread that hears ───────────────────────────────────────────────────────────────────

    def _hear(self, watch: StoreWatch, attempt: int) -> None:
        try:
            while attempt == self._attempt:
                for event in watch.wait(BEAT):
                    self._events.put((attempt, event))
        except StoreError as error:
            self._events.put((attempt, error))
        finally:
            watch.close()

    def _heard(self) -> list[Event]:
        """What has come since. Raises `StoreError`."""
        found: list[Event] = []
        with contextlib.suppress(queue.Empty):
            while True:
                attempt, event = self._events.get_nowait()
                if attempt != self._attempt:
                    continue
                if isinstance(event, StoreError):
                    raise event
                found.append(event)
        return found
