"""Answers that hold for some seconds, and questions that several requests wait for together.

The key is the whole head of a question, so an answer is used again only where everything that the
guard could have looked at is the same: cookies, method, target, host, address. Kept is only what
lets pass and sets no cookie: whoever has been refused and signs in passes at once, and nobody gets
a cookie that was meant for another moment.

It never asks and never looks at a clock. Invariants: there are at most `ENTRIES`, each of at most
`LINES` bytes; none is given out after its time.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

from rawproxy.access.verdicts import AuthVerdict, Ruling

ENTRIES: Final = 1024  # of one guard in one worker; with `LINES` at most 8 MiB
LINES: Final = 8 * 1024  # bytes of fields for the upstream: tokens are smaller


def key_of(opening: bytes) -> bytes:
    """What a question is called; heads may have 64 KiB, and nobody finds two of one name."""
    return hashlib.blake2b(opening, digest_size=32).digest()


class AnswerCache:
    """The answers of one guard."""

    __slots__ = ("_entries", "_seconds", "hits")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._entries: OrderedDict[bytes, tuple[float, AuthVerdict]] = OrderedDict()
        self.hits = 0

    def find(self, key: bytes, now: float) -> AuthVerdict | None:
        """What was answered, if it still holds."""
        found = self._entries.get(key)
        if found is None:
            return None
        if now >= found[0]:
            del self._entries[key]
            return None
        self.hits += 1
        return found[1]

    def keep(self, key: bytes, verdict: AuthVerdict, now: float) -> None:
        """An answer has come; the oldest one goes where there is no room."""
        if verdict.ruling is not Ruling.PASS or verdict.cookies or len(verdict.lines) > LINES:
            return
        self._entries[key] = (now + self._seconds, verdict)
        self._entries.move_to_end(key)
        if len(self._entries) > ENTRIES:
            self._entries.popitem(last=False)
