"""One server under each name that visitors ask it for: `--upstream-name '$host'`.

A connection is made for one name: SNI, the certificate and the session are of that name, so it may
carry requests for no other (RFC 9110 4.3.3). Each name therefore has an `Endpoint` of its own, with
a pool of its own; what is known of the address (where it is, health, tally) is shared.

It never chooses an address and never dials. Invariants: at most `NAMES` names are kept; whom a name
is taken from closes what is idle, and is forgotten when its last request has ended. A Host that no
certificate can be for stands for the upstream's own name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from rawproxy.balancing.pool import Pool
from rawproxy.errors import ConfigError
from rawproxy.protocol.http.rewrite import split_host
from rawproxy.upstream.connection import UpstreamConnection
from rawproxy.upstream.endpoint import Endpoint
from rawproxy.upstream.ticket import Ticket

NAMES: Final = 64  # of one address: each may keep idle connections, and visitors make names up
LONGEST: Final = 253  # characters of a host name in text (RFC 1035 2.3.4)
_NAME: Final = re.compile(rb"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*").fullmatch


class EndpointsByName:
    """Those of `first`, the endpoint of the address; `make` gives a new one for a name."""

    def __init__(self, first: Endpoint, make: Callable[[str], Endpoint]) -> None:
        self.first = first
        self.make = make
        self.known: dict[str, Endpoint] = {}  # the one used last is the last
        self.leaving: list[Endpoint] = []

    def of(self, host: bytes) -> Endpoint:
        """The endpoint for requests with this Host."""
        text = split_host(host)[0].lower().removesuffix(b".")
        name = text.decode() if len(text) <= LONGEST and _NAME(text) else self.first.server_name
        found = self.known.pop(name, None)
        if found is None:
            try:
                found = self.make(name)
            except ConfigError:  # TLS itself takes no such name
                return self.of(self.first.server_name.encode())
            if len(self.known) >= NAMES:
                self._leave(next(iter(self.known)))
        self.known[name] = found
        self._follow(found)
        return found

    def everybody(self) -> list[Endpoint]:
        """Those on their way out too."""
        return [*self.known.values(), *self.leaving]

    def pools(self) -> list[Pool[UpstreamConnection, Ticket]]:
        """For the counts of the address."""
        return [one.pool for one in self.everybody()]

    def tick(self) -> None:
        """About once a second."""
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
