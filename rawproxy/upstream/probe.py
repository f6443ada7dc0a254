"""Probes: requests of our own that ask an endpoint, again and again, whether it is well.

Each probe has a connection of its own, which is dialled and judged as any other (TLS trust, PROXY
header). So a probe sees what a new request would see, and takes no connection from the pool.

This module never decides what a fault means: `health` does. Invariant: a probe ends within its
timeout, and so does its connection.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from rawproxy import __version__
from rawproxy.config.model import Active
from rawproxy.errors import DialError, ProxyError, UpstreamError
from rawproxy.protocol.http.head import ResponseHead
from rawproxy.upstream.endpoint import Endpoint
from rawproxy.upstream.response_handler import ResponseHandler

JITTER = 0.1  # part of the interval, more or less: many proxies must not ask at the same time
FIRST = 1.0  # seconds within which the first probe goes out


async def probe_for_ever(
    endpoint: Endpoint, active: Active, report: Callable[[str | None], None]
) -> None:
    """Probe until the endpoint is retired, or is to be probed in another way.

    `report` gets what is wrong, or None.

    The caller has set `endpoint.probing`.
    """
    try:
        await asyncio.sleep(min(active.interval, FIRST) * random.random())  # noqa: S311, no secret
        while endpoint.health.active is active and not endpoint.draining:
            fault = await probe(endpoint, active)
            if endpoint.health.active is not active:
                break
            report(fault)
            spread = 1 + JITTER * (2 * random.random() - 1)  # noqa: S311, no secret
            await asyncio.sleep(active.interval * spread)
    finally:
        if endpoint.health.active is active:
            endpoint.probing = False


async def probe(endpoint: Endpoint, active: Active) -> str | None:
    """Ask once. Returns what is wrong, or None."""
    try:
        async with asyncio.timeout(active.timeout):
            return await _ask(endpoint, active)
    except TimeoutError:
        return f"no answer within {active.timeout:g} s"
    except DialError as error:
        return error.detail


async def _ask(endpoint: Endpoint, active: Active) -> str | None:
    connection = await endpoint.connect()
    asking = _Asking(active.method)
    connection.handler = asking
    host = active.host.encode() if active.host else endpoint.authority
    try:
        connection.transport.write(
            b"%b %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: rawproxy/%b (health)\r\n"
            b"Accept: */*\r\nConnection: close\r\n\r\n"
            % (asking.method, active.path.encode(), host, __version__.encode())
        )
        status = await asking.answer
    except UpstreamError as error:
        return error.detail
    finally:
        connection.handler = None
        connection.transport.abort()
    if any(low <= status <= high for low, high in active.status):
        return None
    return f"{active.method} {active.path} was answered {status}"


class _Asking(ResponseHandler):
    """Holds the connection of one probe. Only the status matters."""

    def __init__(self, method: str) -> None:
        self.method = method.encode()
        self.answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def on_interim(self, head: ResponseHead) -> None:
        """The final response is still to come."""

    def on_switch(self, head: ResponseHead, rest: bytes) -> None:
        self._end(head.status)

    def on_response(self, head: ResponseHead, framing: int, payload: bytes, ended: bool) -> None:
        self._end(head.status)

    def on_payload(self, payload: bytes, ended: bool, trailers: bytes) -> None:
        """Nobody reads the body."""

    def on_lost(self, error: ProxyError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def on_upstream_writable(self, writable: bool) -> None:
        """The request is one small head, so nothing waits for this."""

    def _end(self, status: int) -> None:
        if not self.answer.done():
            self.answer.set_result(status)
