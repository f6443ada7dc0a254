"""Which lines of the error log are said and which are only counted: no peer may fill the log.

    kind      the place in the code that a line comes from, and the status of a refused request
    reason    the text of the line, without what differs each time (a request's id, its path)

`PER_REASON` lines a second are said of one reason, and `PER_KIND` lines of one kind. A client can
make up reasons, such as names that no site has, and these must not use up the lines of other kinds.
Further lines are counted. When the second is over, their number is told together with the last of
them that was made.

This module never formats, writes or looks at a clock. Invariants: a line that `admit` has refused
is counted in exactly one pair of `settle`. At most `KINDS` x `PER_KIND` reasons are remembered, for
a second.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

PER_REASON = 10  # in each `WINDOW`: enough to see what happens, and how often
PER_KIND = 40
KINDS = 128  # this code has some 60; all that libraries log beyond is of one kind
WINDOW = 1.0  # seconds

T = TypeVar("T")
Reason = tuple[Hashable, Hashable]


class _Heard(Generic[T]):
    """What was said of one reason within a window."""

    __slots__ = ("last", "over", "said")

    def __init__(self) -> None:
        self.said = 0
        self.over = 0
        self.last: T | None = None  # of those that are over, and of these that were made


class Repeats(Generic[T]):
    """The reasons of the last second. `T` is what a line will be made of."""

    __slots__ = ("_heard", "_of_kind", "ends", "over")

    def __init__(self) -> None:
        self._heard: dict[Reason, _Heard[T]] = {}
        self._of_kind: dict[Hashable, int] = {}  # lines that were said
        self.ends = 0.0  # when the window is over: then `settle` comes before `admit`
        self.over = 0  # lines that were counted only

    def admit(self, kind: Hashable, reason: Hashable, one: T) -> bool:
        """Whether `one` is to be said. If not, it is counted."""
        if kind not in self._of_kind and len(self._of_kind) >= KINDS:
            kind = None
        said = self._of_kind.get(kind, 0)
        known: Reason = (kind, reason)
        if known not in self._heard and said >= PER_KIND:
            known = (kind, None)
        heard = self._heard.get(known)
        if heard is None:
            heard = self._heard[known] = _Heard()
        if said < PER_KIND and heard.said < PER_REASON:
            heard.said += 1
            self._of_kind[kind] = said + 1
            return True
        heard.over += 1
        heard.last = one
        self.over += 1
        return False

    def again(self, kind: Hashable, reason: Hashable) -> bool:
        """Count one more line of a reason that has too many already. False: ask `admit`."""
        heard = self._heard.get((kind, reason))
        if heard is None or heard.last is None:
            return False
        heard.over += 1
        self.over += 1
        return True

    def settle(self, now: float) -> list[tuple[T, int]]:
        """A late line of each reason that had too many, and how many more there were.

        With that a new window begins.
        """
        self.ends = now + WINDOW
        if not self._heard:
            return []
        heard = list(self._heard.values())
        self._heard.clear()
        self._of_kind.clear()
        self.over = 0
        return [(one.last, one.over - 1) for one in heard if one.last is not None]
