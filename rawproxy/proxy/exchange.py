"""The life of a request: rewrite → pick → checkout → send → relay → record.

    state      waits for                     leaves to
    ─────────  ────────────────────────────  ─────────────────────────────────────────────────────
    GUARD      who may pass (`access`)       REWRITE │ DONE (whatever the guard says)
    REWRITE    nothing, or the body while    CHECKOUT │ DONE (413, 503, an answer of our own)
               connections are scarce
    CHECKOUT   nothing                       SEND (idle connection) │ DIAL │ QUEUE │ WAIT │
                                             DONE (503)
    QUEUE      room in the pool              SEND │ DIAL │ DONE (503)
    DIAL       a new connection              SEND │ CHECKOUT (next candidate) │ WAIT │
                                             DONE (502, 504)
    WAIT       an upstream that takes        CHECKOUT │ DONE (502, 503)
               connections again
    SEND       the response head             RELAY │ TUNNEL │ CHECKOUT (retry) │ DONE (502, 504)
    RELAY      the end of the response       DONE
    TUNNEL     nothing: both sockets spliced DONE
    DONE       nothing, for ever

The rule of retries (RFC 9110 9.2.2): nothing of the response has reached the client, and either
the dial failed, so that nothing was sent (any method), or a *reused* connection died before any
byte of its response and the request is replayable: idempotent, its body absent or wholly held.
Then it goes, once, over a fresh connection.

Requests and responses stream: a body's bytes are written to the other side as they come, and a
writer that is full closes the valve of its reader. Only bytes that have no connection yet, and
those that a retry may need, are held, up to `Limits.replay`.

And each leaves to DONE when its client has gone or breaks off. CHECKOUT to WAIT are told in
`checkout`, a request's body in `request_relay`, what is held of it in `holding`, a response's body
in `response_relay`, waits that are too long in `timeouts`. It never parses and never touches a
client's socket: the client side does, for HTTP/1 and HTTP/2 alike.

Invariant: every exchange reaches DONE exactly once, tells its client side exactly once how it
ended, and then holds no connection, no place in a queue and no deadline.
"""

from __future__ import annotations

from time import monotonic
from typing import Final

from rawproxy.balancing.pool import SLOW
from rawproxy.errors import (
    CapacityError,
    ClientError,
    DialError,
    MalformedError,
    ProxyError,
    Retry,
    Source,
)
from rawproxy.net.backpressure import NO_UPSTREAM
from rawproxy.protocol.http import last_hop, rewrite
from rawproxy.protocol.http.connection_auth import binds
from rawproxy.protocol.http.head import CHUNKED, ResponseHead
from rawproxy.protocol.websocket.upgrade import check_switch
from rawproxy.proxy.checkout import DONE, IDEMPOTENT, RELAY, SEND, TUNNEL
from rawproxy.proxy.error_places import led
from rawproxy.proxy.holding import CONTINUE, too_large
from rawproxy.proxy.response_relay import ResponseRelay
from rawproxy.proxy.tunnel import Tunnel
from rawproxy.upstream.connection import UpstreamConnection

# What lasts as long as somebody looks at a page (HTML Standard 9.2).
EVENTS: Final = b"text/event-stream"


