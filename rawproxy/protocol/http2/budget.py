"""What an HTTP/2 client may make us do that serves no request: a bucket that drains and refills.

Every frame that carries nothing costs one, a reset fifty; a request or a frame of body, either way,
earns two. A client that only works never notices; a flood of SETTINGS, PING, PRIORITY, empty DATA,
WINDOW_UPDATE (CVE-2019-9511 and its kin) or of resets, the client's and ours (CVE-2023-44487,
CVE-2025-8671), is over within `size` frames.

It never sees a frame and never reads a clock. Invariant: there is never more left than `size`.
Raises `ConnectionFault` with ENHANCE_YOUR_CALM where nothing is left.
"""

from __future__ import annotations

from typing import Final

from rawproxy.protocol.http2.frames import Code, ConnectionFault

RESET: Final = 50  # what it costs: each ends a request that an upstream may have begun to serve


class Budget:
    """The bucket of one connection."""

    __slots__ = ("left", "refill", "size")

    def __init__(self, size: int, refill: int) -> None:
        self.size = size
        self.refill = refill  # about once a second
        self.left = size

    def spend(self, cost: int, what: str) -> None:
        """A frame to no end. Raises `ConnectionFault`."""
        self.left -= cost
        if self.left < 0:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, f"too many frames to no end: {what}")

    def owe(self, cost: int) -> None:
        """The same where a fault has nowhere to go: whatever is spent next raises it."""
        self.left -= cost

    def earn(self, gain: int) -> None:
        """Something useful was done."""
        self.left = min(self.left + gain, self.size)

    def tick(self) -> None:
        """About once a second."""
        self.earn(self.refill)
