"""The error log: what the admin should know, on standard error, a line each.

It never blocks on anything but standard error. Invariant: one format in every process.
"""

import logging
import sys

log = logging.getLogger("rawproxy")


def set_up() -> None:
    """Once for each process."""
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s rawproxy %(levelname)s %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False


def cannot(reasons: list[str]) -> None:
    """What prevents a start, in the words and the form of the command line."""
    for reason in reasons:
        print(f"rawproxy: error: {reason}", file=sys.stderr, flush=True)
