"""What a request means to its client's connection, whichever version of HTTP that speaks.

    route     which site and which route, and what of the client's context follows from that
    pace      a body that has to keep `Limits.rate`, an answer that has to be taken
    answers   of our own: an error's page, or what a route says by itself
    ends      a client that did not wait (499), a response that becomes a tunnel

`H1Connection` is one request after another, and `Stream` is one request; each has its own framing.
This is not in `proxy.client_side`, which is all that an exchange knows of a client: an exchange has
nothing to do with sites, pages and pace.

This module never writes to a socket. Invariants: no exchange begins for a request that has been
answered. A request for which nobody waits any more is recorded as 499, unless its answer had begun.
"""

from __future__ import annotations

from typing import Final

from rawproxy.errors import ClientError, ProxyError
from rawproxy.protocol.http import error_pages, rewrite
from rawproxy.protocol.http.head import RequestHead, ResponseHead
from rawproxy.protocol.http.path_change import leading_to
from rawproxy.protocol.http.variable_values import Asked
from rawproxy.proxy.admission import ConnectionSlot, Seat
from rawproxy.proxy.client_side import ClientSide
from rawproxy.proxy.error_places import bodiless
from rawproxy.proxy.exchange import Exchange
from rawproxy.proxy.guard import exchange_for
from rawproxy.proxy.page_exchange import PageExchange
from rawproxy.proxy.service import Service
from rawproxy.proxy.tunnel import Spliceable, Tunnel
from rawproxy.routing.error_places import Place, by_get
from rawproxy.routing.route_targets import RouteTarget
from rawproxy.upstream.connection import UpstreamConnection

HERE: Final = 0
MOVED: Final = 1  # its route has made another path, which was looked up
LED: Final = 2  # an error has led it to a page, from where no other one leads on
GONE: Final = 499  # nginx's word for a client that did not wait


