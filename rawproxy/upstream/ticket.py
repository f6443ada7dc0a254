"""Who waits for a connection, and how it is told that its turn has come or that it has to go.

    on_connection   another request has given one back: it is this ticket's
    on_room         the pool has counted one more, for this ticket to dial
    on_open         upstreams take connections again (`waiting_room`)
    on_crowd        there is no place to wait in
    on_cut          others wait for the connection that it has

Pools, endpoints and waiting rooms call these straight on the ticket whose turn it is. A ticket
waits in one place at a time. It never decides whose turn it is: `balancing` does.
"""

from __future__ import annotations

from abc import abstractmethod

from rawproxy.upstream.connection import UpstreamConnection
from rawproxy.upstream.response_handler import ResponseHandler


class Ticket(ResponseHandler):
    """A request that waits; the connection that it gets tells it of its response."""

    __slots__ = ()

    @abstractmethod
    def on_connection(self, connection: UpstreamConnection) -> None:
        """A connection that another request has given back is this one's."""

    @abstractmethod
    def on_room(self) -> None:
        """The pool has counted one more connection for this request: dial it."""

    @abstractmethod
    def on_open(self) -> None:
        """An upstream of the group takes connections again."""

    @abstractmethod
    def on_crowd(self) -> None:
        """The queue is full, and this is the ticket that has to go."""

    @abstractmethod
    def on_cut(self) -> None:
        """Others wait for a connection, and this one's waits for its client."""
