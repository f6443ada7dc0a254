"""The master: it holds the sockets, and starts and replaces the workers. It never serves.

                 ┌────────── a worker died: another, after a pause ──────────┐
    STARTING ────┴─► SERVING ──SIGHUP──► LOADING ──► CHANGING ──► SERVING ───┤
        │               ▲                   │ └──► REPLACING ──► SERVING ────┘
        │               └───────────────────┴── refused: the old one goes on
        └─ cannot: exit     SIGTERM, SIGINT ──► STOPPING ──► exit 0

At SIGHUP a *loader*, which is a fresh interpreter, reads the configuration and says what is other
in it. What the workers that run can take over, they take over in place (CHANGING, `in_place`): all
of them or none. New code, other listeners or another number of workers bring a new *generation*
(REPLACING): it starts on the same sockets; when all of its workers are ready, they begin to accept,
and the old ones begin to drain (`leaving`). Connections that wait in a socket's backlog meanwhile
are accepted by the new workers. So a configuration that cannot be used changes nothing, and neither
does code that does not start. Where a configuration has sources, its loader stays and watches them
(`loading`).

The master has one `select`, no event loop, no TLS, and no thread but that of the error log. So it
stays small, and nothing that a client sends can reach it. Invariants: it holds every socket that is
wanted, however workers end. When `run` returns, no child is left.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping

from rawproxy.config.model import Config
from rawproxy.net.listening import ListeningSockets
from rawproxy.process import systemd
from rawproxy.process.channel import Message
from rawproxy.process.children import Backoff, Child, SignalPipe, how_it_ended
from rawproxy.process.in_place import InPlace
from rawproxy.process.leaving import MARGIN
from rawproxy.process.master_state import CHANGING, LOADING, REPLACING, SERVING, STARTING, STOPPING
from rawproxy.process.order import CODE_CHANGED, Order, order
from rawproxy.process.workforce import Workforce
from rawproxy.telemetry import error_log
from rawproxy.telemetry.error_log import log

POLL = 1.0  # seconds between two looks at the workers' counters, which show that they live
NOTHING = "nothing has changed"
START_LIMIT = 60.0  # seconds in which a new generation must be ready, or it is refused
SIGNALS = (
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD,
)  # fmt: skip


def run(config: Config, environment: Mapping[str, str] = os.environ) -> int:
    """Serve with `config.workers` workers until a signal ends it, and return the exit code.

    Raises `OSError` for a socket that systemd passed and that cannot be used.
    """
    error_log.set_up()
    return Master(config, environment).run()


class Master(Workforce):
    """One service: its sockets, its workers, and what they have in common."""

    def __init__(self, config: Config, environment: Mapping[str, str]) -> None:
        pid = os.getpid()
        self.state = STARTING
        stock = ListeningSockets(systemd.passed(environment, pid))
        super().__init__(order(config), stock, self._hear)
        self.notifier = systemd.Notifier(environment.get("NOTIFY_SOCKET", ""))
        self.watchdog = systemd.watchdog(environment, pid)
        self.pauses: dict[int, Backoff] = {}
        self.attempt = 0  # reloads so far
        self.quiet = False  # whether nobody has asked for the one that is under way
        self.fatal = 0  # the signal that told it to stop
        self.exit: int | None = None
        self.lines: list[str] = []  # what the first worker says of itself, for the log
        self.keepers.outdated = self.reload
        self.in_place = InPlace(self.loop, self._decided, self._changed, self._refuse)

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

    def _on_signals(self, pipe: SignalPipe) -> Callable[[], None]:
        def read() -> None:
            for number in pipe.read():
                if number in (signal.SIGTERM, signal.SIGINT):
                    self.fatal = self.fatal or number
                    self.stop()
                elif number in (signal.SIGHUP, signal.SIGUSR2):
                    self.reload(renew=number == signal.SIGUSR2)
                elif number == signal.SIGUSR1:
                    for child in (*self.serving.values(), *self.leaving):
                        self.loop.say(child, {"do": "reopen"})
            self._reap()

        return read

    # ── children ────────────────────────────────────────────────────────────────────────────────

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
            self.counters.told(child.pid, message["counted"])
        elif "ask" in message:
            self.loop.say(child, {"sums": self.sums()})
        elif "change" in message and "order" not in message:
            self.in_place.hear(child, message)
        elif "failed" in message:
            child.failed = message["failed"], message["code"]
        elif self.loading.hear(child, message):
            self._offered()
        elif message.get("is") == "ready":
            self._ready(child, message["lines"])
        elif message.get("is") == "draining" and self.serving.get(child.slot) is child:
            # Somebody sent SIGTERM to this worker alone. Its successor starts at once.
            log.info("worker %d (%d) drains; another worker takes its place", child.slot, child.pid)
            self._exchange(child)

    def _ready(self, child: Child, lines: list[str]) -> None:
        child.ready = True
        child.heard = time.monotonic()
        if child.slot == 0:
            self.lines = lines
        for message in self.shared.greeting():
            self.loop.say(child, message)
        if self.serving.get(child.slot) is child:
            if child.order is not self.order:  # it was started before the change was decided
                self._exchange(child)
                return
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
            return
        if child in self.loading.children():
            if self.loading.ended(child) and self.state is LOADING:
                self._refuse(*why)
            elif self.loading.watcher is None and self.order.has_sources:
                self.loading.watch_again(child, self._watch_again)
        elif child in self.leaving:
            self.leaving.ended(child)
        elif self.fresh.get(child.slot) is child:
            del self.fresh[child.slot]
            self._refuse(*why)
        elif self.serving.get(child.slot) is child:
            del self.serving[child.slot]
            self.in_place.ended(child, "; ".join(why[0]))
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

    def _watch_again(self) -> None:
        if self.loading.watcher is None and self.order.has_sources:
            self.reload(quiet=True)

    # ── generations ─────────────────────────────────────────────────────────────────────────────

    def reload(self, *, renew: bool = False, quiet: bool = False) -> None:
        """Begin to load the configuration and the code anew. No request fails by it.

        SIGHUP: in place, if that can be. SIGUSR2, `renew`: new processes whatever is other, as
        after an update of Python or OpenSSL.
        """
        if self.state is not SERVING:
            if self.state is not STARTING and self.state is not STOPPING:
                self.loading.again, self.loading.renew_again = True, renew
            return
        self.quiet = quiet
        if not quiet:
            log.info("reloading")
        self.notifier.send(systemd.reloading(time.monotonic()))
        self.state = LOADING
        self.loading.begin(self.order, renew)
        self._bounded()

    def _bounded(self) -> None:
        """Give up what takes too long."""
        self.attempt += 1
        attempt = self.attempt

        def too_late() -> None:
            if self.attempt == attempt and self.state in (LOADING, REPLACING):
                self._refuse([f"the new workers were not ready within {START_LIMIT:g} s"], 1)

        self.loop.later(START_LIMIT, too_late)

    def _offered(self) -> None:
        """A loader has read a configuration; one that watches sources may offer it at any time."""
        if self.state not in (SERVING, LOADING):
            return  # it is looked at again afterwards
        offer = self.loading.take()
        if offer is None:
            return
        if self.state is SERVING:
            self.state, self.quiet = LOADING, False
            self._bounded()
        workers = [child for child in self.serving.values() if child.ready]
        if offer.why_not():
            log.info("new processes are needed: %s", "; ".join(offer.why_not()))
            self._replace(offer.order)
        elif offer.change["nothing"]:
            self.order = self.next = offer.order
            for child in self.serving.values():
                child.order = offer.order
            self._settled(NOTHING)
        else:
            self.state, self.next = CHANGING, offer.order
            throwaway = self.shared.certificate(offer.order.throwaway)
            facts = {**offer.change["facts"], "throwaway": throwaway}
            self.in_place.begin(offer.change["patch"], facts, workers)

    def _decided(self) -> None:
        """All workers have prepared the change: from now on it is the configuration."""
        before, self.order = self.order, self.next
        for child in [one for one in self.serving.values() if one.order is before]:
            if child in self.in_place.workers:
                child.order = self.order
            elif child.ready:  # it has begun to serve since
                self._exchange(child)

    def _changed(self, seconds: float) -> None:
        self.changes["in_place"] += 1
        self.keepers.renew(self.order)
        for message in self.shared.greeting():  # what is known of upstreams that are new
            self._tell(list(self.serving.values()), message)
        offer = self.loading.offer
        short = offer.change["short"] if offer is not None else ""
        self._settled(f"{short} changed in place in {1000 * seconds:.0f} ms")

    def _settled(self, text: str) -> None:
        """The order counts."""
        self.state = SERVING
        if text != NOTHING or not self.quiet:
            log.info("reloaded: %s, %s", self.many(), text)
        self.notifier.send(systemd.ready(self.many()))
        self._once_more(accepted=True)

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
        if old:
            self.leaving.retire(old.values(), self.order, {"do": "retire"})
        self.order = self.next
        if self.state is not STARTING:
            self.changes["new_processes"] += 1
            self._settled("all of them new")
            return
        self.state = SERVING
        error_log.say("\n".join([*self.lines, "rawproxy ready"]))
        self.notifier.send(systemd.ready(self.many()))
        self.keepers.replace(self.order)
        if self.order.has_sources:
            self.reload(quiet=True)

    def _refuse(self, reasons: list[str], code: int = 1) -> None:
        """Give the new configuration up. The old one goes on; at the start the master ends."""
        self._drop_fresh()
        if self.state is STARTING:
            error_log.cannot(reasons)
            self.exit = code
            return
        self.changes["refused"] += 1
        for reason in reasons:
            log.error("reload refused, the old configuration stays: %s", reason)
        self.state = SERVING
        self.notifier.send(systemd.ready("reload refused: " + "; ".join(reasons)))
        self._once_more(accepted=False)

    def _drop_fresh(self) -> None:
        """Kill the loader and the new workers: none of them has accepted a connection yet."""
        for child in (*self.fresh.values(), *self.loading.unfinished()):
            child.kill()
            self.loop.hang_up(child)
        self.fresh = {}
        if self.plan is not self.stock.plan:
            self.stock.abandon(self.plan)
            self.plan = self.stock.plan

    def _once_more(self, *, accepted: bool) -> None:
        self.loading.settle(self.order, accepted=accepted)
        if self.loading.again:
            self.loading.again = False
            self.reload(renew=self.loading.renew_again)
        else:
            self._offered()

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
        self.in_place.give_up()
        for child in self.loading.dismissed():
            child.kill()
            self.loop.hang_up(child)
        self.leaving.cut_tunnels(self.leaving, self.order)
        self.leaving.retire(self.serving.values(), self.order, {"do": "drain"})
        self.serving = {}
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
