"""The master: it holds the sockets, and starts and replaces the workers. It never serves.

                 ┌────────── a worker died: another, after a pause ──────────┐
    STARTING ────┴─► SERVING ──SIGHUP──► LOADING ──► REPLACING ──► SERVING ──┘
        │               │                   └── refused: the old ones go on ──►
        └─ cannot: exit └──SIGTERM, SIGINT──► STOPPING ──► exit 0

A *generation* is all workers of one configuration and one code. At a reload a *loader*, which is a
fresh interpreter, reads the configuration. The new generation starts on the same sockets. When all
of its workers are ready, they begin to accept, and the old ones begin to drain. Connections that
wait in a socket's backlog meanwhile are accepted by the new workers. So a configuration that cannot
be used changes nothing, and neither does code that does not start.

The master has one `select`, no event loop, no TLS, and no thread but that of the error log. So it
stays small, and nothing that a client sends can reach it. Invariants: it holds every socket that is
wanted, however workers end. When `run` returns, no child is left.
"""

from __future__ import annotations

import enum
import os
import signal
import time
from collections.abc import Callable, Mapping

from rawproxy.config.model import Config
from rawproxy.net.listening import BindPlan, ListeningSockets
from rawproxy.process import systemd
from rawproxy.process.channel import Message
from rawproxy.process.children import Backoff, Child, SignalPipe, how_it_ended
from rawproxy.process.keepers import Keepers
from rawproxy.process.order import CODE_CHANGED, Order, OrderError, order, unpacked
from rawproxy.process.select_loop import SelectLoop
from rawproxy.process.shared import SharedByWorkers
from rawproxy.process.worker_counters import WorkerCounters
from rawproxy.telemetry import error_log
from rawproxy.telemetry.error_log import log

POLL = 1.0  # seconds between two looks at the workers' counters, which show that they live
START_LIMIT = 60.0  # seconds in which a new generation must be ready, or it is refused
MARGIN = 5.0  # seconds beyond its drain until a worker is killed
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)


class MasterState(enum.Enum):
    """What the master is doing."""

    STARTING = "starting"
    SERVING = "serving"
    LOADING = "loading"
    REPLACING = "replacing"
    STOPPING = "stopping"


STARTING, SERVING, LOADING = MasterState.STARTING, MasterState.SERVING, MasterState.LOADING
REPLACING, STOPPING = MasterState.REPLACING, MasterState.STOPPING


def run(config: Config, environment: Mapping[str, str] = os.environ) -> int:
    """Serve with `config.workers` workers until a signal ends it, and return the exit code.

    Raises `OSError` for a socket that systemd passed and that cannot be used.
    """
    error_log.set_up()
    return Master(config, environment).run()


