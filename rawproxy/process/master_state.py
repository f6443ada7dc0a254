"""What a master is doing: the states of the diagram in `master`.

It never changes one. Invariant: each has a name of its own here, as they are asked for often.
"""

from __future__ import annotations

import enum


class MasterState(enum.Enum):
    """What the master is doing."""

    STARTING = "starting"
    SERVING = "serving"
    LOADING = "loading"
    CHANGING = "changing"
    REPLACING = "replacing"
    STOPPING = "stopping"


STARTING, SERVING, LOADING = MasterState.STARTING, MasterState.SERVING, MasterState.LOADING
CHANGING, REPLACING = MasterState.CHANGING, MasterState.REPLACING
STOPPING = MasterState.STOPPING
