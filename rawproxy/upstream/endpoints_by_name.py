"""One server under each name that clients ask for: `--upstream-name '$host'`.

A connection is made for one name: its SNI, certificate and TLS session belong to that name. So it
may not carry requests for another one (RFC 9110 4.3.3). Each name has an `Endpoint` of its own,
with a pool of its own. What is known of the address (where it is, its health, its counters) is
shared.

This module never chooses an address and never dials. Invariants: at most `NAMES` names are kept.
The endpoint of a name that has to go closes its idle connections, and is forgotten when its last
request has ended. If no certificate can be for a Host, the upstream's own name is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from rawproxy.balancing.pool import Pool
from rawproxy.errors import ConfigError
from rawproxy.protocol.http.target import split_host
from rawproxy.upstream.connection import UpstreamConnection
from rawproxy.upstream.endpoint import Endpoint
from rawproxy.upstream.ticket import Ticket

NAMES: Final = 64  # of one address: each may keep idle connections, and clients invent names
LONGEST: Final = 253  # characters of a host name in text (RFC 1035 2.3.4)
_NAME: Final = re.compile(rb"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*").fullmatch


class EndpointsByName:
    """The endpoints of one address, by name. `first` is its own; `make` gives another one."""

    def __init__(self, first: Endpoint, make: Callable[[str], Endpoint]) -> None:
        self.first = first
        self.make = make
        self.known: dict[str, Endpoint] = {}  # in the order of their last use
        self.leaving: list[Endpoint] = []

    def of(self, host: bytes) -> Endpoint:
        """The endpoint for requests with this Host."""
        text = split_host(host)[0].lower().removesuffix(b".")
        name = text.decode() if len(text) <= LONGEST and _NAME(text) else self.first.server_name
        found = self.known.pop(name, None)
        if found is None:
            try:
                found = self.make(name)
            except ConfigError:  # TLS allows no such name
                return self.of(self.first.server_name.encode())
            if len(self.known) >= NAMES:
                self._leave(next(iter(self.known)))
        self.known[name] = found
        self._follow(found)
        return found

    def everybody(self) -> list[Endpoint]:
        """All endpoints, also those that are leaving."""
        return [*self.known.values(), *self.leaving]

    def pools(self) -> list[Pool[UpstreamConnection, Ticket]]:
        """The pools of all endpoints, for the counts of the address."""
        return [one.pool for one in self.everybody()]

    def tick(self) -> None:
        """Called about once a second: forget who has left."""
        if self.leaving:
            self.leaving = [one for one in self.leaving if one.pool.in_use()]

    def _leave(self, name: str) -> None:
        gone = self.known.pop(name)
        gone.draining = True
        gone.close_idle()
        self.leaving.append(gone)

    def _follow(self, one: Endpoint) -> None:
        """What holds for the address holds for each of its names."""
        first = self.first
        one.addresses, one.name, one.label = first.addresses, first.name, first.label
        one.draining, one.on_response_head = first.draining, first.on_response_head
        one.weight, one.share, one.backup = first.weight, first.share, first.backup
        one.health, one.tag = first.health, first.tag
