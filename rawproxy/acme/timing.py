"""When a certificate is renewed, and when a try that failed is made again.

It never looks at a clock: times are seconds since 1970, and the caller brings both them and chance.
Invariants: nobody is told to wait for less than the authority asked for; no wait is longer than
`LONGEST`, so that a folder with a time far ahead, of a clock that was wrong, heals by itself.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

MINUTE: Final = 60.0
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
# Left of a certificate's life when it is renewed, where the authority names no window of its own:
# 30 days of 90, two of six. As certbot and Caddy do.
LEFT: Final = 1 / 3
# Of its life, by which that is spread, so that a thousand names are not renewed in one minute.
SPREAD: Final = 1 / 30
# A certificate that begins so little ahead of our clock is served: it is our clock that is behind.
AHEAD: Final = HOUR
LONGEST: Final = DAY  # the longest pause; Let's Encrypt forgets failures after an hour
# After refusals of one kind: five an hour are allowed for a name at Let's Encrypt, so the first
# five tries take 1 h 20 min.
REFUSED: Final = (MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 4 * HOUR, 12 * HOUR, DAY)
# An authority that cannot be reached counts no tries.
AWAY: Final = (5.0, 15.0, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE)
LIMITED: Final = (HOUR, 3 * HOUR, 12 * HOUR, DAY)  # where it does not say for how long
OURS: Final = (5.0, 30.0, MINUTE, 5 * MINUTE, 30 * MINUTE)  # a disk that is full, a hook that fails
AGAIN: Final = 6 * HOUR  # between two looks at the authority's window (RFC 9773 4.3.2)


class Trouble(enum.Enum):
    """Whose a failure was: that says how soon another try makes sense."""

    REFUSED = "refused"
    LIMITED = "limited"
    AWAY = "away"
    OURS = "ours"


PAUSES: Final[dict[Trouble, tuple[float, ...]]] = {
    Trouble.REFUSED: REFUSED,
    Trouble.LIMITED: LIMITED,
    Trouble.AWAY: AWAY,
    Trouble.OURS: OURS,
}


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when a certificate holds, and its serial number in hexadecimal."""

    begin: float
    end: float
    serial: str = ""

    def holds(self, now: float) -> bool:
        """Whether a client with a right clock would take it now."""
        return self.begin - AHEAD <= now < self.end


def renewal(one: Validity, chance: float, window: tuple[float, float] | None = None) -> float:
    """When to renew it. `chance` is from 0 to 1, and stays what it is for one certificate.

    `window` is the authority's own wish (RFC 9773 4.2), any moment of which is as good.
    """
    if window is not None:
        begin, end = window
        return begin + chance * max(end - begin, 0.0)
    life = one.end - one.begin
    return one.end - life * (LEFT + chance * SPREAD)


def pause(fault: Trouble, failures: int, chance: float, asked: float = 0.0) -> float:
    """Seconds until the next try after so many failures in a row, the last of this kind.

    `asked` is what the authority asked for (Retry-After, RFC 8555 6.6). A fifth more or less, so
    that names which failed together do not come back together.
    """
    steps = PAUSES[fault]
    wait = steps[min(max(failures, 1), len(steps)) - 1] * (0.8 + 0.4 * chance)
    return min(max(wait, asked), LONGEST)


def sane(at: float, now: float) -> float:
    """A time from the folder until which to wait; never further ahead than `LONGEST`."""
    return min(at, now + LONGEST)
