"""An exchange that asks first: the state GUARD, in front of all others.

    address lists → rate → connections → password → guard → REWRITE, as any exchange

What can be told at once is told at once. A password and a guard take time: meanwhile bytes of the
request's body wait here, at most one read of them, as the client is not read any further; nobody is
told to continue; and if the client goes away, the question is given up.

Once its request may pass, the fields that the guard told are put into the head for the upstream,
and the guard's cookies into whatever the client gets: a response, a page of ours, a 101.

It never sends a byte of a request that may not pass. Invariant: what this request's guard told is
in no other request's head, also on a connection that several clients share.
"""

from __future__ import annotations

from abc import abstractmethod

from rawproxy.access import counts as count
from rawproxy.access.counts import AccessCounts
from rawproxy.access.inquiry import AuthGate, Inquiry, Waiter
from rawproxy.access.passwords import Passwords
from rawproxy.access.questions import url
from rawproxy.access.verdicts import PASS, AuthVerdict, Ruling
from rawproxy.config.field_names import plain
from rawproxy.errors import CapacityError, ClientError, ProxyError
from rawproxy.net.backpressure import NO_UPSTREAM
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http.head import RequestHead, ResponseHead
from rawproxy.proxy.admission import ConnectionSlot
from rawproxy.proxy.checkout import DONE, GUARD, REWRITE
from rawproxy.proxy.client_side import ClientSide
from rawproxy.proxy.exchange import Exchange
from rawproxy.proxy.guard import Guard
from rawproxy.proxy.service import Service
from rawproxy.proxy.tunnel import Tunnel
from rawproxy.routing.own_answer import location

BodyPiece = tuple[bytes, bool, bytes]  # of a body: as `on_request_body` gets it


class AskedGuard(Guard):
    """A guard as its exchanges know it. A class for the same reason as `ResponseHandler`."""

    __slots__ = ("counts", "covered", "gate", "passwords", "patience")

    counts: AccessCounts
    gate: AuthGate | None  # who is asked; None: nobody
    passwords: Passwords | None
    patience: float  # seconds for all that takes time
    covered: bool  # who looks for what is cut of questions has looked for what the route cuts

    @abstractmethod
    def at_once(self, exchange: GuardedExchange) -> ProxyError | None:
        """Why the request ends here, as far as that can be told without waiting; or None."""

    @abstractmethod
    def now(self) -> float:
        """The time by which rates go: the same in all workers."""

    @abstractmethod
    def leave(self, visitor: bytes) -> None:
        """One place of a client is free again."""

    @abstractmethod
    def watch(self, exchange: GuardedExchange, tunnel: Tunnel) -> None:
        """A tunnel has begun."""


