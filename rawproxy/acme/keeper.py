"""The keeper of certificates: a child of the master's that orders and renews, and serves nobody.

    main thread    which name is due; hands names to the others; looks for wishes each second
    some others    one name each: `plan` says what to do, they do it, and know when to look again
    one more       hears whether the master is still there, and lets the leases beat

It can be killed at any moment: what it does is written down before it is done (`order`), so whoever
is next goes on. Where several machines share the folder, each has a keeper, and a name's lease says
whose turn it is. Invariant: a name that fails stops no other name, and its next try is written down
before anything else is done with it.
"""

from __future__ import annotations

import heapq
import math
import os
import random
import select
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from rawproxy.acme.advice import IssueError
from rawproxy.acme.archive import LIMITS, Archive, read, remove, validity
from rawproxy.acme.leases import BEAT, Lease, Leases
from rawproxy.acme.on_demand import is_name
from rawproxy.acme.plan import Do, NextStep, Record, Standing, next_step
from rawproxy.acme.settings import AcmeSettings, Authority
from rawproxy.acme.shared_archive import TakenOverError
from rawproxy.acme.sharing import shared
from rawproxy.acme.timing import AGAIN, HOUR, MINUTE, Trouble, pause, sane
from rawproxy.config.json_codec import from_json
from rawproxy.telemetry import error_log
from rawproxy.telemetry.error_log import log

if TYPE_CHECKING:
    from rawproxy.acme.permission import Permission

HANDS: Final = (
    4  # names that are worked on at once: authorities have limits, and so has the machine
)
LOOK: Final = 1.0  # seconds between two looks for wishes
LIMITED: Final = 3  # names in a row that hit a limit, after which it is taken for the account's
TAKEN: Final = 2.0  # seconds until a name that another process works on is looked at again
STEPS: Final = 8  # of a name without a pause: an order with either authority, a link, a window
OFTEN: Final = (
    10 * MINUTE
)  # the longest time without a look at a name: others may change the folder


def serve(sock: socket.socket, told: Any, _memory: int) -> int:
    """The whole life of the process; `told` are the settings. It ends when the master does."""
    settings = from_json(AcmeSettings, told)
    keeper = Keeper(settings)
    threading.Thread(target=_watch, args=(sock, keeper.leases), daemon=True).start()
    keeper.run()
    return 0


def _watch(sock: socket.socket, leases: Leases) -> None:
    """Let leases beat; end the process with the master. An order that is cut is gone on with."""
    while True:
        readable, _, _ = select.select([sock], [], [], BEAT)
        if readable and not sock.recv(1 << 16):
            error_log.flush()
            os._exit(0)  # at once, whatever the others wait for
        leases.beat()