class RequestSide(ClientSide):
    """Base of both: the request under way, its exchange, and how much has passed."""

    __slots__ = (
        "deadline", "exchange", "head", "moved", "paced", "page", "received", "sent", "service",
        "slot", "status", "taken",
    )  # fmt: skip

    def __init__(self, service: Service, slot: ConnectionSlot) -> None:
        self.service = service
        self.slot = slot
        self.route_target = service.route_target
        self.bound = None
        self.facts = None
        self.head: RequestHead | None = None
        self.exchange: Exchange | None = None
        self.moved = HERE  # whether the request under way was led to another route
        self.page: tuple[Place, bytes] | None = None  # an error page that is to be asked for
        self.status = 0
        self.sent = 0  # bytes of the response's body
        self.taken = 0  # of them, those that the client had at the last look
        self.received = 0  # bytes of the request's body
        self.paced = 0  # of them, those that were here when the deadline was set
        self.deadline = 0.0

    # ── the route ───────────────────────────────────────────────────────────────────────────────

    def find(self, head: RequestHead) -> bool:
        """Choose the route. False if it was answered: there is no route, or it answers itself."""
        sites = self.slot.sites
        if sites is None:  # one for all
            return True
        if self.moved:  # by the request before
            self.moved = HERE
            self.route_target = self.service.route_target
            self.context = self.service.follow(self.context, self.route_target)
        try:
            route_target = self.service.find(sites, self.slot, head, self.context)
        except ClientError as error:
            self.context = self.context._replace(id=b"")  # it was the request before
            self.send_error(error)
            return False
        if route_target is not self.route_target:
            self.route_target = route_target
            self.context = self.service.follow(self.context, route_target)
        if route_target.plan is not None or route_target.answer is not None:
            return self._amend(route_target, head)
        return True

    def fresh_context(self, secure: bool) -> rewrite.ClientContext:
        """What is known of the client by the configuration that counts now, and by the route."""
        context = self.service.context(self.slot, secure)
        return self.service.follow(context, self.route_target)

    def same_client(self, secure: bool) -> bool:
        """Whether that is what is known of it already, but for what belongs to one request."""
        context, now = self.context, self.fresh_context(secure)
        return context == now._replace(
            hsts=context.hsts, edits=context.edits, id=context.id, moved=context.moved
        )

    def _amend(self, route_target: RouteTarget, head: RequestHead) -> bool:
        """Apply the route's values to this request. False if the route has answered."""
        asked = self.service.asked(head, self.context, self.slot, route_target)
        if route_target.again is not None:
            return self._move(route_target, asked)
        edits = route_target.edits
        if route_target.plan is not None and edits is not None:
            edits = route_target.plan.of(edits, asked)
        if self.moved:
            edits = leading_to(edits, asked.context.moved)
        self.context = asked.context._replace(edits=edits)
        if route_target.answer is None or route_target.guard is not None:
            return True
        if route_target.pages is not None and not route_target.answer.says_something():
            place = self.error_place(route_target.answer.status, not head.framing)
            if place is not None:
                return self._leave_for(place, ProxyError("", route_target.answer.status))
        self.reply(*route_target.answer.of(asked, edits))
        return False

    def _move(self, route_target: RouteTarget, asked: Asked) -> bool:
        """The route looks up another path. False if that was answered."""
        try:
            route_target, where = route_target.inner.find(route_target, asked)
        except ProxyError as error:
            self.send_error(error)
            return False
        self.moved = MOVED
        self.route_target = route_target
        context = self.service.follow(asked.context, route_target)
        self.context = context._replace(moved=where)
        return self._amend(route_target, asked.head)

    # ── errors that lead elsewhere ──────────────────────────────────────────────────────────────

    def error_place(self, status: int, whole: bool) -> Place | None:
        """Where an error leads, if not to a page of ours. `whole`: the request's body has ended."""
        route_target, head = self.route_target, self.head
        pages = route_target.pages
        if pages is None or head is None or self.moved == LED or not pages.has(status):
            return None
        asked = self.service.asked(head, self.context, self.slot, route_target)
        return pages.place(status, route_target.inner, asked, whole, bool(head.framing))

    def show_place(self, place: Place, error: ProxyError) -> bool:
        """Lead the request there. True if another exchange goes on with it."""
        if not self._leave_for(place, error):
            return False
        assert self.head is not None
        self.begin(self.head).start()
        return True

    def _leave_for(self, place: Place, error: ProxyError) -> bool:
        """Answer with what stands there. True: an upstream is to be asked."""
        head, target = self.head, place.target
        assert head is not None
        self.moved = LED
        if error.detail:
            name = self.facts.id.decode() if self.facts is not None else "-"
            self.service.failed(
                name, error.status, f"[group.{self.route_target.group}]", error.detail
            )
        if target is None:
            edits = self.context.edits
            lines, page = error_pages.redirect(place.where)
            lines += place.lines
            if edits is not None:
                lines = rewrite.without(lines, edits.response_cut) + edits.response_lines
            self.reply(place.status, lines + error.lines, page)
            return False
        self.route_target = target
        context = self.service.follow(self.context._replace(moved=b""), target)
        asked = self.service.asked(head, context._replace(moved=place.moved), self.slot, target)
        asked = asked if place.keeps else by_get(asked)
        edits = target.edits
        if target.plan is not None and edits is not None:
            edits = target.plan.of(edits, asked)
        if target.answer is not None:
            self.context = asked.context._replace(edits=edits)
            status, lines, page = target.answer.of(asked, edits, place.status)
            self.reply(status, lines + error.lines, page)
            return False
        if place.moved:
            edits = leading_to(edits, place.moved)
        self.context = asked.context._replace(edits=edits)
        self.page = place, error.lines
        return True

    def begin(self, head: RequestHead) -> Exchange:
        """Make the exchange of a request that may have one. It is not started yet."""
        if self.page is not None:
            return self._begin_page(self.page, head)
        if self.route_target.guard is None:
            exchange = Exchange(self.service, self, head)
        else:
            exchange = exchange_for(self.service, self, head, self.slot)
        self.exchange = exchange
        return exchange

    def _begin_page(self, page: tuple[Place, bytes], head: RequestHead) -> Exchange:
        """The exchange for a page that stands in the place of an error."""
        self.page = None
        place, lines = page
        method = head.method if place.keeps or head.method == b"HEAD" else b"GET"
        if head.framing or head.upgrade or head.expect or method != head.method:
            again = self.service.parse(bodiless(head, method), 0)
            assert again is not None
            head = again._replace(target=head.target, minor=head.minor, size=head.size)
        exchange = PageExchange(self.service, self, head, place.status, lines)
        self.exchange = exchange
        return exchange

    # ── the pace ────────────────────────────────────────────────────────────────────────────────

    def expect_body(self) -> None:
        """From now on the client has to keep the pace of the route, `Limits.rate`."""
        self.paced = self.received
        self.deadline = self.service.deadline(self.route_target.deadlines.request_body)

    def still_sends(self, waived: bool) -> bool:
        """The time for a body is over. A client that kept the pace, or was `waived`, gets more."""
        route_target = self.route_target
        least = self.service.pace(route_target, route_target.deadlines.request_body)
        if not waived and self.received - self.paced < least:
            return False
        self.expect_body()
        return True

    def still_takes(self, wait: float) -> bool:
        """The time for an answer is over. A client that took enough gets `wait` seconds more."""
        if self.client_took() < self.service.pace(self.route_target, wait):
            return False
        self.deadline = self.service.deadline(wait)
        return True

    def client_took(self) -> int:
        """Bytes of the response that the client took since it was last asked."""
        before, self.taken = self.taken, self.client_has()
        return self.taken - before

    # ── answers of our own ──────────────────────────────────────────────────────────────────────

    def send_error(self, error: ProxyError) -> None:
        """A response of our own. The log line with the cause has the same request id."""
        head = self.head
        if head is not None and self.facts is None:
            self.facts = self.service.recorder.bare(head, self.context)
        extra, page = self.service.error_page(error, head, self.context, self.facts)
        if self.exchange is not None and self.context.edits is not None:
            extra += self.context.edits.response_lines  # the route is known, and adds these to all
        self.reply(error.status, extra, page)

    def own_lines(self, status: int, extra: bytes, page: bytes) -> bytes:
        """The header lines of `reply`."""
        length = error_pages.length_line(status, page)
        return b"".join((self.service.date_line, length, extra, self.context.hsts or b""))

    def interim_lines(self, head: ResponseHead) -> bytes:
        """The header lines of a 1xx: whatever holds for the whole host comes with the answer."""
        return rewrite.response(head, self.context._replace(hsts=None))

    def record(self, head: RequestHead) -> None:
        """The exchange of `head` has ended, or it needed none."""
        facts, self.facts = self.facts, None
        self.service.recorder.record(head, self.context, self.status, self.sent, facts)

    # ── the ends ────────────────────────────────────────────────────────────────────────────────

    def client_gone(self) -> None:
        """Nobody waits for the answer any more."""
        if self.exchange is not None:
            self.status = self.status or GONE
            self.exchange.cancel()

    def tunnel_to(
        self,
        client: Spliceable,
        connection: UpstreamConnection,
        rest: bytes,
        seat: Seat | None = None,
    ) -> None:
        """The 101 is out: from now on only bytes pass.

        `client` is its transport and what it has sent already, `rest` is what came behind the 101,
        and `seat` ends with the tunnel.
        """
        exchange, self.exchange = self.exchange, None
        assert self.head is not None and exchange is not None
        facts = exchange.facts
        tunnel = Tunnel(
            self.service, self.head, self.context, exchange.endpoint, facts, seat, self.status
        )
        tunnel.deadlines = exchange.deadlines
        tunnel.splice(client, (connection.transport, connection.valve, rest))
        exchange.tunnelled(tunnel)
