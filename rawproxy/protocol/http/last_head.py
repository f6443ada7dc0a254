"""The last head of a connection. The next one is often the same, byte for byte.

An API client sends the same head again and again, and some upstreams answer so. Then one comparison
replaces all reading. If heads differ, as those of a browser do, to keep each one would cost time
and save nothing. So after `TRIES` different heads none is kept, until `AGAIN` heads later.

This module never reads a head. Invariant: `again` gives the same as reading the bytes would.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from rawproxy.protocol.http.head import RequestHead, ResponseHead

TRIES: Final = 4  # heads that differ from the one before, until none is kept
AGAIN: Final = 256  # heads after which that is tried again

H = TypeVar("H", bound=RequestHead | ResponseHead)


class LastHead(Generic[H]):
    """The last head in one direction of a connection."""

    __slots__ = ("_raw", "_unlike", "head", "opening")

    def __init__(self) -> None:
        self._raw = b""
        self._unlike = 0  # heads since one was like the one before
        self.head: H | None = None  # what `_raw` was read as; None: nothing is kept
        self.opening = b""  # of a request: the head that went to the upstream

    def again(self, data: bytes, at: int) -> H | None:
        """The head that begins at this place, if it is the same as the last one; else None."""
        head = self.head
        if head is None:
            return None
        raw = self._raw
        # Most reads are one request. Of others a piece is cut off to be compared: compiled, that
        # takes half of what `startswith` does.
        whole = not at and len(data) == len(raw)
        if (data if whole else data[at : at + len(raw)]) != raw:
            return None
        self._unlike = 0
        return head

    def keep(self, data: bytes, at: int, head: H, opening: bytes = b"") -> None:
        """The head at this place was another one. The next one may be the same again."""
        self._unlike = (self._unlike + 1) % AGAIN
        if self._unlike < TRIES:
            self._raw, self.head, self.opening = data[at : at + head.size], head, opening
        elif self._unlike == TRIES:
            self._raw, self.head, self.opening = b"", None, b""
