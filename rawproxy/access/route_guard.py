"""The guard of one route: what is told at once, and what a tunnel is asked about later.

It makes a `GuardedExchange` for each request. It never waits. Invariants: what is refused by a list
or a rate costs neither a hash nor a question; a place among its client's connections that was taken
is given back exactly once.
"""

from __future__ import annotations

from time import monotonic
from typing import Final

from rawproxy.access import counts as count
from rawproxy.access.address_lists import AddressList
from rawproxy.access.counts import AccessCounts
from rawproxy.access.guarded_exchange import AskedGuard, GuardedExchange
from rawproxy.access.rates import Rate, RateTable, rate, retry_after
from rawproxy.access.rules import TIMEOUT, AccessRules
from rawproxy.access.tunnel_rules import GuardedTunnel
from rawproxy.errors import ClientError, ProxyError
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http.forwarding import one_client
from rawproxy.protocol.http.head import RequestHead
from rawproxy.protocol.http.variable_values import Value
from rawproxy.proxy.admission import ConnectionSlot
from rawproxy.proxy.client_side import ClientSide
from rawproxy.proxy.exchange import Exchange
from rawproxy.proxy.service import Service
from rawproxy.proxy.tunnel import Tunnel
from rawproxy.routing.match import has_dots

_CLIENT: Final = "client"
_SITE: Final = "site"


class RouteGuard(AskedGuard):
    """Who may pass one route of one worker."""

    __slots__ = (
        "_addresses", "_any", "_by_client", "_key", "_most", "_rate", "_rates", "_zone",
    )  # fmt: skip

    def __init__(self, rules: AccessRules, rates: RateTable, counts: AccessCounts) -> None:
        self.counts = counts
        self.passwords = None
        self.gate = None
        self.covered = False
        self.patience = rules.auth.timeout if rules.auth is not None else TIMEOUT
        self._addresses: AddressList | None = None
        if rules.addresses:
            self._addresses = AddressList(rules.addresses, rules.address_rest)
        # Only where there is something else to ask: else the lists alone decide.
        self._any = rules.any and (rules.password is not None or rules.auth is not None)
        self._rates = rates
        self._rate: Rate | None = None
        self._zone = b""
        self._key: Value | None = None  # None: the client's address
        told = rules.rate
        if told is not None:
            self._rate = rate(told.requests, told.per, told.burst)
            self._zone = told.zone.encode()
            if told.key != _CLIENT:
                self._key = Value("" if told.key == _SITE else told.key)
        self._most = rules.connections
        self._by_client: dict[bytes, int] = {}

    def exchange(
        self, service: Service, client: ClientSide, head: RequestHead, slot: ConnectionSlot
    ) -> Exchange:
        """An exchange that goes on only once its request may pass."""
        return GuardedExchange(service, client, head, self, slot)

    def now(self) -> float:
        """The time by which rates go: the same in all workers."""
        return monotonic()

    def at_once(self, exchange: GuardedExchange) -> ProxyError | None:
        """The path, lists, rate and connections: why the request ends here, or None."""
        if has_dots(exchange.head.target):
            # A guard that skips /public would let /public/../admin pass (RFC 3986 5.2.4).
            self.counts.results[count.PATH] += 1
            return ClientError("a dot segment in the path; leave it out (RFC 3986 5.2.4)")
        by_client = self._addresses is not None or self._rate is not None or self._most
        if not by_client and self.passwords is None:
            return None  # nothing here depends on who it is
        client = rewrite.client_of(exchange.head, exchange.client.context)
        if self._addresses is not None:
            inside = self._addresses.allows(client)
            exchange.excused = inside and self._any
            if not inside and not self._any:
                self.counts.results[count.ADDRESS] += 1
                return ClientError("this address may not pass here", 403)
        visitor = exchange.visitor = one_client(client)
        if self._rate is not None:
            wait = self._rates.take(self._name(exchange), self._rate, monotonic())
            if wait:
                self.counts.results[count.RATE] += 1
                error = ClientError("more requests than request-rate allows", 429)
                error.lines = retry_after(wait)
                return error
        if self._most:
            here = self._by_client.get(visitor, 0)
            if here >= self._most:
                self.counts.results[count.CONNECTIONS] += 1
                error = ClientError(f"more than {self._most} requests at once", 429)
                error.lines = retry_after(1.0)
                return error
            self._by_client[visitor] = here + 1
            exchange.counted = True
        return None

    def _name(self, exchange: GuardedExchange) -> int:
        """Whose requests are counted together. Who lacks the field counts as an address."""
        key = self._key
        if key is not None:
            value = key.fixed if key.fixed is not None else key.of(exchange.asked)
            if value or key.fixed is not None:
                return self._rates.name(self._zone, b"=" + value)
        return self._rates.name(self._zone, exchange.visitor)

    def leave(self, visitor: bytes) -> None:
        """One place of a client is free again."""
        left = self._by_client[visitor] - 1
        if left:
            self._by_client[visitor] = left
        else:
            del self._by_client[visitor]

    def watch(self, exchange: GuardedExchange, tunnel: Tunnel) -> None:
        """A tunnel has begun: it keeps the place of its request, and is asked about again."""
        counted, exchange.counted = exchange.counted, False
        asks = self.gate is not None and self.gate.rule.recheck and not exchange.excused
        if counted or asks:
            gate = self.gate if asks else None
            leave = self.leave if counted else None
            visitor = exchange.visitor
            if not visitor:  # nothing but the guard is asked here, and a log names it
                visitor = one_client(rewrite.client_of(exchange.head, exchange.client.context))
            tunnel.watch = GuardedTunnel(tunnel, exchange.asked, gate, leave, visitor)
