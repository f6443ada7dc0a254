"""How long an exchange waits for others, and what it answers if that is too long.

    state        whom it waits for           too long                                     status
    ───────────  ──────────────────────────  ───────────────────────────────────────────  ──────
    QUEUE, WAIT  a connection (`checkout`)   `Deadlines.queue`, `Deadlines.wait`          503, 502
    SEND         the upstream's answer       `Deadlines.response_head`, while the         504
                                             upstream reads nothing of the request
    RELAY        the upstream's next bytes   `Deadlines.response_body`                    504
    RELAY        its client, which does not  `Deadlines.response_body`; less while        408
                 take what there is          connections are scarce

The client side waits for a client that sends. There is no timer: the sweep asks once a second. This
module never waits by itself. Invariant: in each state but REWRITE and TUNNEL, the exchange has a
deadline, or somebody else limits the time.
"""

from __future__ import annotations

from typing import Final

from rawproxy.errors import ClientError, UpstreamError
from rawproxy.net.backpressure import unsent
from rawproxy.protocol.http.head import RequestHead
from rawproxy.proxy.checkout import QUEUE, RELAY, SEND, WAIT
from rawproxy.proxy.client_side import ClientSide
from rawproxy.proxy.holding import Holding
from rawproxy.proxy.service import Service
from rawproxy.upstream.connection import UpstreamConnection

# Seconds over which a slow reader is judged while connections are scarce, and while requests wait
# for one: well under the ten for which they do.
PRESSED: Final = 5.0
WAITED_FOR: Final = 3.0


class Timeouts(Holding):
    """Base of the exchange: its waits, as the sweep sees them."""

    __slots__ = ("backlog", "blocked", "connection", "started", "throttled")

    def __init__(self, service: Service, client: ClientSide, head: RequestHead) -> None:
        Holding.__init__(self, service, client, head)  # `super` is a call more
        self.connection: UpstreamConnection | None = None
        self.started = False  # something of the response has reached the client
        self.throttled = False  # the upstream does not take the body as fast as it comes
        self.blocked = 0.0  # since when the client does not take all we have; 0: it does
        self.backlog = 0  # unsent bytes at the last look

    def sweep(self, now: float) -> None:
        """Called about once a second: end a wait that is over."""
        connection = self.connection
        if connection is not None and not connection.apart and self.endpoint.pool.scarce():
            self._note_slowness()
        if self.blocked and self.state is RELAY:
            self._watch_reader(now)
            return
        if not self.deadline or now < self.deadline:
            return
        deadlines = self.deadlines
        if self.state is QUEUE or self.state is WAIT:
            self.sweep_wait()
        elif self.state is SEND and self.throttled and self._upstream_reads():
            self.deadline = self.service.deadline(deadlines.response_head)
        elif self.state is SEND:
            # While the client still sends, its own deadline is the one that counts.
            if self.request_ended or self.throttled:
                wait = f"no response for {deadlines.response_head:g} s"
                self.fail(UpstreamError(wait, 504))
        elif self.state is RELAY:
            wait = f"no byte of the body for {deadlines.response_body:g} s"
            self.fail(UpstreamError(wait, 504))

    def _note_slowness(self) -> None:
        """Tell the pool if the connection waits for our client, and how far that has come."""
        if self.blocked and self.state is RELAY:
            self.endpoint.pool.note_progress(self, self.client.client_has())
        elif not (self.request_ended or self.throttled):
            moved = self.client.client_has() if self.state is RELAY else 0
            self.endpoint.pool.note_progress(self, self.received + moved)

    def _watch_reader(self, now: float) -> None:
        """A client that reads slower than it could has to keep the pace, `Limits.rate`."""
        patience = self.deadlines.response_body
        pool = self.endpoint.pool
        if pool.waiting:
            patience = min(patience, WAITED_FOR)
        elif pool.pressed():
            patience = min(patience, PRESSED)
        if now - self.blocked < patience:
            return
        if self.client.client_took() >= self.service.pace(self.client.route_target, patience):
            self.blocked = now
        else:
            wait = f"the client has read next to nothing for {patience:g} s"
            self.fail(ClientError(wait, 408))

    def _upstream_reads(self) -> bool:
        """Whether the upstream took some of the body since the last look."""
        connection = self.connection
        before, self.backlog = self.backlog, unsent(connection.transport) if connection else 0
        return not before or self.backlog < before
