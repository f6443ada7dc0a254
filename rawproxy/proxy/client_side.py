"""The client's side, as the exchange sees it. HTTP/1 and HTTP/2 answer by the same calls.

    send_interim      a 1xx, any number of times
    send_response     the head, and as much of the body as is there
    send_uncut        instead of it, where `takes_uncut`: the body within what was read
    send_payload      more of the body, without its framing
    send_end          its end, with its trailers
    send_chunks       instead of these three, where `passes_chunks`: whole chunks as they came
    send_view         instead of `send_payload`, where `takes_views`: bytes that do not stay there
    relayed           instead of `send_payload`, where there is a `relay_sink`: the kernel did it
    send_error        instead of all these: an error of our own
    reply             instead of all these: any other answer of our own
    switch            instead of all these: a tunnel
    abort             something has gone out and the rest will not come: cut, for all to see
    throttle          the request's body comes too fast, or may go on
    client_has        how much of the response the client has taken
    client_took       the same since it was last asked
    claim             this upstream connection is the client's own from now on (`connection_auth`)
    error_place       where an error leads instead of to a page of ours; `show_place` leads there
    exchange_done     the last call, after whichever of these

`h1_connection` implements it for a connection, `h2_stream` for a stream. This module decides
nothing. Invariant: at most one head is sent for an exchange, by `send_response`, `send_chunks`,
`send_error`, `reply` or `switch`.
"""

from __future__ import annotations

import asyncio
from abc import ABCMeta, abstractmethod

from rawproxy.errors import ProxyError
from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http.head import ResponseHead
from rawproxy.proxy.compiler import mypyc_attr
from rawproxy.routing.error_places import Place
from rawproxy.routing.route_targets import RouteTarget
from rawproxy.telemetry.facts import Facts
from rawproxy.upstream.connection import UpstreamConnection


# So that a test's double can be one in the compiled build too. Calls are by the table of methods
# all the same, as there are two kinds: only a class that is not compiled has slower ones.
@mypyc_attr(allow_interpreted_subclasses=True)
class ClientSide(metaclass=ABCMeta):
    """One request of a client, answered by these calls.

    A class for the same reason as `response_handler.ResponseHandler`.
    """

    __slots__ = ("bound", "context", "facts", "route_target")

    context: rewrite.ClientContext
    route_target: RouteTarget
    bound: UpstreamConnection | None  # the client's own; an exchange takes it, and gives it back
    # Of the request under way: its exchange's, or those of an answer that needs none.
    facts: Facts | None

    @abstractmethod
    def send_interim(self, head: ResponseHead) -> None:
        """A 1xx."""

    @abstractmethod
    def send_response(self, head: ResponseHead, framing: int, payload: bytes, ended: bool) -> None:
        """The head of the final response, and the part of its body that is there."""

    @abstractmethod
    def send_payload(self, payload: bytes) -> None:
        """More of the response's body, without its framing."""

    @abstractmethod
    def send_end(self, trailers: bytes) -> None:
        """The end of the response's body."""

    def takes_uncut(self) -> bool:
        """Whether `send_uncut` may be called, and saves something."""
        return False

    def send_uncut(
        self, head: ResponseHead, framing: int, data: bytes, start: int, ended: bool
    ) -> None:
        """The same as `send_response`: the body is in `data` from `start` on.

        If it `ended`, it has `framing` bytes there, else all that there are.
        """
        raise TypeError(f"{type(self).__name__} takes no uncut bodies")

    def passes_chunks(self) -> bool:
        """Whether `send_chunks` may be called."""
        return False

    def send_chunks(self, head: ResponseHead | None, chunks: bytes, inside: int) -> None:
        """Whole chunks of the response's body with `inside` bytes in them, as they came.

        The first of them come with the head; the body ends with the last chunk.
        """
        raise TypeError(f"{type(self).__name__} passes no chunks on")

    def takes_views(self) -> bool:
        """Whether `send_view` may be called, and saves something."""
        return False

    def send_view(self, view: memoryview) -> None:
        """More of the response's body, of a known length, in a place that is soon used again."""
        raise TypeError(f"{type(self).__name__} takes no views")

    def relay_sink(self) -> asyncio.Transport | None:
        """Where the kernel may move the rest of the response's body to; None: nowhere."""
        return None

    def relayed(self, size: int) -> None:
        """The kernel has moved `size` bytes more there."""
        raise TypeError(f"{type(self).__name__} is no part of a relay")

    @abstractmethod
    def send_error(self, error: ProxyError) -> None:
        """An error of our own, instead of a response."""

    @abstractmethod
    def reply(self, status: int, extra: bytes, page: bytes) -> None:
        """Any other answer of our own. `extra` has lines of its head."""

    @abstractmethod
    def switch(self, head: ResponseHead, connection: UpstreamConnection, rest: bytes) -> None:
        """A tunnel, instead of a response. `rest` came behind the 101."""

    @abstractmethod
    def abort(self) -> None:
        """Cut what has begun, so that the client sees it."""

    @abstractmethod
    def throttle(self, reason: int, full: bool) -> None:
        """The request's body comes too fast, or may go on."""

    @abstractmethod
    def exchange_done(self) -> None:
        """The exchange has ended."""

    @abstractmethod
    def client_has(self) -> int:
        """Bytes of the response that the client has taken."""

    @abstractmethod
    def client_took(self) -> int:
        """Bytes of the response that the client took since it was last asked."""

    def error_place(self, status: int, whole: bool) -> Place | None:
        """Where an error leads, if not to a page of ours. `whole`: the request's body has ended."""
        return None

    def show_place(self, place: Place, error: ProxyError) -> bool:
        """Lead the request there. True if another exchange goes on with it, and this one is over.

        The error's lines are fields for the client, beside those of the place.
        """
        raise TypeError(f"{type(self).__name__} leads nowhere")

    def claim(self, connection: UpstreamConnection) -> bool:
        """Keep the connection for the client's next request; False: close it."""
        return False