class Exchange(ResponseRelay):
    """One request and its response."""

    __slots__ = ()

    def __repr__(self) -> str:
        target = self.head.target.decode("latin-1")
        return f"<Exchange {self.method.decode()} {target} {self.state.value}>"

    def start(self, opening: bytes | None = None, *, coming: bool = False) -> None:
        """Send the request on its way. `opening`: its rewritten head, where that is known.

        `coming`: `on_request_body` is called next, so head and body go out as one.
        """
        recorder = self.service.recorder
        if recorder.on:
            self.facts = self.client.facts = recorder.begin(self.head, self.client.context)
        self.set_out(opening, coming=coming)

    def set_out(self, opening: bytes | None, *, coming: bool) -> None:
        """The same for an exchange that has begun, as far as the recorder knows."""
        client, head = self.client, self.head
        self.candidates = self.service.candidates(client.route_target, head, client.context)
        if client.bound is not None:
            self.prefer(client.bound)
        self.endpoint = self.candidates[0]
        self.opening = opening or self.rewritten(self.endpoint.authority)
        if not (self.usual or opening) and self.method in last_hop.ASKED and self._ends_here():
            return
        most = self.limits.body
        if most and head.framing > most:
            self.fail(too_large(most))
        elif head.upgrade and self.service.tunnels_full():
            self.fail(CapacityError("as many tunnels as --limit tunnels allows"))
        elif self.request_ended or not (coming or self.gather or self.hold_back()):
            self.checkout()
        elif head.expect and not coming:
            # As nginx and HAProxy do it always, we do while connections are scarce: who is told
            # to go on by us holds none until its body is here. So is who is gathered.
            self.opening = rewrite.without(self.opening, (b"expect",))
            self.client.send_interim(CONTINUE)

    def rewritten(self, authority: bytes) -> bytes:
        """The request's head, as the upstream gets it."""
        return rewrite.request(self.head, self.client.context, authority)

    def tunnelled(self, tunnel: Tunnel) -> None:
        """The exchange has become a tunnel, which goes on without it."""

    def _ends_here(self) -> bool:
        """Whether an OPTIONS or TRACE is answered here, instead of going on."""
        head, trace = self.head, self.client.route_target.trace
        try:
            forwards = last_hop.left(head, trace)
        except ClientError as error:
            self.fail(error)
            return True
        if forwards > 0:
            self.opening = last_hop.counted(self.opening, forwards - 1)
        elif not forwards:
            self.state = DONE
            self.client.reply(200, *last_hop.answer(head, trace))
            self._over()
        return not forwards

    # ── send ────────────────────────────────────────────────────────────────────────────────────

    def send(self, connection: UpstreamConnection) -> None:
        """The request goes out over `connection`."""
        self.state = SEND
        self.connection = connection
        connection.handler = self
        connection.reusable = False
        if self.blocked:
            connection.throttle(True)
        # `Service.deadline`, without its call.
        self.deadline = self.service.next_sweep + self.deadlines.response_head
        # The client side may keep it for the next request: it stays unmarked.
        opening = self.opening
        facts = self.facts
        if facts is not None and self.service.recorder.marks:
            opening = self.service.recorder.marked(facts, opening)
        if self.held is None:
            connection.write(opening)
            return
        connection.write(opening + b"".join(self.held))
        self.let_go(self.throttled)
        if not self.may_replay(connection):
            self.held = None
        if not self.request_ended and self.endpoint.pool.pressed():
            connection.endpoint.stalled(connection, True)
        self.client.throttle(NO_UPSTREAM, False)

    # ── relay ───────────────────────────────────────────────────────────────────────────────────

    def on_response(self, head: ResponseHead, framing: int, payload: bytes, ended: bool) -> None:
        """The response's head, and as much of its body as came with it."""
        if head.status >= 400 and self.leads_elsewhere(head, ended):
            return
        head = self._begun(head, framing, ended)
        self.client.send_response(head, framing, payload, ended)
        if ended:
            self._over()

    def on_uncut(
        self, head: ResponseHead, framing: int, data: bytes, start: int, ended: bool
    ) -> None:
        """The same, in one piece."""
        if head.status >= 400 and self.leads_elsewhere(head, ended):
            return
        head = self._begun(head, framing, ended)
        self.client.send_uncut(head, framing, data, start, ended)
        if ended:
            self._over()

    def _begun(self, head: ResponseHead, framing: int, ended: bool) -> ResponseHead:
        """The response is here: its head, as the endpoint's group wants it."""
        endpoint = self.endpoint
        on_response_head = endpoint.on_response_head
        if on_response_head is not None:
            head = on_response_head(self.head, self.client.context, head)
        if head.status == 401 and binds(head):
            self.personal = True
        self.started = True
        self.held = None
        # Most heads do not have it at all; one that has may mean something else by it.
        if framing < 0 and not ended and EVENTS in head.block and self._lasts(head):
            endpoint.set_apart(self.connection)
        facts = self.facts
        if facts is not None and facts.began:
            facts.first = monotonic()
            if ended:
                facts.ended = facts.first
        if ended:
            self._release()
            self.state = DONE
        else:
            self.state = RELAY
            self.deadline = self.service.deadline(self.deadlines.response_body)
        return head

    def _lasts(self, head: ResponseHead) -> bool:
        """Whether the response is a stream of events, and there is room beside the pool for it."""
        kind = head.value(b"content-type").partition(b";")[0].strip()
        return kind == EVENTS and not self.service.tunnels_full()

    def on_chunks(self, head: ResponseHead | None, chunks: bytes, inside: int, ended: bool) -> None:
        """Whole chunks of the response's body; the first ones come with its head."""
        if head is not None:
            if head.status >= 400 and self.leads_elsewhere(head, ended):
                return
            head = self._begun(head, CHUNKED, ended)
        elif ended:
            self._release()
            self.state = DONE
        else:
            self.deadline = self.service.deadline(self.deadlines.response_body)
        self.client.send_chunks(head, chunks, inside)
        if ended:
            self._over()

    def on_switch(self, head: ResponseHead, rest: bytes) -> None:
        """A 101: the tunnel begins, if it is what the client asked for (RFC 9110 7.8)."""
        connection = self.connection
        assert connection is not None
        error = check_switch(self.head, head)
        if error is None and not self.request_ended:
            error = "a 101 before the request had come to its end (RFC 9110 7.8)"
        if error is not None:
            self.fail(MalformedError(error))
            return
        if self.facts is not None and self.facts.began:
            self.facts.first = monotonic()
        on_response_head = self.endpoint.on_response_head
        if on_response_head is not None:
            head = on_response_head(self.head, self.client.context, head)
        self.state = TUNNEL
        self.connection = None
        connection.handler = None
        self.endpoint.set_apart(connection)
        self._note()
        self.client.switch(head, connection, rest)

    def _note(self) -> None:
        """What only the exchange knows goes into its facts."""
        facts = self.facts
        if facts is not None:
            facts.tally, facts.label = self.endpoint.tally, self.endpoint.label
            facts.received = self.received
            facts.retries = self.attempts + self.retried

    def _over(self) -> None:
        """The last word to the client's side."""
        if self.facts is not None:
            self._note()
        self.client.exchange_done()

    def _release(self) -> None:
        """The connection is done with this exchange, and serves others if it can."""
        if self.parked:
            self.park(0)
        connection = self.connection
        if connection is None:
            return
        self.connection = None
        # CVE-2024-24791: what is left of the body must not follow, nor a request what waits of it.
        if not self.request_ended or (
            self.head.framing and connection.transport.get_write_buffer_size()
        ):
            connection.reusable = False
        if connection.valve.reasons:
            connection.throttle(False)
        if self.personal:
            if connection.reusable and self.client.claim(connection):
                return
            connection.reusable = False
        connection.handler = None
        connection.endpoint.settle(connection)

    # ── the ends that are not the end of a response ─────────────────────────────────────────────

    def on_lost(self, error: ProxyError) -> None:
        """The upstream connection ended before the response did."""
        connection = self.connection
        assert connection is not None
        self.connection = None
        again = (
            error.retry is Retry.IF_REUSED
            and connection.served > 0
            and not self.started
            and not self.retried
            and self.method in IDEMPOTENT
            and (not self.head.framing or self.held is not None)
        )
        connection.endpoint.settle(connection)
        if again:
            self.retried = True
            self.service.counters.retries += 1
            self.endpoint.tally.retries += 1
            self.checkout()
        else:
            self.fail(error)

    def cancel(self) -> None:
        """The client has gone: nobody waits for the rest."""
        if self.state is DONE:
            return
        self.leave_queue()
        self.state = DONE
        self._drop_connection()
        self._over()

    def fail(self, error: ProxyError) -> None:
        """End with an error response, or visibly cut what has begun (RFC 9112 8)."""
        if self.state is DONE:
            return
        self.leave_queue()
        self.state = DONE
        self._drop_connection()
        if isinstance(error, MalformedError):
            self.endpoint.answered_badly()
        elif error.source is Source.UPSTREAM and not isinstance(error, DialError):
            # Of a dial it knows itself. Who has begun to answer lives, or the next one finds out.
            self.endpoint.failed(judged=not self.started)
        if not self._tell(error):
            self._over()

    def _tell(self, error: ProxyError) -> bool:
        """The client hears of it. True if another exchange goes on with its request."""
        if not self.started:
            return led(self.client, self.head, error, self.request_ended)
        known = self.facts.id if self.facts is not None else b""
        self.service.failed(known.decode() or "-", 0, self.name(), error.detail)
        self.client.abort()
        return False

    def _drop_connection(self) -> None:
        connection, self.connection, self.held = self.connection, None, None
        if connection is not None:
            connection.drop()

    def on_cut(self) -> None:
        """Others wait for a connection, and ours waits for a client that is slow."""
        slow = f"slower than {SLOW // 1024} KiB/s while {self.name()} has more connections than"
        self.fail(ClientError(f"{slow} --max-upstream, of which they may hold a quarter", 408))
