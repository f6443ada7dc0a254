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

from collections.abc import Callable
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
from rawproxy.protocol.http.variable_values import Asked
from rawproxy.proxy.client_side import ClientSide
from rawproxy.proxy.exchange import Exchange
from rawproxy.proxy.service import Service
from rawproxy.routing.route_targets import RouteTarget
from rawproxy.telemetry.facts import Facts
from rawproxy.upstream.connection import UpstreamConnection
from rawproxy.upstream.endpoint import Endpoint

OnVerdict = Callable[[AuthVerdict], None]
NOBODY: Final = "it was given up"


class AuthGate:
    """One guard, as one worker asks it."""

    __slots__ = ("answers", "cache", "counts", "form", "rule", "service", "target", "under_way")

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

    def ask(
        self,
        asked: Asked,
        request_id: bytes,
        waiter: OnVerdict,
        clean: bool = False,
        own: bytes = b"",
    ) -> Inquiry | None:
        """Ask about a request; `waiter` is told, perhaps before this returns: then it is None.

        `clean` and `own` are what the form wants to know, if it was asked.
        """
        question = self.form.head(asked.head, asked)
        opening = self.form.opening(question, asked, clean, own)
        key = b""
        cache = self.cache
        if cache is not None:
            key = key_of(opening)
            known = cache.find(key, self.service.clock.now)
            if known is not None:
                self.counts.remembered += 1
                waiter(known)
                return None
            other = self.under_way.get(key)
            if other is not None:
                self.counts.remembered += 1
                other.waiters.append(waiter)
                return other
        inquiry = Inquiry(self, asked, question, waiter)
        inquiry.key = key
        if key:
            self.under_way[key] = inquiry
        self.counts.asked += 1
        inquiry.begin(opening, request_id)
        return None if inquiry.exchange is None else inquiry


class Inquiry(ClientSide):
    """One question under way. To its exchange it is a client that takes whatever comes."""

    __slots__ = (
        "began", "endpoint", "error", "exchange", "gate", "head", "key", "pieces", "size",
        "waiters",
    )  # fmt: skip

    endpoint: Endpoint  # who has answered

    def __init__(
        self, gate: AuthGate, asked: Asked, question: RequestHead, waiter: OnVerdict
    ) -> None:
        self.gate = gate
        self.context = asked.context
        self.route_target = gate.target
        self.bound = None
        self.facts = None
        self.key = b""
        self.waiters: list[OnVerdict] = [waiter]
        self.head: ResponseHead | None = None  # of the answer
        self.pieces: list[bytes] = []
        self.size = 0
        self.error = ""
        self.began = 0.0
        self.exchange: Exchange | None = Exchange(gate.service, self, question)

    def begin(self, opening: bytes, request_id: bytes) -> None:
        """Send it. It has the id of the request that it is about."""
        exchange, recorder = self.exchange, self.gate.service.recorder
        assert exchange is not None
        if recorder.marks:
            exchange.facts = Facts(request_id, 0.0, recorder.tally)
        if recorder.metered:
            self.began = monotonic()
        exchange.set_out(opening, coming=False)

    def leave(self, waiter: OnVerdict) -> None:
        """Somebody does not wait any more."""
        if waiter in self.waiters:
            self.waiters.remove(waiter)
        if not self.waiters and self.exchange is not None:
            self.error = NOBODY
            self.exchange.cancel()

    def sweep(self, now: float) -> None:
        """Called about once a second: end a wait that is over."""
        if self.exchange is not None:
            self.exchange.sweep(now)

    # ── what the exchange calls ─────────────────────────────────────────────────────────────────

    def send_interim(self, head: ResponseHead) -> None:
        """There is more to come."""

    def send_response(self, head: ResponseHead, framing: int, payload: bytes, ended: bool) -> None:
        """The answer's head, and what there is of its body."""
        self.head = head
        self._keep(payload, ended)

    def send_payload(self, payload: bytes) -> None:
        """More of its body."""
        self._keep(payload, False)

    def _keep(self, payload: bytes, ended: bool) -> None:
        if self.error or not payload:
            return
        self.size += len(payload)
        if self.size <= BODY:
            self.pieces.append(payload)
            return
        self.error = f"its answer is larger than {BODY // 1024} KiB"
        self.pieces.clear()
        if not ended and self.exchange is not None:
            self.exchange.cancel()

    def send_end(self, trailers: bytes) -> None:
        """Its body ends here; trailers are nobody's business."""

    def send_error(self, error: ProxyError) -> None:
        """There is no answer."""
        self.error = error.detail

    def reply(self, status: int, extra: bytes, page: bytes) -> None:
        """An answer of our own to a question of our own: none is ever due."""
        self.error = "it was not asked"

    def switch(self, head: ResponseHead, connection: UpstreamConnection, rest: bytes) -> None:
        """Nobody asked for a tunnel; the exchange has seen to it."""
        self.error = "it answered 101"
        connection.drop()

    def abort(self) -> None:
        """Its answer broke off."""
        self.error = self.error or "its answer broke off"

    def throttle(self, reason: int, full: bool) -> None:
        """There is no body to be held back."""

    def client_has(self) -> int:
        """All of it is taken at once."""
        return self.size

    def client_took(self) -> int:
        """The same; nobody is slow here."""
        return self.size

    def exchange_done(self) -> None:
        """The answer is whole, or there will be none."""
        exchange, self.exchange = self.exchange, None  # or only the collector could free them
        if exchange is None:
            return
        self.endpoint = exchange.endpoint
        gate = self.gate
        if self.key:
            del gate.under_way[self.key]
        head = self.head
        if head is not None:
            self._count(head.status)
        if self.error or head is None:
            verdict = closed(self.error or "it did not answer")
        else:
            verdict = gate.answers.verdict_of(head, b"".join(self.pieces))
            if gate.cache is not None:
                gate.cache.keep(self.key, verdict, gate.service.clock.now)
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter(verdict)

    def _count(self, status: int) -> None:
        """The guard is an upstream as any other, as far as metrics are concerned."""
        if self.gate.service.recorder.metered:
            tally = self.endpoint.tally
            tally.classes[status // 100] += 1
            tally.time(monotonic() - self.began, 0.0)


def _target(config: Config, rule: AuthRule) -> RouteTarget:
    """The route of the questions: to the guard's group, with its own patience."""
    deadlines = config.deadlines
    seconds = rule.timeout
    own = replace(
        deadlines, queue=min(deadlines.queue, seconds), response_head=seconds,
        response_body=seconds, wait=0.0,
    )  # fmt: skip
    return RouteTarget(config, Site(hsts=None), Route(group=rule.group, deadlines=own))
