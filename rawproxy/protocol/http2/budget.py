"""What an HTTP/2 client may cost without serving a request: a bucket that drains and refills.

Every frame that carries nothing costs one, and a reset costs fifty. A request, or a frame of body
in either direction, earns two. A client that only works never notices. A flood of SETTINGS, PING,
PRIORITY, empty DATA or WINDOW_UPDATE (CVE-2019-9511 and others like it), or of resets, the client's
or ours (CVE-2023-44487, CVE-2025-8671), is over within `size` frames.

This module never sees a frame and never reads a clock. Invariant: there is never more left than
`size`. Raises `ConnectionFault` with ENHANCE_YOUR_CALM when nothing is left.
"""

from __future__ import annotations

from typing import Final

from rawproxy.protocol.http2.frames import Code, ConnectionFault

RESET: Final = 50  # its cost: each ends a request that an upstream may be serving already


class Budget:
    """The bucket of one connection."""

    __slots__ = ("left", "refill", "size")

    def __init__(self, size: int, refill: int) -> None:
        self.size = size
        self.refill = refill  # each second
        self.left = size

    def spend(self, cost: int, what: str) -> None:
        """Pay for a frame that serves nothing. Raises `ConnectionFault`."""
        self.left -= cost
        if self.left < 0:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, f"too many frames to no end: {what}")

    def owe(self, cost: int) -> None:
        """Pay where a fault cannot be raised: the next `spend` raises it."""
        self.left -= cost

    def earn(self, gain: int) -> None:
        """Something useful was done."""
        self.left = min(self.left + gain, self.size)

    def tick(self) -> None:
        """Called about once a second: refill."""
        self.earn(self.refill)
