"""The body of a response on its way to the client, behind what its head brought along.

    the upstream's connection gives     what the client's side gets
    ──────────────────────────────────  ──────────────────────────────────────────────────────
    bytes, unframed (`on_payload`)      the same, to be framed anew
    views of a place (`on_view`)        the same, where `takes_views`
    nothing, as the kernel moves it     how much that was (`on_relayed`)

It never looks at a head, and never decides what a response means. Invariants: while the client does
not take what there is, the upstream is not read. Each piece of the body is a new deadline for the
next one.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod

from rawproxy.protocol.http import rewrite
from rawproxy.protocol.http.head import ResponseHead
from rawproxy.proxy.checkout import DONE
from rawproxy.proxy.request_relay import RequestRelay


class ResponseRelay(RequestRelay):
    """Base of the exchange: its response's body."""

    __slots__ = ()

    def on_interim(self, head: ResponseHead) -> None:
        """A 1xx on its way to the final response."""
        self.deadline = self.service.deadline(self.deadlines.response_head)
        self.client.send_interim(head)

    def takes_uncut(self) -> bool:
        """Whether a body need not be cut out of what was read."""
        return self.client.takes_uncut()

    def takes_chunks(self) -> bool:
        """Whether chunks may go on as they came."""
        return self.client.passes_chunks()

    def on_payload(self, payload: bytes, ended: bool, trailers: bytes) -> None:
        """More of the response's body, unframed."""
        if ended:
            self._release()
            self.state = DONE
            if payload:
                self.client.send_payload(payload)
            if trailers:
                trailers = rewrite.response_trailers(trailers, self.client.context)
            self.client.send_end(trailers)
            self._over()
            return
        self.deadline = self.service.deadline(self.deadlines.response_body)
        if payload:
            self.client.send_payload(payload)

    def takes_views(self) -> bool:
        """Whether bytes of the body may be in a place that is soon used again."""
        return self.client.takes_views()

    def on_view(self, view: memoryview) -> None:
        """More of the response's body, and not its end."""
        self.deadline = self.service.deadline(self.deadlines.response_body)
        self.client.send_view(view)

    def relay_sink(self) -> asyncio.Transport | None:
        """Where the kernel may move the rest of the body to by itself; None: nowhere."""
        if self.blocked or self.endpoint.crowded():
            return None
        return self.client.relay_sink()

    def on_relayed(self, size: int) -> None:
        """It has moved `size` bytes more of the body, and not to its end."""
        self.deadline = self.service.deadline(self.deadlines.response_body)
        self.client.relayed(size)

    def on_client_writable(self, writable: bool) -> None:
        """Backpressure from the client on the response's body."""
        self.deadline = self.service.deadline(self.deadlines.response_body)
        self.blocked = 0.0 if writable else self.service.deadline(0.0)
        if self.connection is not None:
            self.connection.throttle(not writable)

    @abstractmethod
    def _over(self) -> None:
        """The last word to the client's side."""
