"""What an upstream connection tells of its response, to the exchange or probe that holds it.

    on_interim(head)            a 1xx other than 101
    on_switch(head, rest)       a 101 and what came behind it
    on_response(head, framing, payload, ended)
    on_payload(payload, ended, trailers)
    on_lost(error)              the connection ended first

It decides nothing. Invariant: `on_response` comes once, before any payload, and nothing comes
behind what `ended`, or behind `on_lost`.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod

from rawproxy.errors import ProxyError
from rawproxy.protocol.http.head import ResponseHead


class ResponseHandler(metaclass=ABCMeta):
    """The exchange, as its upstream connection sees it.

    A class, not a `Protocol`: compiled code calls the methods of those by name.
    """

    __slots__ = ("method",)

    method: bytes

    @abstractmethod
    def on_interim(self, head: ResponseHead) -> None:
        """A 1xx other than 101."""

    @abstractmethod
    def on_switch(self, head: ResponseHead, rest: bytes) -> None:
        """A 101, and what came behind it."""

    @abstractmethod
    def on_response(self, head: ResponseHead, framing: int, payload: bytes, ended: bool) -> None:
        """The head of the final response, and as much of its body as came with it."""

    @abstractmethod
    def on_payload(self, payload: bytes, ended: bool, trailers: bytes) -> None:
        """More of its body, unframed."""

    @abstractmethod
    def on_lost(self, error: ProxyError) -> None:
        """The connection ended before the response did."""

    @abstractmethod
    def on_upstream_writable(self, writable: bool) -> None:
        """The upstream does not take the request as fast as it comes, or does so again."""