class GuardedExchange(Exchange, Waiter):
    """One request of a guarded route, and its response."""

    __slots__ = (
        "asked", "authorizes", "clean", "coming", "cookies", "counted", "early", "excused",
        "guard", "inquiry", "own", "reached", "told", "visitor",
    )  # fmt: skip

    def __init__(
        self,
        service: Service,
        client: ClientSide,
        head: RequestHead,
        guard: AskedGuard,
        slot: ConnectionSlot,
    ) -> None:
        Exchange.__init__(self, service, client, head)  # `super` is a call more
        self.guard = guard
        self.asked = client.route_target.asked(head, client.context, slot.server_port, slot.port)
        self.clean = False  # there is nothing in its head that would be cut of a question
        # The lines that it goes on with, but for what is told, if the question has the same ones.
        self.own = b""
        self.excused = False  # its address is enough: nothing else is asked
        self.reached = False  # it was sent to an upstream, or was to be
        self.visitor = b""  # who asks, as it counts in rates
        self.coming = False
        # Of the body, until it is known whether it is wanted.
        self.early: list[BodyPiece] | None = None
        self.inquiry: Inquiry | None = None
        self.told = b""  # fields for the upstream
        self.authorizes = False  # one of them is Authorization
        self.cookies = b""  # for the client
        self.counted = False  # among the connections of its client

    def start(self, opening: bytes | None = None, *, coming: bool = False) -> None:
        """Ask whatever there is to ask. A head that is known has another one's fields in it."""
        recorder = self.service.recorder
        if recorder.on:
            self.facts = self.client.facts = recorder.begin(self.head, self.client.context)
        self.state = GUARD
        self.coming = coming
        self.opening = b""
        self.deadline = self.service.deadline(self.guard.patience)
        refused: ProxyError | None = self.guard.at_once(self)
        if refused is not None:
            self.fail(refused)
        elif self.excused:
            self._pass()
        elif self.guard.passwords is None:
            self._ask()
        else:
            self._check_password(self.guard.passwords)

    # ── a password ──────────────────────────────────────────────────────────────────────────────

    def _check_password(self, passwords: Passwords) -> None:
        field = self.head.value(b"authorization")
        found = passwords.check(field, self.visitor, self.guard.now(), self.on_password)
        if isinstance(found, ProxyError):
            self._refuse(count.PASSWORD, found)
        elif found:
            self._ask()

    def on_password(self, right: bool) -> None:
        """It has been computed."""
        if self.state is not GUARD:
            return
        if right:
            self._ask()
            return
        passwords = self.guard.passwords
        assert passwords is not None
        self._refuse(count.PASSWORD, passwords.refusal("a wrong password"))

    # ── a guard ─────────────────────────────────────────────────────────────────────────────────

    def _ask(self) -> None:
        gate = self.guard.gate
        if gate is None:
            self._pass()
            return
        request_id = self.facts.id if self.facts is not None else b""
        head, context = self.head, self.client.context
        self.clean = gate.form.clean(head)
        if self.clean and self.guard.covered and gate.form.shares(head, context):
            self.own = rewrite.lines_of(head, context, True)
        inquiry = gate.ask(self.asked, request_id, self, self.clean, self.own)
        if inquiry is not None:
            self.inquiry = inquiry

    def on_verdict(self, verdict: AuthVerdict) -> None:
        """The guard has answered, or cannot."""
        inquiry, self.inquiry = self.inquiry, None
        if self.state is not GUARD:
            return
        gate, asked = self.guard.gate, self.asked
        assert gate is not None
        self.cookies = verdict.cookies
        ruling = verdict.ruling
        if ruling is PASS:
            self.told = verdict.lines
            self.authorizes = verdict.authorizes
            self._pass()
        elif ruling is Ruling.ANSWER:
            where = url(asked.head, asked.context, asked.server_name)
            form = gate.answers
            place = b"" if form.place is None else location(form.place, asked)
            self._relay(form.for_client(verdict, self.head, where, place), inquiry)
        elif ruling is Ruling.REFUSE:
            self._refuse(count.GUARD, ClientError(f"{gate.rule.name}: {verdict.reason}", 403))
        else:
            self._refuse(count.CLOSED, CapacityError(f"[auth.{gate.rule.name}] {verdict.reason}"))

    def _relay(self, verdict: AuthVerdict, inquiry: Inquiry | None) -> None:
        """The guard's own answer goes to the client."""
        self.guard.counts.results[count.GUARD] += 1
        if inquiry is not None:
            self.endpoint = inquiry.endpoint  # who has answered
            self.reached = True
        self._answer(verdict.status, verdict.lines, verdict.body)

    def _answer(self, status: int, lines: bytes, body: bytes) -> None:
        """An answer that needs no upstream."""
        self._let_go()
        self.state = DONE
        self.deadline = 0.0
        self.client.reply(status, lines + self.cookies, body)
        self._over()

    def _refuse(self, why: int, error: ProxyError) -> None:
        self.guard.counts.results[why] += 1
        self.fail(error)

    # ── what may pass ───────────────────────────────────────────────────────────────────────────

    def _pass(self) -> None:
        """The request goes its way, and what has come of its body with it."""
        self.guard.counts.results[count.PASSED] += 1
        own = self.client.route_target.answer
        if own is not None:
            asked = self.asked.within(self.client.context)
            self._answer(*own.of(asked, self.client.context.edits))
            return
        self.reached = True
        self.state = REWRITE
        self.deadline = 0.0
        early, self.early = self.early, None
        self.set_out(None, coming=self.coming or early is not None)
        if early is None:
            return
        for payload, ended, trailers in early:
            super().on_request_body(payload, ended, trailers)
        if self.state is REWRITE:  # it waits for the rest of the body, and nothing else
            self.client.throttle(NO_UPSTREAM, False)

    def rewritten(self, authority: bytes) -> bytes:
        """The head for the upstream, with what the guard has told."""
        head, context = self.head, self.client.context
        clean = self.clean and self.guard.covered
        told = b"" if self.authorizes else self.told
        if not self.own:
            opening = rewrite.request(head, context, authority, told, clean)
        else:  # nothing of its start line is changed either
            opening = b"".join(
                (head.method, b" ", head.target, b" HTTP/1.1\r\n", self.own, told, rewrite.CRLF)
            )
        if not self.authorizes:
            return opening
        # The client's own has come so far, and goes.
        return replaced(opening, self.told)[:-2] + self.told + rewrite.CRLF

    def on_request_body(self, payload: bytes, ended: bool, trailers: bytes) -> None:
        """Bytes of the body: they wait while it is not known whether they are wanted."""
        if self.state is GUARD:
            self.coming = False
            if self.early is None:
                self.early = []
            self.early.append((payload, ended, trailers))
            self.client.throttle(NO_UPSTREAM, True)
        else:
            super().on_request_body(payload, ended, trailers)

    def passes_chunks(self) -> bool:
        """While nobody knows whether the body is wanted, it is kept in one form."""
        return self.state is not GUARD and super().passes_chunks()

    def on_response(self, head: ResponseHead, framing: int, payload: bytes, ended: bool) -> None:
        """The response, with the guard's cookies."""
        if self.cookies:
            head = head._replace(block=head.block + self.cookies)
        if ended:
            self._let_go()
        super().on_response(head, framing, payload, ended)

    def takes_uncut(self) -> bool:
        """As any exchange, but for the guard's cookies: those are put into a head."""
        return not self.cookies and super().takes_uncut()

    def on_uncut(
        self, head: ResponseHead, framing: int, data: bytes, start: int, ended: bool
    ) -> None:
        """The same, in one piece; there are no cookies."""
        if ended:
            self._let_go()
        super().on_uncut(head, framing, data, start, ended)

    def on_payload(self, payload: bytes, ended: bool, trailers: bytes) -> None:
        """More of its body."""
        if ended:
            self._let_go()
        super().on_payload(payload, ended, trailers)

    def on_chunks(self, head: ResponseHead | None, chunks: bytes, inside: int, ended: bool) -> None:
        """Either of the two, in chunks as they came."""
        if self.cookies and head is not None:
            head = head._replace(block=head.block + self.cookies)
        if ended:
            self._let_go()
        super().on_chunks(head, chunks, inside, ended)

    def on_switch(self, head: ResponseHead, rest: bytes) -> None:
        """A 101, with the guard's cookies."""
        if self.cookies:
            head = head._replace(block=head.block + self.cookies)
        super().on_switch(head, rest)

    def tunnelled(self, tunnel: Tunnel) -> None:
        """The tunnel counts among its client's connections, and is asked about again."""
        self.guard.watch(self, tunnel)

    # ── the ends ────────────────────────────────────────────────────────────────────────────────

    def cancel(self) -> None:
        """The client has gone: nobody is asked any more."""
        self._let_go()
        super().cancel()

    def fail(self, error: ProxyError) -> None:
        """A page of ours, with the guard's cookies."""
        if self.state is DONE:
            return
        self._let_go()
        if self.cookies and not self.started:
            error.lines = error.lines + self.cookies
        super().fail(error)

    def _note(self) -> None:
        """What only the exchange knows; of one that was refused there is no upstream."""
        if self.reached:
            super()._note()

    def _let_go(self) -> None:
        """It waits for nobody, and holds no place."""
        inquiry, self.inquiry = self.inquiry, None
        if inquiry is not None:
            inquiry.leave(self)
        if self.state is GUARD and self.guard.passwords is not None:
            self.guard.passwords.leave(self.on_password)
        if self.counted:
            self.counted = False
            self.guard.leave(self.visitor)

    def sweep(self, now: float) -> None:
        """Called about once a second."""
        if self.state is not GUARD:
            super().sweep(now)
            return
        if self.inquiry is not None:
            self.inquiry.sweep(now)
        if self.state is GUARD and now >= self.deadline:
            why = f"no answer for {self.guard.patience:g} s"
            gate = self.guard.gate
            name = "basic-auth" if gate is None else f"[auth.{gate.rule.name}]"
            self._refuse(count.CLOSED, CapacityError(f"{name} {why}"))


def replaced(opening: bytes, told: bytes) -> bytes:
    """The head without what stands in `told`, in every spelling."""
    names = {_plain_name(line) for line in told.split(rewrite.CRLF)[:-1]}
    start, _, block = opening.partition(rewrite.CRLF)
    kept = [line for line in block.split(rewrite.CRLF) if _plain_name(line) not in names]
    return start + rewrite.CRLF + rewrite.CRLF.join(kept)


def _plain_name(line: bytes) -> bytes:
    return plain(line.partition(b":")[0].lower())
