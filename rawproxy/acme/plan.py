"""What to do next for one name: a function of what the folder says and of the time.

    a certificate is missing, ill or due      ORDER, of the first authority that may be asked now
    another one is served than the best       LINK
    the authority's renewal window is stale   WINDOW: ask for it
    all is well, or nobody may be asked yet   WAIT until `at`

The fall-back authority is asked only once the one before it has failed: at once where visitors see
no certificate, and else after `PATIENCE` failures.

It never looks at a file or a clock. Invariant: a plan is never to wait for a time that has passed,
so nobody turns in circles.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from rawproxy.acme.timing import Validity, renewal, sane

PATIENCE: Final = 3  # failures of an authority before the next one is asked for a mere renewal


class Do(enum.Enum):
    """What a step is."""

    ORDER = "order"
    LINK = "link"
    WINDOW = "window"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of a name at one authority, over restarts."""

    failures: int = 0  # in a row
    retry_at: float = 0.0
    said: str = ""  # why the last try failed, in words
    chance: float = 0.5  # of this certificate: when within its window it is renewed
    window: tuple[float, ...] = ()  # begin and end of the authority's window; empty: none
    ask_at: float = 0.0  # when to ask for the window again
    serial: str = ""  # of the certificate that `window` is about
    failed_challenges: tuple[str, ...] = ()  # kinds that failed last, so that another is tried


@dataclass(frozen=True, slots=True)
class Standing:
    """One name at one authority."""

    certificate: Validity | None = None  # None: none, or none that can be read
    record: Record = field(default_factory=Record)
    ordering: bool = False  # an order is under way, of this process or of one that ended

    def due(self) -> float:
        """When its certificate is to be renewed; there has to be one."""
        assert self.certificate is not None
        found = self.record.window
        known = len(found) == 2 and self.record.serial == self.certificate.serial
        window = (found[0], found[1]) if known else None
        return renewal(self.certificate, self.record.chance, window)


@dataclass(frozen=True, slots=True)
class NextStep:
    """What to do; `authority` is an index, `at` the time to look again where it is to wait."""

    do: Do
    authority: int = 0
    at: float = 0.0


def best_of(standings: Sequence[Standing], now: float) -> int | None:
    """Whose certificate to serve: of those that hold, the first that is not due, else the longest.

    None where there is none.
    """
    held = [
        (at, one)
        for at, one in enumerate(standings)
        if one.certificate is not None and one.certificate.holds(now)
    ]
    if not held:
        return None
    fresh = next((at for at, one in held if one.due() > now), None)
    if fresh is not None:
        return fresh
    return max(held, key=lambda pair: pair[1].certificate.end if pair[1].certificate else 0.0)[0]


def next_step(
    standings: Sequence[Standing], linked: int | None, now: float, *, wanted: bool = False
) -> NextStep:
    """The next step for a name. `linked` is whose certificate is served, None for nobody's.

    `standings` are in the order of the authorities, one at least. `wanted`: the admin asks for a
    new certificate now, so the first authority is asked whatever failed before.
    """
    best = best_of(standings, now)
    if best is not None and best != linked:
        return NextStep(Do.LINK, best)
    under_way = next((at for at, one in enumerate(standings) if one.ordering), None)
    due = now
    if best is not None and not wanted and under_way is None:
        due = standings[best].due()
    if due > now:
        assert best is not None
        ask_at = sane(standings[best].record.ask_at, now)
        if ask_at <= now:
            return NextStep(Do.WINDOW, best)
        return NextStep(Do.WAIT, at=min(due, ask_at))
    return _order(standings, now, best is None, wanted=wanted)


def _order(standings: Sequence[Standing], now: float, bare: bool, *, wanted: bool) -> NextStep:
    """Whom to ask for a certificate, or when somebody may be asked."""
    soonest = float("inf")
    for at, one in enumerate(standings):
        retry_at = now if wanted and at == 0 else sane(one.record.retry_at, now)
        if retry_at <= now:
            return NextStep(Do.ORDER, at)
        soonest = min(soonest, retry_at)
        if one.record.failures < (1 if bare else PATIENCE):
            break
    return NextStep(Do.WAIT, at=soonest)
