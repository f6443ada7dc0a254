"""Memory that all workers of a master share, by a descriptor that each inherits.

It begins with a secret of `SECRET` bytes, which nobody outside knows. The rest is zeros at first
and belongs to whoever the workers agree upon (`access/rates`). Pages that nobody has touched take
up nothing. It outlives workers and reloads, and ends with the master.

It never maps or reads it. Invariant: no file of that name can be found on a disk.
"""

from __future__ import annotations

import os
import tempfile
from typing import Final

SECRET: Final = 64
# Bytes; 16 for each client that is in debt to a rate, and 8 for what it spent here, where other
# machines are to know of it.
SIZE: Final = SECRET + (6 << 20)


def make() -> int:
    """The descriptor. Raises `OSError`."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("rawproxy")
    else:  # of Linux alone; elsewhere a file whose name is gone at once
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, SIZE)
    set_secret(descriptor, os.urandom(SECRET))
    return descriptor


def set_secret(descriptor: int, secret: bytes) -> None:
    """Put another secret there, of `SECRET` bytes. Raises `OSError`."""
    os.pwrite(descriptor, secret[:SECRET], 0)
