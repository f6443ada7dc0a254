"""How an upstream connection tells of a response. An exchange or a probe listens.

    on_interim(head)            a 1xx other than 101
    on_switch(head, rest)       a 101 and what came behind it
    on_response(head, framing, payload, ended)
    on_uncut(head, framing, data, start, ended)     instead of it, where `takes_uncut`
    on_payload(payload, ended, trailers)
    on_chunks(head, chunks, inside, ended)   instead of either, where `takes_chunks`
    on_view(view)               instead of `on_payload`, where `takes_views`
    on_relayed(size)            instead of `on_payload`, where there is a `relay_sink`
    on_lost(error)              the connection ended first

This module decides nothing. Invariant: the head comes once, before any payload. Nothing comes after
a call with `ended`, or after `on_lost`.
"""

from __future__ import annotations

import asyncio
from abc import ABCMeta, abstractmethod

from rawproxy.errors import ProxyError
from rawproxy.protocol.http.head import ResponseHead


class ResponseHandler(metaclass=ABCMeta):
    """The exchange, as its upstream connection sees it.

    It is a class, not a `Protocol`: compiled code calls the methods of a `Protocol` by name.
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
        """The head of the final response, and the part of its body that came with it."""

    @abstractmethod
    def on_payload(self, payload: bytes, ended: bool, trailers: bytes) -> None:
        """More of the body, without its framing."""

    def takes_uncut(self) -> bool:
        """Whether `on_uncut` may be called."""
        return False

    def on_uncut(
        self, head: ResponseHead, framing: int, data: bytes, start: int, ended: bool
    ) -> None:
        """The same as `on_response`, but the body, which begins at `start`, was not cut off.

        If it `ended`, there may be more behind it.
        """
        raise TypeError(f"{type(self).__name__} takes no uncut bodies")

    def takes_chunks(self) -> bool:
        """Whether `on_chunks` may be called."""
        return False

    def on_chunks(self, head: ResponseHead | None, chunks: bytes, inside: int, ended: bool) -> None:
        """Whole chunks of its body, as they came; the last one is among them if it `ended`.

        `head` is that of the response, with the first of them. `inside`: bytes of payload.
        """
        raise TypeError(f"{type(self).__name__} takes no chunks")

    def takes_views(self) -> bool:
        """Whether `on_view` may be called."""
        return False

    def on_view(self, view: memoryview) -> None:
        """More of its body, and not the end of it, in a place that is soon used again."""
        raise TypeError(f"{type(self).__name__} takes no views")

    def relay_sink(self) -> asyncio.Transport | None:
        """Where the kernel may move the rest of the body to by itself; None: nowhere."""
        return None

    def on_relayed(self, size: int) -> None:
        """It has moved `size` bytes more of the body, and not to its end."""
        raise TypeError(f"{type(self).__name__} is no part of a relay")

    @abstractmethod
    def on_lost(self, error: ProxyError) -> None:
        """The connection ended before the response did."""

    @abstractmethod
    def on_upstream_writable(self, writable: bool) -> None:
        """The upstream takes no more of the request for now, or takes more again (`writable`)."""
