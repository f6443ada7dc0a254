"""Who may be a client now: connections are counted in total, and for each client.

A connection of HTTP/2 may carry a hundred requests. So the requests under way are counted for each
client too, and have the same bound.

This module never touches a socket. Invariants: every slot that was given is given back exactly
once, however often `leave` is called. A client without a connection is not remembered.
"""

from __future__ import annotations

from rawproxy.config.model import Address
from rawproxy.protocol.http.forwarding import one_client
from rawproxy.protocol.proxy_header import AnnouncedAddresses
from rawproxy.routing.match import Sites
from rawproxy.routing.route_targets import ClientCertPolicy, RouteTarget


class Admission:
    """The counters of one worker. `total` and `per_client` are connections; 0: no limit."""

    __slots__ = (
        "by_client", "open", "per_client", "refused", "refused_streams", "streams", "total",
    )  # fmt: skip

    def __init__(self, total: int, per_client: int) -> None:
        self.total = total
        self.per_client = per_client
        self.open = 0
        self.by_client: dict[bytes, int] = {}  # connections
        self.streams: dict[bytes, int] = {}  # requests under way over HTTP/2
        self.refused = 0  # connections, since somebody last looked
        self.refused_streams = 0

    def enter(self) -> ConnectionSlot | None:
        """A slot for one more connection; None if there are too many."""
        if self.total and self.open >= self.total:
            self.refused += 1
            return None
        self.open += 1
        return ConnectionSlot(self)


class Seat:
    """The place of one client connection among those that are open: no more than its count."""

    __slots__ = ("_admission", "client", "counted")

    def __init__(self, admission: Admission | None) -> None:
        self._admission = admission
        self.counted = False  # for its client too
        self.client = b""  # as `one_client` has it, once it is counted

    def leave(self) -> None:
        """The connection has gone."""
        admission, self._admission = self._admission, None
        if admission is None:
            return
        admission.open -= 1
        if self.counted:
            admission.by_client[self.client] -= 1
            if not admission.by_client[self.client]:
                del admission.by_client[self.client]


class ConnectionSlot(Seat):
    """One client connection: what it counts, and who is at its other end."""

    __slots__ = (
        "at",
        "client_cert_policy",
        "epoch",
        "identity",
        "peer",
        "port",
        "route",
        "server_port",
        "sites",
        "tls",
        "unknown",
        "unproven",
    )  # fmt: skip

    def __init__(self, admission: Admission) -> None:
        Seat.__init__(self, admission)
        self.peer: str | None = None  # None: a unix socket
        self.port = 0  # of the client
        self.server_port = 0  # of the listener
        self.route: AnnouncedAddresses | None = None
        self.unknown = False  # `peer` speaks for somebody, and did not say for whom
        # So many times it has to take what it is waited for with, before the kernel takes as much
        # ahead of it as of others (`net.backpressure`).
        self.unproven = 0
        self.tls = ""  # its version, once the handshake is done
        self.sites: Sites[RouteTarget] | None = None  # what its listener serves; None: one for all
        self.at: Address | None = None  # its listener's
        self.epoch = 0  # of the configuration by which `sites` was chosen
        self.client_cert_policy: ClientCertPolicy | None = (
            None  # whose client certificates it was asked for
        )
        self.identity = b""  # lines that say who the client is, by its certificate

    def follow(self, epoch: int, sites: dict[Address | None, Sites[RouteTarget]]) -> None:
        """Another configuration counts: its sites serve the next request."""
        self.epoch = epoch
        self.sites = sites[self.at]

    def claim(self, exempt: bool) -> bool:
        """Count the connection for the client `peer` too. False if that has too many already."""
        admission, peer = self._admission, self.peer
        if self.counted or admission is None or peer is None:
            return True
        if exempt or not admission.per_client:
            return True
        client = self.client = one_client(peer.encode())
        here = admission.by_client.get(client, 0)
        if here >= admission.per_client:
            admission.refused += 1
            return False
        admission.by_client[client] = here + 1
        self.counted = True
        return True

    def most_streams(self, most: int) -> int:
        """How many requests the connection may carry at once; `most` is the bound for all."""
        admission = self._admission
        return min(most, admission.per_client) if self.counted and admission is not None else most

    def begin(self) -> bool:
        """One more request over HTTP/2. False if its client has as many as it may."""
        admission = self._admission
        if not self.counted or admission is None:
            return True
        under_way = admission.streams.get(self.client, 0)
        if under_way >= admission.per_client:
            admission.refused_streams += 1
            return False
        admission.streams[self.client] = under_way + 1
        return True

    def finish(self, count: int) -> None:
        """So many requests are over that were begun. Called before `leave`."""
        admission = self._admission
        if not self.counted or admission is None or not count:
            return
        left = admission.streams[self.client] - count
        if left:
            admission.streams[self.client] = left
        else:
            del admission.streams[self.client]

    def handed_over(self) -> Seat:
        """The count alone, which a tunnel keeps and gives back. The slot has none any more."""
        seat = Seat(self._admission)
        seat.counted, seat.client = self.counted, self.client
        self._admission = None
        return seat
