"""What is known of an exchange when it has ended, for the counters and for its log line.

Facts never decide anything. Invariant: each of them has a value from the beginning. What has not
happened is 0 or empty.
"""

from __future__ import annotations

from rawproxy.telemetry.counters import Tally


class Facts:
    """The facts of one exchange. Times are seconds on the monotonic clock."""

    __slots__ = (
        "began", "dialled", "ended", "first", "id", "label", "received", "retries", "sent",
        "status", "tally",
    )  # fmt: skip

    def __init__(self, request_id: bytes, began: float, tally: Tally, label: bytes = b"") -> None:
        self.id = request_id  # empty: none is needed
        self.began = began  # 0: nobody wants timings
        self.tally = tally  # of the upstream, or of the answers that need none
        self.label = label  # the upstream's name; empty: there was none
        self.dialled = 0.0  # seconds that a new connection took; 0: there was an idle one
        self.first = 0.0  # when the response's head came; 0: it did not
        self.ended = 0.0  # 0: not yet
        self.received = 0  # bytes of the request's body
        self.retries = 0  # upstreams that could not be reached, and idle connections that had died
        self.status = 0  # as the client was told
        self.sent = 0  # bytes of the response's body
