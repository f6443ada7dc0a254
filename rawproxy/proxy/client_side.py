"""The client's side, as the exchange sees it: HTTP/1 and HTTP/2 answer by the same calls.

    send_interim      a 1xx, any number of times
    send_response     the head, and as much of the body as is there
    send_payload      more of the body, unframed
    send_end          its end, with its trailers
    send_error        instead of all these: an error of our own
    reply             instead of all these: any other answer of our own
    switch            instead of all these: a tunnel
    abort             something has gone out and the rest will not come: cut, for all to see
    throttle          the request's body comes too fast, or may go on
    client_has        how much of the response the client has taken
    client_took       the same since it was last asked
    claim             this upstream connection is the client's own from now on (`connection_auth`)
    exchange_done     the last call, after whichever of these

`h1_connection` implements it for a connection, `h2_stream` for a stream. It decides nothing.
Invariant: at most one of `send_response`, `send_error`, `reply` and `switch` is called for an
exchange.
"""

from __future__ import annotations

from rawproxy.errors import ProxyError
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http.head import ResponseHead
from rawproxy.routing.route_targets import RouteTarget
from rawproxy.upstream.connection import UpstreamConnection


class ClientSide:
    """One request of a client, answered by these calls.

    A class for the same reason as `connection.ResponseHandler`.
    """

    __slots__ = ("bound", "context", "route_target")

    context: rewrite.ClientContext
    route_target: RouteTarget
    bound: UpstreamConnection | None  # the client's own; an exchange takes it, and gives it back

    def send_interim(self, head: ResponseHead) -> None: ...
    def send_response(
        self, head: ResponseHead, framing: int, payload: bytes, ended: bool
    ) -> None: ...
    def send_payload(self, payload: bytes) -> None: ...
    def send_end(self, trailers: bytes) -> None: ...
    def send_error(self, error: ProxyError) -> None: ...
    def reply(self, status: int, extra: bytes, page: bytes) -> None: ...
    def switch(self, head: ResponseHead, connection: UpstreamConnection, rest: bytes) -> None: ...
    def abort(self) -> None: ...
    def throttle(self, reason: int, full: bool) -> None: ...
    def claim(self, connection: UpstreamConnection) -> bool:
        """Keep the connection for the client's next request; False: close it."""
        return False

    def exchange_done(self) -> None: ...
    def client_has(self) -> int:
        """Bytes of the response that the client has taken."""
        raise NotImplementedError

    def client_took(self) -> int:
        """Bytes of the response that the client took since it was last asked."""
        raise NotImplementedError
