"""What is counted of who may pass, and how each result is called in metrics and on the page.

It never decides anything. Invariant: counters only ever grow.
"""

from __future__ import annotations

from typing import Final

from rawproxy.telemetry.counters import Tree

# Where a request of a guarded route ended up, in the order in which it is asked.
PASSED: Final = 0
ADDRESS: Final = 1  # refused by a list
RATE: Final = 2
CONNECTIONS: Final = 3
PASSWORD: Final = 4  # none, or a wrong one
GUARD: Final = 5  # the guard said no, or where to sign in
CLOSED: Final = 6  # the guard could not be asked, or said what nobody understands
PATH: Final = 7  # a dot segment, by which the guard might judge another path than is served
RESULTS: Final[tuple[str, ...]] = (
    "passed", "address", "rate", "connections", "password", "guard", "closed", "path",
)  # fmt: skip


class AccessCounts:
    """The counters of one worker."""

    __slots__ = ("asked", "hashed", "remembered", "results")

    def __init__(self) -> None:
        self.results = [0] * len(RESULTS)
        self.asked = 0  # questions that went out to guards
        self.remembered = 0  # answers that were known, or came with another's
        self.hashed = 0  # passwords that were computed

    def tree(self) -> Tree:
        """Its leaves in a snapshot."""
        return {
            "results": dict(zip(RESULTS, self.results, strict=True)),
            "asked": self.asked,
            "remembered": self.remembered,
            "hashed": self.hashed,
        }
