"""Tries once, when a worker starts, which private parts this Python and this OpenSSL have.

It never changes what TLS does, only how it is done. Invariant: `found_out` has been called before
the first TLS connection is made.
"""

from __future__ import annotations

from rawproxy.net.openssl import context_door, error_queue, objects, read_ahead


def found_out() -> list[str]:
    """Try everything, in some milliseconds. Returns lines for the log about what is missing."""
    lines = [*objects.reach.find_out(), error_queue.queue.find_out(), context_door.door.find_out()]
    read_ahead.ahead.find_out()
    return [line for line in lines if line is not None]
