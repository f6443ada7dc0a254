"""The health of one upstream address: what is known of it, and whether it gets requests.

    state    gets requests          leaves to
    ───────  ─────────────────────  ─────────────────────────────────────────────────────────────
    UP       its share              EJECTED (failures of requests) │ DOWN (failures of probes)
    EJECTED  none, for a while      DUE (the while is over) │ DOWN
    DUE      the next one, alone    TRIAL (that one is under way) │ DOWN
    TRIAL    none besides           UP (an answer) │ EJECTED, twice as long (a failure)
                                    │ DUE (neither: the client left, say) │ DOWN
    DOWN     none                   UP (enough good probes)

Passive health counts what requests meet: dials that fail, connections that break, answers that come
too late, and the statuses that the configuration names. After `max_fails` of them within `window`,
*without one success between*, the address gets no requests. So an application that answers 503 now
and then, on one page, is not taken for dead, while a dead one has no success to show.

What a client can provoke by choosing a URL never counts: an answer that is malformed, too large or
wrongly framed, one that nobody asked for, or one that breaks off behind its head. An upstream that
answers is not dead; on trial it has passed.

Active health counts probes: `fall` bad ones in a row take an address out, and `rise` good ones
bring it back. It begins as good, so that a start need not wait. An address gets requests only if
both kinds of health agree.

If no address is well, all are tried (`panic` in Envoy): a request that may fail is better than one
that certainly fails, and passive health must never take a site off the net. For the same reason an
address that is alone in its group is not judged at all.

This module never reads a clock (`now` is an argument), never chooses and never probes. Invariants:
every change of state is in the table above. `share` is 0 in every state but UP.
"""

from __future__ import annotations

import enum
from typing import Final

from rawproxy.config.model import Active, Passive

TRIAL_PATIENCE: Final = 10.0  # seconds for the outcome of a trial before there is another
RAMP_FROM: Final = 0.1  # of its share is what an address gets at the beginning of a slow start


class HealthState(enum.Enum):
    """The states of the table in the module's docstring."""

    UP = "up"
    EJECTED = "ejected"
    DUE = "due"
    TRIAL = "trial"
    DOWN = "down"


UP: Final[HealthState] = HealthState.UP
EJECTED: Final[HealthState] = HealthState.EJECTED
DUE: Final[HealthState] = HealthState.DUE
TRIAL: Final[HealthState] = HealthState.TRIAL
DOWN: Final[HealthState] = HealthState.DOWN


class Health:
    """What is known of one address. Methods that change its state return True if they did."""

    __slots__ = (
        "active", "bad_probes", "ejections", "fails", "good_probes", "level", "passive",
        "probes_failed", "since", "slow_start", "state", "until",
    )  # fmt: skip

    def __init__(
        self, passive: Passive, active: Active | None, slow_start: float, since: float = 0.0
    ) -> None:
        self.passive = passive
        self.active = active
        self.slow_start = slow_start  # seconds
        self.state = UP
        self.since = since  # when slow start began; 0: there is none
        self.until = 0.0  # of EJECTED and TRIAL
        self.fails: list[float] = []  # when requests failed, since the last success
        self.level = 0  # ejections in a row: the exponent of the back-off
        self.good_probes = 0
        self.bad_probes = 0
        self.ejections = 0  # in all, for metrics
        self.probes_failed = 0

    def __repr__(self) -> str:
        return f"<Health {self.state.value} fails={len(self.fails)} level={self.level}>"

    def share(self, now: float) -> float:
        """The part of its weight that counts now: from 0 (none) to 1 (all)."""
        if self.state is not UP:
            return 0.0
        age = now - self.since
        if not self.since or age >= self.slow_start:
            return 1.0
        return max(age / self.slow_start, RAMP_FROM)

    def ramping(self, now: float) -> bool:
        """Whether `share` changes as time goes by."""
        return self.state is UP and bool(self.since) and now - self.since < self.slow_start

    def succeeded(self, now: float) -> bool:
        """A request was answered."""
        self.fails.clear()
        if self.state is not TRIAL and self.state is not DUE:
            return False
        self._come_back(now)
        return True

    def alive(self, now: float) -> bool:
        """A request was answered, but not so that the answer could be passed on."""
        if self.state is not TRIAL and self.state is not DUE:
            return False
        self._come_back(now)
        return True

    def failed(self, now: float) -> bool:
        """A request failed because of this upstream."""
        most = self.passive.max_fails
        if not most or self.state is DOWN or self.state is EJECTED:
            return False
        if self.state is TRIAL or self.state is DUE:
            self._eject(now)
            return True
        fails = self.fails
        fails.append(now)
        while fails[0] < now - self.passive.window:
            del fails[0]
        if len(fails) < most:
            return False
        # A lapse long after the last one begins anew; `until` is when that one was over.
        if now - self.until > self.passive.window + self._back_off():
            self.level = 0
        self._eject(now)
        return True

    def probed(self, good: bool, now: float) -> bool:
        """A probe has ended."""
        assert self.active is not None
        if good:
            self.bad_probes = 0
            self.good_probes += 1
            if self.state is not DOWN or self.good_probes < self.active.rise:
                return False
            self._come_back(now)
            return True
        self.probes_failed += 1
        self.good_probes = 0
        self.bad_probes += 1
        if self.state is DOWN or self.bad_probes < self.active.fall:
            return False
        self.state = DOWN
        self.ejections += 1
        return True

    def tick(self, now: float) -> bool:
        """Time has passed."""
        if now < self.until or (self.state is not EJECTED and self.state is not TRIAL):
            return False
        self.state = DUE
        return True

    def begin_trial(self, now: float) -> None:
        """A request is on its way to find out. Called in state DUE."""
        assert self.state is DUE
        self.state = TRIAL
        self.until = now + TRIAL_PATIENCE

    def _eject(self, now: float) -> None:
        self.level += 1
        self.ejections += 1
        self.fails.clear()
        self.until = now + self._back_off()
        self.state = EJECTED

    def _back_off(self) -> float:
        passive = self.passive
        # The exponent is bounded: 2.0 ** 1024 is no float.
        return min(passive.back_off * 2.0 ** min(max(self.level - 1, 0), 32), passive.back_off_max)

    def _come_back(self, now: float) -> None:
        self.state = UP
        self.fails.clear()
        self.until = now
        if self.slow_start:
            self.since = now