class Master:
    """One service: its sockets, its workers, and what they have in common."""

    def __init__(self, config: Config, environment: Mapping[str, str]) -> None:
        pid = os.getpid()
        self.state = STARTING
        self.order = self.next = order(config)
        self.stock = ListeningSockets(systemd.passed(environment, pid))
        self.plan = self.stock.plan  # of the generation that is to serve
        self.notifier = systemd.Notifier(environment.get("NOTIFY_SOCKET", ""))
        self.watchdog = systemd.watchdog(environment, pid)
        self.counters = WorkerCounters()
        self.shared = SharedByWorkers(time.monotonic())
        self.serving: dict[int, Child] = {}  # by slot
        self.fresh: dict[int, Child] = {}  # by slot, of the generation that is to serve
        self.leaving: set[Child] = set()
        self.loader: Child | None = None
        self.pauses: dict[int, Backoff] = {}
        self.again = False  # whether SIGHUP came during a reload
        self.loaded: Order | None = None  # what the loader has read
        self.attempt = 0  # reloads so far
        self.fatal = 0  # the signal that told it to stop
        self.exit: int | None = None
        self.lines: list[str] = []  # what the first worker says of itself, for the log
        self.loop = SelectLoop(self._hear)
        self.keepers = Keepers(self.loop, self.shared.memory)

    # ── the loop ────────────────────────────────────────────────────────────────────────────────

    def run(self) -> int:
        """The whole life of the master; the exit code."""
        with SignalPipe(SIGNALS) as pipe:
            self.loop.add(pipe.sock, self._on_signals(pipe))
            try:
                self._replace(self.order)
                self._poll()
                while self.exit is None:
                    self.loop.turn()
            finally:
                for child in self._children():
                    child.kill()
                self._drop_fresh()
                self.stock.close()
                self.notifier.close()
                self.loop.close()
        if self.state is STARTING and self.fatal:
            # End as a process without handlers does, so that whoever sent the signal sees it.
            error_log.flush()
            signal.signal(self.fatal, signal.SIG_DFL)
            os.kill(os.getpid(), self.fatal)
        return self.exit

    def _children(self) -> list[Child]:
        loader = [self.loader] if self.loader is not None else []
        keepers = self.keepers.children.values()
        return [*self.serving.values(), *self.fresh.values(), *self.leaving, *loader, *keepers]

    def _on_signals(self, pipe: SignalPipe) -> Callable[[], None]:
        def read() -> None:
            for number in pipe.read():
                if number in (signal.SIGTERM, signal.SIGINT):
                    self.fatal = self.fatal or number
                    self.stop()
                elif number == signal.SIGHUP:
                    self.reload()
                elif number == signal.SIGUSR1:
                    for child in (*self.serving.values(), *self.leaving):
                        self.loop.say(child, {"do": "reopen"})
            self._reap()

        return read

    # ── children ────────────────────────────────────────────────────────────────────────────────

    def _worker(self, slot: int, wanted: Order, plan: BindPlan) -> Child:
        """Start a worker and give it its work order."""
        sockets = plan.of(slot, wanted.workers)
        child = Child(slot, [self.shared.memory, *(fd for _, fds in sockets for fd in fds)])
        self.loop.watch(child)
        message = {
            "order": wanted.packed(),
            "slot": slot,
            "sockets": [((a.host, a.port, a.path), fds) for a, fds in sockets],
            "throwaway": self.shared.certificate(wanted.throwaway),
            **self.shared.tickets(),
            "memory": self.shared.memory,
        }
        self.loop.say(child, message)
        return child

    def _tell(self, children: list[Child], message: Message) -> None:
        """Tell those that are ready; the others read nothing but their order until they are."""
        for child in children:
            if child.ready:
                self.loop.say(child, message)

    def _hear(self, child: Child, message: Message) -> None:
        """See to a message of a child."""
        if "stats" in message:
            child.heard = time.monotonic()
            self.counters.update(child.pid, message["stats"])
            if message["pins"]:
                self._tell(self._children(), self.shared.learn(message["pins"]))
        elif "shared" in message:
            for one in self.shared.settle(message["shared"], time.monotonic()):
                self._tell(self._children(), one)
        elif "counted" in message:
            self.counters.keepers |= message["counted"]
        elif "ask" in message:
            self.loop.say(child, {"sums": self.counters.sums()})
        elif "failed" in message:
            child.failed = message["failed"], message["code"]
        elif "order" in message and child is self.loader:
            try:
                self.loaded = unpacked(message["order"])
            except OrderError as error:
                child.failed = [str(error)], error.code
        elif message.get("is") == "ready":
            self._ready(child, message["lines"])
        elif message.get("is") == "draining" and self.serving.get(child.slot) is child:
            # Somebody sent SIGTERM to this worker alone. Its successor starts at once.
            log.info("worker %d (%d) drains; another worker takes its place", child.slot, child.pid)
            self._retire(child)
            self.serving[child.slot] = self._worker(child.slot, self.order, self.stock.plan)

    def _ready(self, child: Child, lines: list[str]) -> None:
        child.ready = True
        child.heard = time.monotonic()
        if child.slot == 0:
            self.lines = lines
        for message in self.shared.greeting():
            self.loop.say(child, message)
        if self.serving.get(child.slot) is child:
            self.loop.say(child, {"do": "serve"})
        elif self.fresh.get(child.slot) is child and all(c.ready for c in self.fresh.values()):
            self._commit()

    def _reap(self) -> None:
        for child in self._children():
            if child.process.poll() is not None:
                self.loop.read(child)  # what it said at the end comes first
                self.loop.hang_up(child)
                self.counters.remove(child.pid)
                self._ended(child)

    def _ended(self, child: Child) -> None:
        """See to what follows from the end of a child."""
        why = child.failed or ([f"it {how_it_ended(child.process)}"], 1)
        if self.keepers.ended(child):
            self.counters.keepers.clear()  # those who live say it again
            return
        if child is self.loader:
            self.loader = None
            if self.loaded is not None:
                self._replace(self.loaded)
            elif self.state is LOADING:
                self._refuse(*why)
        elif child in self.leaving:
            self.leaving.discard(child)
        elif self.fresh.get(child.slot) is child:
            del self.fresh[child.slot]
            self._refuse(*why)
        elif self.serving.get(child.slot) is child:
            del self.serving[child.slot]
            self._succeed(child, *why)
        if self.state is STOPPING and not self._children():
            self.exit = 0

    def _succeed(self, child: Child, why: list[str], code: int) -> None:
        """Start another worker in the place of one that died. The socket's backlog waits for it."""
        slot = child.slot
        pause = self.pauses.setdefault(slot, Backoff()).after(time.monotonic() - child.born)
        log.error(
            "worker %d (%d): %s; another one starts in %g s", slot, child.pid, "; ".join(why), pause
        )
        if code == CODE_CHANGED:
            self.reload()

        def start() -> None:
            wanted = slot not in self.serving and slot < self.order.workers
            if wanted and self.state is not STOPPING:
                self.serving[slot] = self._worker(slot, self.order, self.stock.plan)

        self.loop.later(pause, start)

    def _retire(self, child: Child) -> None:
        """Note that a worker drains, and kill it if it does not end in time."""
        self.leaving.add(child)

        def too_late() -> None:
            if child in self.leaving:
                log.error("worker %d (%d) has not ended in time: killed", child.slot, child.pid)
                child.process.kill()

        self.loop.later(self.order.drain + MARGIN, too_late)

    # ── generations ─────────────────────────────────────────────────────────────────────────────

    def reload(self) -> None:
        """SIGHUP: begin to load the configuration and the code anew. No request fails by it."""
        if self.state is not SERVING:
            self.again = self.state in (LOADING, REPLACING)
            return
        log.info("reloading")
        self.notifier.send(systemd.reloading(time.monotonic()))
        self.state, self.loaded = LOADING, None
        self.loader = Child(-1, ())
        self.loop.watch(self.loader)
        self.loop.say(self.loader, {"do": "load"})
        self.attempt += 1
        attempt = self.attempt

        def too_late() -> None:
            if self.attempt == attempt and self.state in (LOADING, REPLACING):
                self._refuse([f"the new workers were not ready within {START_LIMIT:g} s"], 1)

        self.loop.later(START_LIMIT, too_late)

    def _replace(self, wanted: Order) -> None:
        """Start the generation that is to serve `wanted`."""
        if self.state is LOADING:
            self.state = REPLACING
        self.next = wanted
        try:
            self.plan = self.stock.prepare(wanted.wanted(), wanted.workers)
        except OSError as error:
            self._refuse([f"cannot start: {error}"], 1)
            return
        for slot in range(wanted.workers):
            self.fresh[slot] = self._worker(slot, wanted, self.plan)

    def _commit(self) -> None:
        """The whole new generation is ready: let it serve, and let the old one drain."""
        self.stock.adopt(self.plan)
        old, self.serving, self.fresh = self.serving, self.fresh, {}
        for child in self.serving.values():
            self.loop.say(child, {"do": "serve"})
        for child in old.values():
            self._retire(child)
            if child.ready:
                self.loop.say(child, {"do": "retire"})
            else:
                child.process.kill()
        self.order = self.next
        first = self.state is STARTING
        self.state = SERVING
        many = "1 worker" if len(self.serving) == 1 else f"{len(self.serving)} workers"
        if first:
            error_log.say("\n".join([*self.lines, "rawproxy ready"]))
        else:
            log.info("reloaded: %s", many)
        self.notifier.send(systemd.ready(many))
        self.keepers.replace(self.order)
        self._once_more()

    def _refuse(self, reasons: list[str], code: int) -> None:
        """Give the new generation up. The old one goes on; at the start the master ends."""
        self._drop_fresh()
        if self.state is STARTING:
            error_log.cannot(reasons)
            self.exit = code
            return
        for reason in reasons:
            log.error("reload refused, the old configuration stays: %s", reason)
        self.state = SERVING
        self.notifier.send(systemd.ready("reload refused: " + "; ".join(reasons)))
        self._once_more()

    def _drop_fresh(self) -> None:
        """Kill the loader and the new workers: none of them has accepted a connection yet."""
        loader = [self.loader] if self.loader is not None else []
        for child in (*self.fresh.values(), *loader):
            child.kill()
            self.loop.hang_up(child)
        self.fresh, self.loader = {}, None
        if self.plan is not self.stock.plan:
            self.stock.abandon(self.plan)
            self.plan = self.stock.plan

    def _once_more(self) -> None:
        if self.again:
            self.again = False
            self.reload()

    # ── the end, and the watch over workers ─────────────────────────────────────────────────────

    def stop(self) -> None:
        """SIGTERM or SIGINT: let all workers drain. At a second signal they end at once."""
        if self.state is STOPPING:
            for child in self.leaving:
                self.loop.say(child, {"do": "cut"})
                self.loop.later(MARGIN, child.process.kill)
            return
        self._drop_fresh()
        if self.state is STARTING:
            self.exit = 1
            return
        self.state = STOPPING
        self.keepers.stop()
        self.notifier.send(systemd.stopping("draining"))
        for child in self.serving.values():
            self._retire(child)
            if not child.ready:
                child.process.kill()
        self.serving = {}
        for child in self.leaving:
            self.loop.say(child, {"do": "drain"})
        self.stock.close()
        if not self.leaving:
            self.exit = 0

    def _poll(self) -> None:
        """About once a second: ask workers for their counters. Those who answer are alive."""
        if self.shared.ticket_keys.renewed(time.monotonic()):
            self._tell(self._children(), self.shared.tickets())
        self._tell([*self.serving.values(), *self.leaving], {"do": "stats"})
        interval = POLL
        if self.watchdog is not None:
            interval = min(POLL, self.watchdog / 4)
            since = time.monotonic() - max(self.watchdog / 2, 2 * interval)
            workers = [child for child in self.serving.values() if child.ready]
            if self.state is STOPPING or (workers and all(c.heard >= since for c in workers)):
                self.notifier.send(systemd.alive())
        self.loop.later(interval, self._poll)
