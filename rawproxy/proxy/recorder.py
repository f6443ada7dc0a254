"""What one worker records of its exchanges: ids, times, counters, lines of the access log.

    begin    an exchange starts     its id, and the time, if somebody wants them
    marked   its head goes out      X-Request-ID and traceparent, if they were asked for
    record   it has ended           kept until there are `BATCH` of them, or `WAIT` is over
    flush    of all those at once   counted, and written to the log

Each of these costs a request something, so each can be off: then it costs one test of an attribute.
Batches halve the cost, because their code is in the processor's caches then. This module never
touches a connection. Invariant: counters only grow, whatever becomes of a request.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import localtime, monotonic, process_time, time
from typing import Final

from rawproxy.config.model import Config
from rawproxy.errors import ignore
from rawproxy.protocol.http import request_ids
from rawproxy.protocol.http.head import RequestHead
from rawproxy.protocol.http.rewrite import ClientContext
from rawproxy.routing.route_targets import names_ids
from rawproxy.telemetry import error_log, masks
from rawproxy.telemetry.access_log import FORMATS, Counters, Ended, lines
from rawproxy.telemetry.counters import Tally, Tree
from rawproxy.telemetry.facts import Facts

BATCH: Final = 128  # exchanges: some 100 µs of work, as long as others may have to wait for it
WAIT: Final = 0.1  # seconds after which fewer are enough, for whoever watches the log
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
Later = Callable[[float, Callable[[], None]], object]  # a loop's `call_later`


class Recorder:
    """The records of one worker."""

    def __init__(self, config: Config, write_log: Callable[[bytes], None] | None) -> None:
        self.counters = Counters()
        self.write_log = write_log
        self.log_lost: Callable[[], int] = lambda: 0  # set by whoever has the log
        self.ids = request_ids.Ids(os.urandom)
        self.masks = masks.of(config)
        self._format = FORMATS[config.log_format]
        self._stamp = b""
        self._send_id = config.send_request_id
        self._send_trace = config.send_traceparent
        full = write_log is not None and config.log_format != "combined"
        self.metered = config.admin is not None
        self.named = self._send_id or full or names_ids(config)  # every exchange has an id
        self.timed = self.metered or full
        self._kept = self.metered or write_log is not None
        self.marks = self._send_id or self._send_trace
        self.on = self._kept or self.named or self.marks  # exchanges have facts
        self._ended: list[Ended] = []  # and neither counted nor logged yet
        self._most = 1  # of these; there is no loop yet that could see to them later
        self._later: Later = ignore
        self._due = False
        self.tally = Tally()  # of answers that needed no upstream
        self.stamp(time())

    def go_on_from(self, before: Recorder) -> None:
        """Count on from what another one has counted: it wrote another log, perhaps."""
        self.counters, self.tally, self.ids = before.counters, before.tally, before.ids
        self.log_lost = before.log_lost
        self._later, self._most = before._later, before._most

    def gather(self, later: Later) -> None:
        """Record several exchanges together from now on."""
        self._later, self._most = later, BATCH

    def stamp(self, wall: float) -> None:
        """Called about once a second: set the time that log lines bear."""
        self.flush()
        self._stamp = self._format.stamp(wall, localtime(wall).tm_gmtoff)

    def begin(self, head: RequestHead, context: ClientContext) -> Facts:
        """An exchange begins. Called only if `on`."""
        self.counters.begun += 1
        began = monotonic() if self.timed else 0.0
        return Facts(self._name(head, context), began, self.tally)

    def bare(self, head: RequestHead, context: ClientContext) -> Facts | None:
        """The facts of an answer without an exchange, a redirect or a 421; None: nobody asks."""
        if not self.on:
            return None
        self.counters.begun += 1
        return Facts(self._name(head, context), 0.0, self.tally)

    def _name(self, head: RequestHead, context: ClientContext) -> bytes:
        """The id of a request, if somebody wants it. Values of its route may have named it."""
        return (context.id or self.new_id(head, context)) if self.named else b""

    def new_id(self, head: RequestHead, context: ClientContext) -> bytes:
        """An id for a request: the one of a trusted proxy, or a new one."""
        peers = request_ids.peers_id(head.value(b"x-request-id")) if context.trusted else b""
        return peers or self.ids.next()

    def marked(self, facts: Facts, opening: bytes) -> bytes:
        """The head for the upstream, with what identifies this request."""
        if self._send_id:
            opening = request_ids.with_id(opening, facts.id)
        if self._send_trace:
            opening = request_ids.with_trace(opening, self.ids)
        return opening

    def record(
        self,
        head: RequestHead,
        context: ClientContext,
        status: int,
        sent: int,
        facts: Facts | None = None,
    ) -> None:
        """One exchange has ended: keep it for the counters and for the access log."""
        self.counters.requests += 1
        if not self._kept:
            return
        facts = facts or self.bare(head, context)
        assert facts is not None
        facts.status, facts.sent = status, sent
        if self.timed and not facts.ended:
            facts.ended = monotonic()
        ended = self._ended
        ended.append((head, context, facts))
        if len(ended) >= self._most:
            self.flush()
        elif not self._due:
            self._due = True
            self._later(WAIT, self._wait_over)

    def _wait_over(self) -> None:
        self._due = False
        self.flush()

    def flush(self) -> None:
        """Count what has ended, and write it to the log."""
        ended, self._ended = self._ended, []
        if not ended:
            return
        if self.metered:
            self._count(ended)
        if self.write_log is not None:
            self.write_log(lines(self._format, ended, self._stamp, self.masks))

    def _count(self, exchanges: list[Ended]) -> None:
        protocols = self.counters.protocols
        for head, _, facts in exchanges:
            status = facts.status
            protocols[head.minor] += 1
            tally = facts.tally
            tally.classes[status // 100] += 1
            tally.received += facts.received
            tally.sent += facts.sent
            began = facts.began
            if began and status != 101 and not (head.upgrade and status == 200):  # a tunnel's
                first = facts.first
                tally.time(facts.ended - began, first - began if first else 0.0)

    def counts(self) -> Tree:
        """The counters of a snapshot, without those of the upstreams."""
        self.flush()
        c = self.counters
        return {
            "accepted": c.accepted, "refused": c.refused, "begun": c.begun, "requests": c.requests,
            "protocols": list(c.protocols), "tunnels": c.tunnels_begun, "tunnel_in": c.tunnel_in,
            "tunnel_out": c.tunnel_out, "handshakes": c.handshakes, "resumed": c.resumed,
            "handshakes_failed": c.handshakes_failed, "h2_faults": c.h2_faults,
            "log_lost": self.log_lost(), "errors_lost": error_log.lost(), "cpu": process_time(),
            "upstreams": {"": self.tally.counters()},
        }  # fmt: skip


def resident() -> int:
    """Bytes of memory that this process has in use; 0 if nothing tells."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return 0
