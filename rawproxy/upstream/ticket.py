"""A request that waits for a connection, and the calls by which it hears of its turn.

    on_connection   another request has given a connection back: this ticket has it now
    on_room         the pool has counted one more connection: this ticket has to dial it
    on_open         upstreams take connections again (`waiting_room`)
    on_crowd        there is no place left to wait in: this ticket has to go
    on_cut          others wait for a connection: this ticket has to give its own back

Pools, endpoints and waiting rooms make these calls directly on the ticket. This module never
decides whose turn it is: `balancing` does. Invariant: a ticket waits in one place at a time.
"""

from __future__ import annotations

from abc import abstractmethod

from rawproxy.upstream.connection import UpstreamConnection
from rawproxy.upstream.response_handler import ResponseHandler


class Ticket(ResponseHandler):
    """A request that waits. The connection that it gets tells it of the response."""

    __slots__ = ()

    @abstractmethod
    def on_connection(self, connection: UpstreamConnection) -> None:
        """Another request has given back a connection: this ticket has it now."""

    @abstractmethod
    def on_room(self) -> None:
        """The pool has counted one more connection for this request: dial it."""

    @abstractmethod
    def on_open(self) -> None:
        """An upstream of the group takes connections again."""

    @abstractmethod
    def on_crowd(self) -> None:
        """The queue is full, and this ticket has to go."""

    @abstractmethod
    def on_cut(self) -> None:
        """Others wait for a connection, while this ticket's connection waits for its client."""
