"""Asking a guard: one question under way, and whoever waits for its answer.

    AuthGate    one `[auth.NAME]` in one worker: how it is asked, what is remembered
    └── Inquiry     one question: an exchange of its own, over the pool of the guard's group

The exchange does what it does for clients: it takes a connection of the pool, dials, waits in the
group's bounded queue, and tries again where a kept connection had died. So nothing is built twice,
and a guard that is slow, ill or full stops those alone who need it. Where answers are remembered,
equal questions that are under way at the same time are one.

It never judges: `verdicts` does. Invariants: every waiter is told exactly once, or has left; a
question that nobody waits for is given up.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from dataclasses import replace
from time import monotonic
from typing import Final

from rawproxy.access.answer_cache import AnswerCache, key_of
from rawproxy.access.counts import AccessCounts
from rawproxy.access.questions import QuestionForm
from rawproxy.access.rules import AuthRule
from rawproxy.access.verdicts import BODY, AnswerForm, AuthVerdict, closed
from rawproxy.config.model import Config, Route, Site
from rawproxy.errors import ProxyError
from rawproxy.protocol.http.head import RequestHead, ResponseHead
from rawproxy.protocol.http.rewrite import ClientContext
from rawproxy.protocol.http.variable_values import Asked
from rawproxy.proxy.checkout import DONE
from rawproxy.proxy.client_side import ClientSide
from rawproxy.proxy.compiler import trait
from rawproxy.proxy.exchange import Exchange
from rawproxy.proxy.service import Service
from rawproxy.routing.route_targets import RouteTarget
from rawproxy.telemetry.facts import Facts
from rawproxy.upstream.connection import UpstreamConnection

NOBODY: Final = "it was given up"


@trait  # it is what some exchanges are, and some tunnels: each of these is something else already
class Waiter(metaclass=ABCMeta):
    """Whoever waits for a verdict. A class for the same reason as `ResponseHandler`."""

    __slots__ = ()

    @abstractmethod
    def on_verdict(self, verdict: AuthVerdict) -> None:
        """The guard has answered, or cannot."""


class AuthGate:
    """One guard, as one worker asks it."""

    __slots__ = (
        "answers", "cache", "client", "counts", "form", "rule", "service", "target", "under_way",
    )  # fmt: skip

    def __init__(
        self, service: Service, rule: AuthRule, identity: tuple[str, ...], config: Config
    ) -> None:
        self.service = service
        self.rule = rule
        self.counts = AccessCounts()  # replaced by the worker's
        self.form = QuestionForm(rule, identity)
        self.answers = AnswerForm(rule)
        self.cache = AnswerCache(rule.cache) if rule.cache else None
        self.under_way: dict[bytes, Inquiry] = {}  # where answers are remembered
        self.target = _target(config, rule)
        # Who has asked last: most requests come from a client that has just sent another one.
        self.client: Questioner | None = None

    def ask(
        self,
        asked: Asked,
        request_id: bytes,
        waiter: Waiter,
        clean: bool = False,
        own: bytes = b"",
    ) -> Inquiry | None:
        """Ask about a request; `waiter` is told, perhaps before this returns: then it is None.

        `clean` and `own` are what the form wants to know, if it was asked.
        """
        form, question = self.form, asked.head
        if not own or not form.fits(question):
            question = form.head(question, asked)
        opening = form.opening(question, asked, clean, own)
        key = b""
        cache = self.cache
        if cache is not None:
            key = key_of(opening)
            known = cache.find(key, self.service.clock.now)
            if known is not None:
                self.counts.remembered += 1
                waiter.on_verdict(known)
                return None
            other = self.under_way.get(key)
            if other is not None:
                self.counts.remembered += 1
                other.join(waiter)
                return other
        client = self.client
        if client is None or client.context is not asked.context:
            client = self.client = Questioner(asked.context, self.target)
        inquiry = Inquiry(self, client, question, waiter)
        inquiry.key = key
        if key:
            self.under_way[key] = inquiry
        self.counts.asked += 1
        inquiry.begin(opening, request_id)
        return None if inquiry.state is DONE else inquiry


class Inquiry(Exchange):
    """One question under way: an exchange of which nobody but the waiters hears."""

    __slots__ = (
        "answer", "began", "error", "gate", "key", "others", "pieces", "size", "waiter",
    )  # fmt: skip

    def __init__(
        self, gate: AuthGate, client: Questioner, question: RequestHead, waiter: Waiter
    ) -> None:
        Exchange.__init__(self, gate.service, client, question)  # `super` is a call more
        self.gate = gate
        self.key = b""
        self.waiter: Waiter | None = waiter
        self.others: list[Waiter] | None = None  # who wait for the same answer
        self.answer: ResponseHead | None = None
        self.pieces: list[bytes] | None = None  # of its body, which most have none of
        self.size = 0
        self.error = ""
        self.began = 0.0

    def begin(self, opening: bytes, request_id: bytes) -> None:
        """Send it. It has the id of the request that it is about."""
        recorder = self.service.recorder
        if recorder.marks:
            self.facts = Facts(request_id, 0.0, recorder.tally)
        if recorder.metered:
            self.began = monotonic()
        self.set_out(opening, coming=False)

    def join(self, waiter: Waiter) -> None:
        """Somebody else waits for the same answer."""
        if self.others is None:
            self.others = []
        self.others.append(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Somebody does not wait any more."""
        if self.waiter is waiter:
            self.waiter = None
        elif self.others is not None and waiter in self.others:
            self.others.remove(waiter)
        if self.waiter is None and not self.others and self.state is not DONE:
            self.error = NOBODY
            self.cancel()

    # ── the answer ──────────────────────────────────────────────────────────────────────────────

    def on_response(self, head: ResponseHead, framing: int, payload: bytes, ended: bool) -> None:
        """The answer's head, and what there is of its body."""
        self.answer = self._begun(head, framing, ended)
        if payload:
            self._keep(payload)
        if ended:
            self._over()

    def on_payload(self, payload: bytes, ended: bool, trailers: bytes) -> None:
        """More of its body; trailers are nobody's business."""
        if ended:
            self._release()
            self.state = DONE
        else:
            self.deadline = self.service.deadline(self.deadlines.response_body)
        if payload:
            self._keep(payload)
        if ended:
            self._over()

    def _keep(self, payload: bytes) -> None:
        self.size += len(payload)
        if self.size <= BODY:
            if self.pieces is None:
                self.pieces = []
            self.pieces.append(payload)
        elif not self.error:
            self.error = f"its answer is larger than {BODY // 1024} KiB"
            self.pieces = None
            self.cancel()

    def takes_uncut(self) -> bool:
        """No: a body is kept."""
        return False

    def takes_chunks(self) -> bool:
        """No: a body is kept without its framing."""
        return False

    def takes_views(self) -> bool:
        """No: a body is kept."""
        return False

    def _tell(self, error: ProxyError) -> bool:
        """There is no answer, or it broke off: that is what its waiters hear."""
        if not self.started:
            self.error = error.detail
        else:
            self.service.failed("-", 0, self.name(), error.detail)
            self.error = self.error or "its answer broke off"
        return False

    def _over(self) -> None:
        """The answer is whole, or there will be none."""
        gate, answer = self.gate, self.answer
        if self.key:
            del gate.under_way[self.key]
        if answer is not None and self.began:
            # The guard is an upstream as any other, as far as metrics are concerned.
            tally = self.endpoint.tally
            tally.classes[answer.status // 100] += 1
            tally.time(monotonic() - self.began, 0.0)
        if self.error or answer is None:
            verdict = closed(self.error or "it did not answer")
        else:
            pieces = self.pieces
            verdict = gate.answers.verdict_of(answer, b"".join(pieces) if pieces else b"")
            if gate.cache is not None:
                gate.cache.keep(self.key, verdict, gate.service.clock.now)
        waiter, self.waiter = self.waiter, None
        others, self.others = self.others, None
        if waiter is not None:
            waiter.on_verdict(verdict)
        if others is not None:
            for other in others:
                other.on_verdict(verdict)


class Questioner(ClientSide):
    """Who asks, as an exchange knows its client: an `Inquiry` is told everything itself.

    It says by which route questions go, and about which client they are.
    """

    __slots__ = ()

    def __init__(self, context: ClientContext, target: RouteTarget) -> None:
        self.context = context
        self.route_target = target
        self.bound = None
        self.facts = None

    def send_interim(self, head: ResponseHead) -> None:
        """There is more to come."""

    def send_response(self, head: ResponseHead, framing: int, payload: bytes, ended: bool) -> None:
        """The inquiry keeps it."""

    def send_payload(self, payload: bytes) -> None:
        """The inquiry keeps it."""

    def send_end(self, trailers: bytes) -> None:
        """The inquiry knows."""

    def send_error(self, error: ProxyError) -> None:
        """The inquiry knows."""

    def reply(self, status: int, extra: bytes, page: bytes) -> None:
        """An answer of our own to a question of our own: none is ever due."""

    def switch(self, head: ResponseHead, connection: UpstreamConnection, rest: bytes) -> None:
        """Nobody asked for a tunnel; the exchange has seen to it."""
        connection.drop()

    def abort(self) -> None:
        """The inquiry knows."""

    def throttle(self, reason: int, full: bool) -> None:
        """There is no body to be held back."""

    def client_has(self) -> int:
        """Nobody is slow here: the exchange never asks."""
        return 0

    def client_took(self) -> int:
        """The same."""
        return 0

    def exchange_done(self) -> None:
        """The inquiry tells its waiters."""


def _target(config: Config, rule: AuthRule) -> RouteTarget:
    """The route of the questions: to the guard's group, with its own patience."""
    deadlines = config.deadlines
    seconds = rule.timeout
    own = replace(
        deadlines, queue=min(deadlines.queue, seconds), response_head=seconds,
        response_body=seconds, wait=0.0,
    )  # fmt: skip
    return RouteTarget(config, Site(hsts=None), Route(group=rule.group, deadlines=own))
