"""Python's garbage collector at rest while a configuration is read and made ready.

Thousands of sites are a million objects, and none of them is garbage; the collector would go
through them again and again, which takes more than half of the time. It never changes what is
collected later of what comes and goes. Invariant: it runs again afterwards, if it ran before.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """No collection within this block; short ones only, as garbage in cycles stays meanwhile."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """The same, and what was made until its end is never gone through at all.

    For what a process makes at its start and has until it ends: cycles in it are never collected.
    """
    with paused():
        yield
        gc.freeze()
