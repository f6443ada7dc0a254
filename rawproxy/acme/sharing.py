"""The keeper and the store of `--store`: whether it is there, and who works on what.

                 ┌──────────────────── a call fails, or it has forgotten ────────────────┐
    AWAY ──reached, what we hold is held anew, all is in agreement──► THERE ─────────────┘
      └── tries again, after a pause

    run     hears of changes, and has the archive take them over
    beat    renews the locks that are held
    take    the lock of a name for a step, and the fence: whoever had it before has lost it

A store that was killed has forgotten who holds what. So whoever reaches it again, or finds it
without its memory, takes no lock for `GRACE` seconds; those who work come back sooner and hold on.
While the store is away, nothing is begun but an order without which a certificate would end
(`LAST`); what was begun goes on, as nobody else can take it.

It never orders. Invariant: of those who look at the same store, one at most works on a name; an
order that it has begun is known to all before the authority hears of the next step.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from rawproxy.acme import shared_values
from rawproxy.acme.advice import IssueError
from rawproxy.acme.archive import ACCOUNT, read
from rawproxy.acme.leases import Lease
from rawproxy.acme.settings import AcmeSettings, Authority
from rawproxy.acme.shared_archive import SharedArchive, TakenOverError
from rawproxy.acme.shared_values import ANSWERS, MEMORY, NAMES, SETTLING, Seal
from rawproxy.acme.timing import DAY, Trouble, Validity
from rawproxy.config.capabilities import modules
from rawproxy.config.options import CAPABILITIES
from rawproxy.errors import ConfigError, StoreError
from rawproxy.telemetry.error_log import log

HELD: Final = 6.0  # seconds of a lock; another machine goes on so long after one was killed
BEAT: Final = 1.5  # seconds between two renewals: a call that hangs costs one of them
GRACE: Final = 5.0  # seconds: more than `LONGEST_PAUSE` and the calls until locks are held anew
PAUSE, LONGEST_PAUSE = 0.2, 1.0  # seconds between two tries to reach it
WAIT: Final = 0.5  # seconds of one wait for news
LOOK: Final = 5.0  # seconds without a look whether it is there and has its memory
LAST: Final = 1 / 20  # of a certificate's life: with less left it is ordered without the store


class SharedLease(Lease):
    """The right to work on a name, of all machines. Without `lock` the store is away."""

    def __init__(self, sharing: Sharing, local: Lease, authority: Authority, lock: Any) -> None:
        self.name, self.path, self.number = local.name, local.path, local.number
        self.local, self.authority, self.lock = local, authority, lock
        self.lost = False
        self.beats = 0
        self._sharing = sharing

    def held(self) -> bool:
        """Whether nobody else has taken it meanwhile, as far as is known."""
        return self.local.held() and not self.lost

    def sure(self) -> None:
        """Ask the store itself, as an order is to begin. Raises `IssueError`."""
        if self.lock is None:
            return
        archive = self._sharing.archive
        try:
            if self._sharing.renewed(self) and archive.holds(self.authority, self.name):
                return
        except StoreError as error:
            archive.lose(error)
            words = f"{self.name}: not ordered, as the store is away: {error}"
            raise IssueError(Trouble.OURS, words) from None
        raise TakenOverError(self.name)

    def release(self) -> None:
        """Let others work on it, on this machine and on others."""
        self._sharing.release(self)
        self.local.release()


class Sharing:
    """Of one keeper. `watch` counts seconds."""

    def __init__(self, archive: SharedArchive, watch: Callable[[], float] = time.monotonic) -> None:
        self.archive = archive
        self.store = archive.store
        self._watch = watch
        self._leases: set[SharedLease] = set()
        self._turn = threading.Lock()  # so that none is renewed behind its release
        self._not_before = 0.0
        self._reached = self._said = False  # whether it ever was; whether the log says it is away

    # ── whether it is there ─────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Begin, in threads that end with the process."""
        for call in (self.run, self.beat):
            threading.Thread(target=call, daemon=True).start()

    def run(self) -> None:
        """Keep in touch with the store, for ever."""
        pause = PAUSE
        while True:
            try:
                watch = self.reach()
                pause = PAUSE
                with contextlib.closing(watch):
                    self._follow(watch)
            except (StoreError, OSError) as error:
                self._lose(error)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def reach(self) -> Any:
        """From AWAY to THERE; what hears of changes. Raises `StoreError` and `OSError`."""
        archive = self.archive
        watch = self.store.watch()
        try:
            if self.store.get(MEMORY) is None:
                self.store.put(SETTLING, b"1", keep=GRACE)
                self.store.put(MEMORY, b"1", instead_of=None)
            if self._reached:
                self._not_before = self._watch() + GRACE
            self._renew()
            archive.begin_anew()
            archive.there = self._reached = True
            for lease in list(self._leases):
                for authority in archive.authorities:
                    archive.agree(authority, lease.name)
            archive.agree_answers()
            archive.agree_names()
            for authority, name in archive.entries():
                archive.agree(authority, name)
        except (StoreError, OSError):
            archive.there = False
            watch.close()
            raise
        words = "back" if self._said else "reached"
        log.info("certificates: the store %s is %s", self.store.shown, words)
        self._said = False
        for name in sorted(archive.names):
            archive.changed(name)
        return watch

    def _follow(self, watch: Any) -> None:
        """Take over what changes, until the store is away. Raises `StoreError`."""
        archive = self.archive
        keys = {shared_values.entry_name(*one): one for one in archive.entries()}
        look_at = self._watch() + LOOK
        while archive.there:
            heard = {getattr(event, "name", "") for event in watch.wait(WAIT)}
            if NAMES in heard:
                archive.agree_names()
                keys = {shared_values.entry_name(*one): one for one in archive.entries()}
            if ANSWERS in heard:
                archive.agree_answers()
            for key in heard & keys.keys():
                archive.agree(*keys[key])
            if self._watch() > look_at:
                look_at = self._watch() + LOOK
                if self.store.get(MEMORY) is None:
                    raise StoreError("it has forgotten what it knew")
        raise StoreError(archive.why)

    def _lose(self, error: StoreError | OSError) -> None:
        self.archive.there = False
        self.store.close()
        if not self._said:
            self._said = True
            log.warning(
                "certificates: the store %s is away: %s; those that are there stay in use, and no"
                " order is begun until it is back, unless a certificate would end",
                self.store.shown, error,
            )  # fmt: skip

    # ── who works on what ───────────────────────────────────────────────────────────────────────

    def take(self, local: Lease, authority: Authority, held: Validity | None) -> SharedLease | None:
        """The lock of a name for all machines; None while another one has it, or none may be had.

        `held` is the certificate that is served now.
        """
        if not self.archive.there:
            return self._alone(local, authority, held)
        lease: SharedLease | None = None
        try:
            if self._watch() < self._not_before or self.store.get(SETTLING) is not None:
                return None
            lock = self.store.lock(shared_values.lock_name(local.name), HELD)
            if lock is None:
                return None
            lease = SharedLease(self, local, authority, lock)
            self._leases.add(lease)
            for one in self.archive.authorities:
                self.archive.agree(one, ACCOUNT)
                self.archive.agree(one, local.name)
            self.archive.fence(authority, local.name)
            return lease
        except (StoreError, OSError) as error:
            if lease is not None:
                self.release(lease)
            if isinstance(error, StoreError):
                self.archive.lose(error)
            else:
                log.error("%s: the state folder cannot be written: %s", local.name, error)
            return None

    def _alone(
        self, local: Lease, authority: Authority, held: Validity | None
    ) -> SharedLease | None:
        """The store is away: only what would end is worth an order that others may make as well."""
        now = time.time()
        if held is None or held.end - now > min(DAY, LAST * (held.end - held.begin)):
            return None
        log.warning(
            "%s: its certificate ends %s, so it is ordered without the store", local.name,
            time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(held.end)),
        )  # fmt: skip
        return SharedLease(self, local, authority, None)

    def renewed(self, lease: SharedLease) -> bool:
        """Whether a lock is ours for another `HELD` seconds. Raises `StoreError`."""
        with self._turn:
            if lease.lost or lease not in self._leases:
                return False
            if lease.lock.renew():
                return True
            # Its time was up, or the store has forgotten it. If nobody has it, it is ours anew;
            # whether somebody had it meanwhile is seen by the version.
            again = self.store.lock(shared_values.lock_name(lease.name), HELD)
            if again is None:
                lease.lost = True
                return False
            lease.lock = again
            return True

    def beat(self) -> None:
        """Renew all that are held, for ever."""
        while True:
            time.sleep(BEAT)
            try:
                if self.archive.there:
                    self._renew()
            except StoreError as error:
                self.archive.lose(error)

    def _renew(self) -> None:
        for lease in list(self._leases):
            self.renewed(lease)

    def release(self, lease: SharedLease) -> None:
        """Let it go; if the store is away, its time is up by itself."""
        with self._turn:
            self._leases.discard(lease)
            if lease.lock is not None and self.archive.there:
                with contextlib.suppress(StoreError):
                    lease.lock.release()


def shared(settings: AcmeSettings) -> Sharing | None:
    """With what is told of a store, or None where there is none. Raises `ConfigError`."""
    if settings.store is None:
        return None
    secret = None
    if settings.store_key is not None:
        secret = (read(settings.store_key) or b"").strip()
        if len(secret) < shared_values.SHORTEST:
            raise ConfigError(
                f"store-key {settings.store_key}: not to be read, or shorter than"
                f" {shared_values.SHORTEST} bytes: type openssl rand -base64 48 > FILE"
            )
    for room in modules(CAPABILITIES, "opening"):
        store = room.open_store(settings.store)
        return Sharing(SharedArchive(settings, store, Seal(secret)))
    return None
