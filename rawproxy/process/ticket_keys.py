"""The keys of TLS tickets: the master makes them, and its workers use them (`tls.sessions`).

The keys outlive workers and reloads, so that a client can resume its session with any worker. They
are never written to a disk, and they end with the master.

Somebody who gets hold of a key can read what was encrypted to a TLS 1.2 client that resumed its
session. So no key lives for long. OpenSSL has one key at a time. After a change, the clients of the
last two hours, in which a session lives, make one full handshake. If they come back evenly spread
over two hours, one change a day costs one client in 24 its session.

This module never looks at a clock. Invariant: no key is older than `LIFE` once `renewed` was asked.
"""

from __future__ import annotations

import os
from typing import Final

SIZE: Final = 80  # bytes, as OpenSSL wants them
LIFE: Final = 86_400.0  # seconds until they are replaced


class TicketKeys:
    """The keys of one master. `now` is a time that only grows."""

    __slots__ = ("_born", "_keys")

    def __init__(self, now: float) -> None:
        self._born = now
        self._keys = os.urandom(SIZE)

    def __repr__(self) -> str:
        return f"<TicketKeys of {self._born:.0f}>"

    def message(self) -> str:
        """The keys in hexadecimal digits, for the message to a worker."""
        return self._keys.hex()

    def take(self, keys: bytes, age: float, now: float) -> bool:
        """Use keys that other machines use too, and say whether they are others than before."""
        if len(keys) != SIZE or keys == self._keys:
            return False
        self._born = now - max(age, 0.0)
        self._keys = keys
        return True

    def renewed(self, now: float) -> bool:
        """Make new keys if the old ones are too old, and say whether that was so."""
        if now - self._born < LIFE:
            return False
        self._born = now
        self._keys = os.urandom(SIZE)
        return True
