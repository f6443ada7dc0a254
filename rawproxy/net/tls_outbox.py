"""Bytes that wait to be written as TLS records.

`head` gives what to write next: as much as a record holds, if there is as much. Small pieces are
joined, so that a burst of them costs one record and one system call. `advance` says how much of it
was written. This module never copies more than a record, and knows no socket.

Invariants: pieces keep their order. Between two calls of `advance`, each `head` begins with the
bytes of the last one: if OpenSSL could not send a record, it wants the same bytes again
(SSL_R_BAD_WRITE_RETRY).
"""

from __future__ import annotations

from collections import deque
from typing import Final

RECORD: Final = 16_384  # bytes of plaintext that a TLS record can hold (RFC 8446 5.1)


class Outbox:
    """A queue of bytes."""

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: deque[bytes | memoryview] = deque()
        self.size = 0

    def add(self, piece: bytes | memoryview) -> None:
        """Queue `piece`, which must not change any more."""
        self._pieces.append(piece)
        self.size += len(piece)

    def head(self) -> bytes | memoryview:
        """What to write next. The queue must not be empty."""
        pieces = self._pieces
        if len(pieces[0]) >= RECORD or len(pieces) == 1:
            return pieces[0]
        taken = [pieces.popleft()]
        room = RECORD - len(taken[0])
        while pieces and room > 0:
            piece = pieces.popleft()
            if len(piece) > room:
                view = memoryview(piece)
                pieces.appendleft(view[room:])
                piece = view[:room]
            taken.append(piece)
            room -= len(piece)
        record = b"".join(taken)
        pieces.appendleft(record)
        return record

    def advance(self, sent: int) -> None:
        """The first `sent` bytes of `head` have been written."""
        first = self._pieces.popleft()
        self.size -= sent
        if sent < len(first):
            self._pieces.appendleft(memoryview(first)[sent:])