class Keeper:
    """All names of one configuration. `step` is told each step of an order before it is done."""

    def __init__(self, settings: AcmeSettings, step: Callable[[str], object] | None = None) -> None:
        self.settings = settings
        self.sharing = shared(settings)
        self.archive = Archive(settings.folder(), settings.authorities)
        if self.sharing is not None:
            self.archive = self.sharing.archive
            self.sharing.archive.changed = self.wake
        self.leases = Leases(settings.folder())
        self._step = step or _step
        self._due: list[tuple[float, str]] = []
        self._busy: set[str] = set()
        self._lock = threading.Lock()
        self._own = threading.local()
        self._names = set(settings.names)
        self.permission: Permission | None = None
        if settings.ask is not None:
            from rawproxy.acme.permission import Permission  # loads the client

            self.permission = Permission(settings.ask, settings.ask_rate)
        # Names that hit a limit since the last success.
        self._limited: dict[Authority, set[str]] = {}
        self._woken: set[str] = set()  # names of which another machine has told news
        self._spent: dict[str, Record] = {}  # what could not be written down, the disk being full

    def run(self) -> None:
        """Work until the process ends."""
        wrong = self.archive.unsafe()
        if wrong is not None:
            log.error("--state %s: %s", self.settings.folder(), wrong)
        self.archive.sweep()
        self._names |= set(self.archive.take_names("demanded", remove_them=False))
        self._due = [(0.0, name) for name in sorted(self._names)]
        if self.sharing is not None:
            self.sharing.archive.names |= self._names
            self.sharing.start()
        with ThreadPoolExecutor(HANDS, "certificates") as hands:
            while True:
                self._hand_out(hands)
                time.sleep(LOOK)

    def _hand_out(self, hands: ThreadPoolExecutor) -> None:
        """Begin with every name that is due, or asked for."""
        for name in self.archive.wishes():
            if name in self._names and name not in self._busy:
                self._begin(hands, name)
        for name in self._asked():
            self._busy.add(name)
            hands.submit(self._consider, name)
        now = time.time()
        with self._lock:
            ready = list(self._woken - self._busy)
            self._woken -= {*ready}
            while self._due and self._due[0][0] <= now:
                ready.append(heapq.heappop(self._due)[1])
        for name in ready:
            if name not in self._busy:
                self._begin(hands, name)

    def _begin(self, hands: ThreadPoolExecutor, name: str) -> None:
        self._busy.add(name)
        hands.submit(self._attend, name)

    def _attend(self, name: str) -> None:
        """Do what there is to do for a name, and note when to look again."""
        again = time.time() + MINUTE
        try:
            again = self.attend(name)
        except Exception:  # noqa: BLE001, a bug must not stop the other names
            log.exception("internal error: the certificate of %s", name)
        with self._lock:
            self._busy.discard(name)
            self._due = [pair for pair in self._due if pair[1] != name]
            if name in self._names:
                self._due.append((min(again, time.time() + OFTEN), name))
            heapq.heapify(self._due)

    def wake(self, name: str) -> None:
        """There is news of a name: look at it soon."""
        with self._lock:
            self._names.add(name)
            self._woken.add(name)

    # ── on demand ───────────────────────────────────────────────────────────────────────────────

    def _asked(self) -> list[str]:
        """Names on demand that workers have put down."""
        if self.permission is None:
            return []
        found = self.archive.take_names("asks", remove_them=True)
        return [one for one in found if is_name(one) and one not in self._names | self._busy]

    def _consider(self, name: str) -> None:
        """Let a name in, if it may have a certificate."""
        allowed = False
        try:
            allowed = self.may(name)
            if allowed:
                self.archive.demand(name)
                self._names.add(name)
        except OSError as error:
            log.error("%s: the state folder cannot be written: %s", name, error)
        finally:
            self._busy.discard(name)
        if allowed:
            with self._lock:
                heapq.heappush(self._due, (0.0, name))

    def may(self, name: str) -> bool:
        """Whether a name on demand may have its first certificate now."""
        assert self.permission is not None
        if not self.permission.allows(name):
            return False
        if not self.permission.has_room():
            log.warning("%s: more new names on demand than ask-rate allows: not now", name)
            return False
        return True

    def _let_go(self, name: str) -> bool:
        """Whether a name on demand is allowed no more, and so is renewed no more."""
        if name in self.settings.names or self.permission is None or self.permission.allows(name):
            return False
        log.info("%s: not allowed any more: its certificate is not renewed", name)
        self.archive.undemand(name)
        self._names.discard(name)
        return True

    # ── one name ────────────────────────────────────────────────────────────────────────────────

    def attend(self, name: str) -> float:
        """The next steps of a name; when to look again, in seconds since 1970."""
        for _ in range(STEPS):
            wanted = self.archive.is_wanted(name)
            step = self._plan(name, wanted)
            if step.do is Do.WAIT:
                return step.at
            if step.do is Do.ORDER and self._let_go(name):
                return math.inf
            lease = self._lease(name, step)
            if lease is None:
                away = self.sharing is not None and not self.sharing.archive.there
                return time.time() + (MINUTE if away else TAKEN)  # it wakes us once it is back
            try:
                # Another one may have done it while we looked, on another machine perhaps.
                wanted = self.archive.is_wanted(name)
                if self._plan(name, wanted) == step and not self._do(name, step, lease, wanted):
                    return time.time() + MINUTE
            finally:
                lease.release()
        return time.time() + MINUTE

    def _plan(self, name: str, wanted: bool) -> NextStep:
        return next_step(
            self._standings(name), self.archive.linked(name), time.time(), wanted=wanted
        )

    def _standings(self, name: str) -> list[Standing]:
        found = self.archive.standings(name)
        for at, authority in enumerate(self.settings.authorities):
            known = self._spent.get(self.archive.of(authority, name))
            if known is not None:
                found[at] = replace(found[at], record=known)
            told = self.archive.json(self.archive.of(authority, LIMITS, "limits.json"))
            until = told.get("until")
            closed = sane(until, time.time()) if isinstance(until, float) else 0.0
            if closed > found[at].record.retry_at:
                known = found[at].record
                closed_too = replace(known, retry_at=closed, failures=max(known.failures, 1))
                found[at] = replace(found[at], record=closed_too)
        return found

    def _lease(self, name: str, step: NextStep) -> Lease | None:
        try:
            lease = self.leases.take(name)
        except OSError as error:
            log.error("%s: the state folder cannot be written: %s", name, error)
            return None
        if lease is None or self.sharing is None or step.do is Do.LINK:
            return lease  # a link is this machine's own
        held = validity(read(self.archive.live(name)))
        found = self.sharing.take(lease, self.settings.authorities[step.authority], held)
        if found is None:
            lease.release()
        return found

    def _do(self, name: str, step: NextStep, lease: Lease, wanted: bool) -> bool:
        """One step; its failure is written down. False where the plan does not know of that."""
        failed = True
        authority = self.settings.authorities[step.authority]
        try:
            if step.do is Do.LINK:
                self.archive.link(authority, name)
            elif step.do is Do.WINDOW:
                self._ask_window(name, authority)
            else:
                self._order(name, authority, lease)
            failed = False
        except TakenOverError as error:
            log.warning("%s", error.words)
            return False
        except IssueError as error:
            self._failed(name, authority, error)
        except OSError as error:
            words = f"{name}: the state folder cannot be written: {error.strerror}: "
            words += (
                f"{error.filename or self.settings.folder()}; make room there, and mind its owner"
            )
            self._failed(name, authority, IssueError(Trouble.OURS, words))
        if step.do is Do.ORDER and wanted:
            remove(self.archive.wanted(name))
        return step.do is Do.ORDER or not failed

    def _order(self, name: str, authority: Authority, lease: Lease) -> None:
        from rawproxy.acme.order import OrderRun  # loads the client

        before = self.archive.record(authority, name)
        run = OrderRun(
            self.settings, self._talk(authority), self.archive, lease, lambda word: self._step(word)
        )
        log.info("%s: ordering a certificate from %s", name, authority.url)
        run.run(before.failed_challenges)
        chance = random.random()  # noqa: S311, it only spreads renewals
        self._limited.pop(authority, None)
        self._remember(name, authority, Record(chance=chance))
        self.archive.link(authority, name)
        found = self.archive.certificate(authority, name)
        if found is None or not found.holds(time.time()):
            words = f"{name}: the new certificate does not hold today: is the clock right?"
            raise IssueError(Trouble.OURS, words, HOUR)
        until = time.strftime("%Y-%m-%d %H:%M", time.gmtime(found.end))
        log.info("%s: a new certificate is there, until %s UTC", name, until)

    def _ask_window(self, name: str, authority: Authority) -> None:
        record = self.archive.record(authority, name)
        pem = read(self.archive.of(authority, name, "certificate.pem")) or b""
        found = self.archive.certificate(authority, name)
        window: tuple[float, ...] = ()
        wait = AGAIN
        try:
            asked, seconds = self._talk(authority).window(pem)
            window = asked or ()
            wait = min(max(seconds, MINUTE), AGAIN * 4) if seconds else AGAIN
        except (IssueError, ValueError, LookupError) as error:
            log.debug("%s: no renewal window: %s", name, error)
        told = replace(
            record, window=window, ask_at=time.time() + wait, serial=found.serial if found else ""
        )
        self._remember(name, authority, told)

    def _failed(self, name: str, authority: Authority, error: IssueError) -> None:
        before = self._spent.get(self.archive.of(authority, name)) or self.archive.record(
            authority, name
        )
        failures = before.failures + 1
        wait = pause(error.trouble, failures, random.random(), error.wait)  # noqa: S311, it spreads
        kinds = before.failed_challenges
        if error.challenge and error.trouble is Trouble.REFUSED:
            kinds = (error.challenge,)
        told = replace(
            before, failures=failures, retry_at=time.time() + wait, said=error.words,
            failed_challenges=kinds,
        )  # fmt: skip
        if error.trouble is Trouble.LIMITED:
            names = self._limited.setdefault(authority, set())
            names.add(name)
            if len(names) >= LIMITED:
                # It is the account's limit, not a name's: the others need not find that out too.
                self._close(authority, told.retry_at)
        log.warning("no certificate: %s; the next try is in %s", error.words, spoken(wait))
        self._remember(name, authority, told)

    def _remember(self, name: str, authority: Authority, record: Record) -> None:
        """Write it down; with a full disk it is known as long as the process lives."""
        key = self.archive.of(authority, name)
        try:
            self.archive.save_record(authority, name, record)
            self._spent.pop(key, None)
        except TakenOverError:
            self._spent.pop(key, None)  # what the other machine remembers counts
        except OSError as error:
            log.error("%s: the state folder cannot be written: %s", name, error)
            self._spent[key] = record

    def _close(self, authority: Authority, until: float) -> None:
        """Ask an authority nothing until then, on no machine."""
        try:
            self.archive.save(authority, LIMITS, "limits.json", {"until": until})
        except OSError as error:
            log.error("the state folder cannot be written: %s", error)

    def _talk(self, authority: Authority) -> Any:
        """The conversation of this thread with an authority."""
        from rawproxy.acme.client import Conversation  # loads the client

        known = self._own.__dict__.setdefault("talks", {})
        if authority not in known:
            known[authority] = Conversation(self.settings, authority, self.archive)
        return known[authority]


def _step(word: str) -> None:
    log.debug("order: %s", word)


def spoken(seconds: float) -> str:
    """A wait in words: 40 s, 5 min, 12 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.0f} h"
