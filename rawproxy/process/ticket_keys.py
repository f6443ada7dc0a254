"""The keys of TLS tickets: made by the master, used by its workers (`tls.sessions`).

They outlive workers and reloads, so that clients resume their sessions with whichever worker they
come to. They are never written to a disk and end with the master.

What was encrypted to a TLS 1.2 client that resumed can be read by whoever gets hold of the key, so
none may live for long. OpenSSL has one key at a time: with a new one, the clients who were here in
the last two hours (its sessions live no longer) make a whole handshake once more. Of clients who
come back evenly spread over these two hours, one change a day costs one in 24 its session, and
fewer of those who come back sooner. It never looks at a clock.
"""

from __future__ import annotations

import os
from typing import Final

SIZE: Final = 80  # bytes, as OpenSSL wants them
LIFE: Final = 86_400.0  # seconds until they are replaced


class TicketKeys:
    """The keys as they are; `now` is a time that only grows."""

    __slots__ = ("_born", "_keys")

    def __init__(self, now: float) -> None:
        self._born = now
        self._keys = os.urandom(SIZE)

    def __repr__(self) -> str:
        return f"<TicketKeys of {self._born:.0f}>"

    def message(self) -> str:
        """As workers are told."""
        return self._keys.hex()

    def renewed(self, now: float) -> bool:
        """Whether their time was over; then there are new ones."""
        if now - self._born < LIFE:
            return False
        self._born = now
        self._keys = os.urandom(SIZE)
        return True
