"""What this Python and this OpenSSL make of the private parts: tried once, when a worker starts.

It never changes what TLS does, only how it is done. Invariant: whoever makes a
TLS connection has called `found_out` before.
"""

from __future__ import annotations

from rawproxy.net.openssl import context_door, error_queue, objects


def found_out() -> list[str]:
    """Try everything; some milliseconds. The lines are for the log: what is gone without."""
    lines = [*objects.reach.find_out(), error_queue.queue.find_out(), context_door.door.find_out()]
    return [line for line in lines if line is not None]
