"""Which upstream first, and which next: policies as functions.

Each yields a sequence of candidates, so that failover is no more than taking the next one. It
never dials and never waits. Invariant: a sequence names every candidate once.
"""

from __future__ import annotations


def round_robin(count: int, turn: int) -> range | tuple[int, ...]:
    """Indices of `count` upstreams, beginning with the one whose `turn` it is."""
    if count == 1:
        return range(1)
    first = turn % count
    return tuple((first + step) % count for step in range(count))
